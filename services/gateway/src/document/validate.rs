//! What a document of routes must not say. Pure.

use std::collections::{HashMap, HashSet};

use http::{HeaderName, HeaderValue, Method, Uri};
use valerix_policy::{Duration, Violation};

use super::{AuthType, Dashboard, Gateway, Match, Route, cors};
use crate::routes::OWN;

const MAX_TARGETS: usize = 64;
const MAX_ROUTES: usize = 10_000;
const MAX_PARTS: usize = 16;
/// Paths that every service answers itself.
const OF_EVERY_SERVICE: [&str; 4] = ["/health", "/ready", "/openapi.json", "/docs"];

pub(super) fn violations(gateway: &Gateway) -> Vec<Violation> {
    let mut found = Findings(Vec::new());
    found.at_most("targets", gateway.targets.len(), MAX_TARGETS);
    found.at_most("routes", gateway.routes.len(), MAX_ROUTES);
    let mut targets = HashSet::new();
    for (index, target) in gateway.targets.iter().enumerate() {
        let path = format!("targets[{index}]");
        found.name(&format!("{path}.name"), &target.name);
        let fresh = targets.insert(target.name.as_str());
        found.require(fresh, format!("{path}.name"), &target.name, "name each target once");
        let remedy = "write http://host[:port] without a path: the connection to a target is plain HTTP";
        found.require(is_address(&target.url), format!("{path}.url"), &target.url, remedy);
    }
    let (mut names, mut places) = (HashSet::new(), HashMap::<_, Vec<&Route>>::new());
    for (index, route) in gateway.routes.iter().enumerate() {
        let path = format!("routes[{index}]");
        let fresh = names.insert(route.name.as_str());
        found.require(fresh, format!("{path}.name"), &route.name, "name each route once");
        self::route(&mut found, &path, route, &targets);
        let host = route.matches.host.as_ref().map(|host| host.to_ascii_lowercase());
        let alike = places.entry((&route.matches.path_prefix, host)).or_default();
        let twin = alike.iter().find(|other| ambiguous(&route.matches, &other.matches));
        if let Some(twin) = twin {
            let remedy = format!(
                "a request can fit this and {} alike: let one of them name another host, method or header",
                twin.name
            );
            found.0.push(Violation::new(
                format!("{path}.match"),
                &route.matches.path_prefix,
                remedy,
            ));
        }
        alike.push(route);
    }
    dashboard(&mut found, &gateway.dashboard, &targets);
    found.0
}

fn route(found: &mut Findings, path: &str, route: &Route, targets: &HashSet<&str>) {
    found.name(&format!("{path}.name"), &route.name);
    let matches = &route.matches;
    let prefix = &matches.path_prefix;
    let remedy = "start it with / and do not end it with /, with nothing in it that could be read in two ways";
    found.require(is_prefix(prefix), format!("{path}.match.pathPrefix"), prefix, remedy);
    let remedy = "the gateway answers this path itself";
    let own = OWN.iter().chain(&OF_EVERY_SERVICE).any(|own| own == prefix);
    found.require(!own, format!("{path}.match.pathPrefix"), prefix, remedy);
    if let Some(host) = &matches.host {
        let good = host
            .parse::<http::uri::Authority>()
            .is_ok_and(|one| one.host() == host && one.port().is_none());
        found.require(
            good,
            format!("{path}.match.host"),
            host,
            "write a host name without a port",
        );
    }
    for (index, method) in matches.methods.iter().enumerate() {
        let remedy = "write a method in upper case, other than CONNECT and TRACE";
        found.require(
            is_method(method),
            format!("{path}.match.methods[{index}]"),
            method,
            remedy,
        );
    }
    for (index, header) in matches.headers.iter().enumerate() {
        let good = HeaderName::from_bytes(header.name.as_bytes()).is_ok_and(|name| name.as_str() == header.name);
        let remedy = "write the name of a header in lower case";
        found.require(
            good,
            format!("{path}.match.headers[{index}].name"),
            &header.name,
            remedy,
        );
        let good = HeaderValue::from_str(&header.value).is_ok();
        let remedy = "write a value that a header can have";
        found.require(
            good,
            format!("{path}.match.headers[{index}].value"),
            &header.value,
            remedy,
        );
    }
    if let Some(rewrite) = &route.rewrite_prefix {
        let remedy = "write / alone, or a path that starts with / and does not end with it";
        found.require(is_prefix(rewrite), format!("{path}.rewritePrefix"), rewrite, remedy);
    }
    found.target(&format!("{path}.target"), &route.target, targets);
    for (index, role) in route.auth.roles.iter().enumerate() {
        let remedy = "write admin: tokens tell of no other role";
        found.require(role == "admin", format!("{path}.auth.roles[{index}]"), role, remedy);
    }
    let good = route.auth.roles.is_empty() || route.auth.auth_type == AuthType::Required;
    let remedy = "write Required, as a role needs a token";
    found.require(good, format!("{path}.auth.type"), route.auth.auth_type, remedy);
    if let Some(cors) = &route.cors {
        cors::violations(found, &format!("{path}.cors"), cors);
    }
    let good = (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&route.idle_timeout);
    found.require(good, format!("{path}.idleTimeout"), route.idle_timeout, "use 1s to 1h");
}

fn dashboard(found: &mut Findings, dashboard: &Dashboard, targets: &HashSet<&str>) {
    let good = (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&dashboard.deadline);
    found.require(good, "dashboard.deadline", dashboard.deadline, "use 10ms to 60s");
    found.at_most("dashboard.parts", dashboard.parts.len(), MAX_PARTS);
    let mut names = HashSet::new();
    for (index, part) in dashboard.parts.iter().enumerate() {
        let path = format!("dashboard.parts[{index}]");
        found.name(&format!("{path}.name"), &part.name);
        let fresh = names.insert(part.name.as_str());
        found.require(fresh, format!("{path}.name"), &part.name, "name each part once");
        found.target(&format!("{path}.target"), &part.target, targets);
        let good = part.path.parse::<http::uri::PathAndQuery>();
        let good = good.is_ok_and(|path| valerix_proxy::check_path(path.path()).is_ok());
        let remedy = "write a path that starts with /, with a query or without";
        found.require(good, format!("{path}.path"), &part.path, remedy);
    }
}

/// Whether a request can fit both, which have one prefix and one host, although neither says more than the other.
fn ambiguous(one: &Match, other: &Match) -> bool {
    let shared_method = match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, true) => true,
        (false, false) => one.methods.iter().any(|method| other.methods.contains(method)),
        _ => false,
    };
    let contradict = one.headers.iter().any(|header| {
        other
            .headers
            .iter()
            .any(|twin| twin.name == header.name && twin.value != header.value)
    });
    shared_method && one.headers.len() == other.headers.len() && !contradict
}

fn is_prefix(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    plain && (text == "/" || !text.ends_with('/')) && valerix_proxy::check_path(text).is_ok()
}

pub(super) fn is_method(text: &str) -> bool {
    let good =
        Method::from_bytes(text.as_bytes()).is_ok_and(|method| method != Method::CONNECT && method != Method::TRACE);
    good && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|url| {
        let bare = url.path_and_query().is_none_or(|path| path.as_str() == "/");
        url.scheme_str() == Some("http") && url.authority().is_some_and(|host| !host.as_str().contains('@')) && bare
    })
}

pub(super) struct Findings(Vec<Violation>);

impl Findings {
    pub(super) fn require(&mut self, good: bool, path: impl Into<String>, value: impl std::fmt::Display, remedy: &str) {
        if !good {
            self.0.push(Violation::new(path, value, remedy));
        }
    }

    pub(super) fn at_most(&mut self, path: &str, found: usize, most: usize) {
        self.require(found <= most, path, found, &format!("list at most {most}"));
    }

    fn name(&mut self, path: &str, name: &str) {
        let good = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        self.require(good, path, name, "use 1 to 63 of a-z, 0-9 and -");
    }

    fn target(&mut self, path: &str, name: &str, targets: &HashSet<&str>) {
        self.require(targets.contains(name), path, name, "name one of targets");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is said to the routes of the shop after `change`.
    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut document = serde_json::to_value(Gateway::of_the_shop()).unwrap();
        change(&mut document);
        match Gateway::parse(document.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_path_value_and_remedy() {
        let at = |pointer: &'static str, value: Value| {
            refusal(|document| {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                document.pointer_mut(parent).unwrap()[field] = value;
            })
        };
        for (pointer, value, message) in [
            ("/version", json!(2), "version is 2"),
            (
                "/routes/0/target",
                json!("nobody"),
                "routes[0].target is nobody: name one of targets",
            ),
            (
                "/routes/0/name",
                json!("orders"),
                "routes[2].name is orders: name each route once",
            ),
            ("/routes/0/name", json!("A b"), "routes[0].name is A b: use 1 to 63"),
            (
                "/routes/0/match/pathPrefix",
                json!("auth"),
                "routes[0].match.pathPrefix is auth: start it with /",
            ),
            (
                "/routes/0/match/pathPrefix",
                json!("/auth/"),
                "routes[0].match.pathPrefix is /auth/",
            ),
            (
                "/routes/0/match/pathPrefix",
                json!("/a/../b"),
                "routes[0].match.pathPrefix is /a/../b",
            ),
            (
                "/routes/0/match/pathPrefix",
                json!("/health"),
                "the gateway answers this path itself",
            ),
            ("/routes/0/match/host", json!("a:80"), "routes[0].match.host is a:80"),
            (
                "/routes/0/match/methods",
                json!(["get"]),
                "routes[0].match.methods[0] is get",
            ),
            (
                "/routes/0/match/methods",
                json!(["CONNECT"]),
                "routes[0].match.methods[0] is CONNECT",
            ),
            (
                "/routes/0/match/headers",
                json!([{"name": "X-A", "value": "1"}]),
                "routes[0].match.headers[0].name is X-A",
            ),
            ("/routes/0/rewritePrefix", json!("x"), "routes[0].rewritePrefix is x"),
            (
                "/routes/2/auth/roles",
                json!(["admin"]),
                "routes[2].auth.type is Optional: write Required",
            ),
            (
                "/routes/2/auth",
                json!({"type": "Required", "roles": ["root"]}),
                "routes[2].auth.roles[0] is root",
            ),
            (
                "/routes/2/auth",
                json!({"type": "Some"}),
                "routes[2].auth.type: unknown variant",
            ),
            (
                "/routes/0/idleTimeout",
                json!("0s"),
                "routes[0].idleTimeout is 0s: use 1s to 1h",
            ),
            (
                "/targets/0/url",
                json!("https://auth"),
                "targets[0].url is https://auth: write http://host",
            ),
            ("/targets/0/url", json!("http://a@b"), "targets[0].url"),
            (
                "/targets/0/protocol",
                json!("h2c"),
                "targets[0].protocol: unknown variant `h2c`",
            ),
            ("/targets/0/url", json!("http://auth/x"), "targets[0].url"),
            (
                "/targets/0/name",
                json!("order"),
                "targets[1].name is order: name each target once",
            ),
            (
                "/dashboard/deadline",
                json!("1ms"),
                "dashboard.deadline is 1ms: use 10ms to 60s",
            ),
            ("/dashboard/parts/0/path", json!("x"), "dashboard.parts[0].path is x"),
            (
                "/dashboard/parts/0/path",
                json!("/a/../b"),
                "dashboard.parts[0].path is /a/../b",
            ),
            (
                "/dashboard/parts/0/name",
                json!("A"),
                "dashboard.parts[0].name is A: use 1 to 63",
            ),
            (
                "/dashboard/parts/0/name",
                json!("orders"),
                "dashboard.parts[1].name is orders: name each part once",
            ),
            (
                "/dashboard/parts/0/target",
                json!("nobody"),
                "dashboard.parts[0].target is nobody: name one of targets",
            ),
            (
                "/dashboard/deadline",
                json!("61s"),
                "dashboard.deadline is 1m1s: use 10ms to 60s",
            ),
            ("/dashboard/deadline", json!(5), "dashboard.deadline"),
            ("/routes/0/maxBodyBytes", json!(-1), "routes[0].maxBodyBytes"),
            ("/routes/0/maxBodyBytes", json!("1MB"), "routes[0].maxBodyBytes"),
            (
                "/routes/0/idleTimeout",
                json!("2h"),
                "routes[0].idleTimeout is 2h: use 1s to 1h",
            ),
            ("/routes/0/idleTimeout", json!("soon"), "routes[0].idleTimeout"),
            ("/routes/0/name", json!(""), "routes[0].name is : use 1 to 63"),
            (
                "/routes/0/match/host",
                json!(""),
                "routes[0].match.host is : write a host name",
            ),
            ("/routes/0/match/host", json!("a/b"), "routes[0].match.host is a/b"),
            (
                "/routes/0/match/methods",
                json!(["TRACE"]),
                "routes[0].match.methods[0] is TRACE",
            ),
            ("/routes/0/match/methods", json!("GET"), "routes[0].match.methods"),
            (
                "/routes/0/match/headers",
                json!([{"name": "x-a", "value": "a\nb"}]),
                "routes[0].match.headers[0].value",
            ),
            (
                "/routes/0/match/pathPrefix",
                json!("/a?b"),
                "routes[0].match.pathPrefix is /a?b",
            ),
            (
                "/routes/0/match/pathPrefix",
                json!(""),
                "routes[0].match.pathPrefix is : start it with /",
            ),
            (
                "/routes/0/rewritePrefix",
                json!("/a/"),
                "routes[0].rewritePrefix is /a/",
            ),
            ("/targets/0/name", json!("A"), "targets[0].name is A: use 1 to 63"),
            (
                "/targets/0/url",
                json!("auth:3000"),
                "targets[0].url is auth:3000: write http://host",
            ),
            ("/targets/0/url", json!(""), "targets[0].url"),
        ] {
            let said = at(pointer, value.clone());
            assert!(said.contains(message), "{pointer} {value}: {said}");
        }
    }

    #[test]
    fn what_browsers_could_not_understand_is_refused() {
        let cors = |cors: Value| refusal(|document| document["routes"][0]["cors"] = cors);
        for good in [
            json!({"origins": ["*"]}),
            json!({"origins": ["https://shop.example", "http://localhost:5173", "http://[::1]:8080"]}),
            json!({"origins": ["https://a"], "methods": ["GET"], "headers": [], "exposedHeaders": [], "credentials": true, "maxAge": "0s"}),
        ] {
            assert_eq!(cors(good.clone()), "", "{good}");
        }
        for (bad, message) in [
            (json!({}), "routes[0].cors: missing field `origins`"),
            (
                json!({"origins": []}),
                "routes[0].cors.origins is empty: name at least one origin",
            ),
            (
                json!({"origins": ["*", "https://a"]}),
                "cors.origins[0] is *: write * alone",
            ),
            (
                json!({"origins": ["*"], "credentials": true}),
                "cors.origins[0] is *: name the origins",
            ),
            (
                json!({"origins": ["https://a/"]}),
                "cors.origins[0] is https://a/: write scheme://host",
            ),
            (json!({"origins": ["https://A"]}), "cors.origins[0] is https://A"),
            (
                json!({"origins": ["https://a:443"]}),
                "cors.origins[0] is https://a:443",
            ),
            (json!({"origins": ["https://a:"]}), "cors.origins[0] is https://a:"),
            (json!({"origins": ["https://b@a"]}), "cors.origins[0] is https://b@a"),
            (json!({"origins": ["https://*.a"]}), "cors.origins[0] is https://*.a"),
            (json!({"origins": ["null"]}), "cors.origins[0] is null"),
            (json!({"origins": ["a"]}), "cors.origins[0] is a"),
            (json!({"origins": [""]}), "cors.origins[0] is "),
            (
                json!({"origins": vec!["https://a"; 17]}),
                "cors.origins is 17: list at most 16",
            ),
            (json!({"origins": ["*"], "methods": ["get"]}), "cors.methods[0] is get"),
            (json!({"origins": ["*"], "headers": ["*"]}), "cors.headers[0] is *"),
            (json!({"origins": ["*"], "headers": ["X-A"]}), "cors.headers[0] is X-A"),
            (
                json!({"origins": ["*"], "exposedHeaders": ["x a"]}),
                "cors.exposedHeaders[0] is x a",
            ),
            (
                json!({"origins": ["*"], "maxAge": "25h"}),
                "cors.maxAge is 25h: use 0s to 24h",
            ),
        ] {
            let said = cors(bad.clone());
            assert!(said.contains(message), "{bad}: {said}");
        }
    }

    #[test]
    fn lists_have_their_bounds() {
        let many = |pointer: &'static str, count: usize| {
            refusal(|document| {
                let list = document.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
                let one = list[0].clone();
                list.resize(count, one);
            })
        };
        assert!(many("/targets", 65).contains("targets is 65: list at most 64"));
        assert!(many("/dashboard/parts", 17).contains("dashboard.parts is 17: list at most 16"));
        let too_many = (0..10_001).map(|number| {
            json!({"name": format!("r{number}"), "match": {"pathPrefix": format!("/r{number}")}, "target": "auth"})
        });
        let said = refusal(|document| document["routes"] = too_many.collect());
        assert!(said.contains("routes is 10001: list at most 10000"), "{said}");
    }

    #[test]
    fn two_routes_that_a_request_fits_alike_are_refused() {
        let second = |matches: Value| {
            refusal(|document| {
                let mut route = document["routes"][2].clone();
                (route["name"], route["match"]) = (json!("twin"), matches);
                document["routes"].as_array_mut().unwrap().push(route);
            })
        };
        assert!(second(json!({"pathPrefix": "/api/orders"})).contains("a request can fit this and orders alike"));
        for different in [
            json!({"pathPrefix": "/api/orders/export"}),
            json!({"pathPrefix": "/api/orders", "host": "a"}),
            json!({"pathPrefix": "/api/orders", "methods": ["GET"]}),
            json!({"pathPrefix": "/api/orders", "headers": [{"name": "x-canary", "value": "1"}]}),
        ] {
            assert_eq!(second(different.clone()), "", "{different}");
        }
        let by_method = |one: Value, other: Value| {
            refusal(|document| {
                document["routes"][0]["match"] = one;
                document["routes"][1]["match"] = other;
            })
        };
        let (get, both) = (
            json!({"pathPrefix": "/a", "methods": ["GET"]}),
            json!({"pathPrefix": "/a", "methods": ["GET", "PUT"]}),
        );
        assert!(by_method(get.clone(), both).contains("alike"));
        assert_eq!(by_method(get, json!({"pathPrefix": "/a", "methods": ["PUT"]})), "");
    }
}
