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
            if let Some(place) = document.pointer_mut(pointer) {
                *place = value;
                return;
            }
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
            json!("ftp://auth"),
            "targets[0].url is ftp://auth: write http://host",
        ),
        (
            "/targets/0/url",
            json!("https://auth/x"),
            "targets[0].url is https://auth/x",
        ),
        (
            "/targets/0/tls",
            json!({}),
            "targets[0].url is http://auth:3000: write https:// there, or leave tls out",
        ),
        (
            "/targets/0",
            json!({"name": "auth", "url": "https://auth", "protocol": "H2C"}),
            "targets[0].protocol is H2C: write HTTP: H2C is HTTP/2 without TLS",
        ),
        (
            "/targets/0",
            json!({"name": "auth", "url": "https://auth", "tls": {"caBundle": "ca.crt"}}),
            "targets[0].tls.caBundle is ca.crt: write the whole path of a file",
        ),
        (
            "/targets/0",
            json!({"name": "auth", "url": "https://auth", "tls": {"caBundle": "/authorities/"}}),
            "targets[0].tls.caBundle is /authorities/: write the whole path of a file",
        ),
        (
            "/targets/0",
            json!({"name": "auth", "url": "https://auth", "tls": {"caBundle": 1}}),
            "targets[0].tls.caBundle: invalid type",
        ),
        (
            "/targets/0",
            json!({"name": "auth", "url": "https://auth", "tls": {"serverName": "*.auth"}}),
            "targets[0].tls.serverName is *.auth: write a host name or an IP address",
        ),
        (
            "/targets/0",
            json!({"name": "auth", "url": "https://auth", "tls": {"serverName": ""}}),
            "targets[0].tls.serverName is : write a host name",
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
fn a_target_may_be_one_of_https() {
    for target in [
        json!({"name": "auth", "url": "https://auth"}),
        json!({"name": "auth", "url": "https://auth:8443", "tls": {}}),
        json!({"name": "auth", "url": "https://10.0.0.1", "tls": {"caBundle": "/ca/bundle.pem", "serverName": "auth.shop"}}),
        json!({"name": "auth", "url": "https://auth", "protocol": "HTTP", "tls": {"serverName": "10.0.0.1"}}),
    ] {
        assert_eq!(
            refusal(|document| document["targets"][0] = target.clone()),
            "",
            "{target}"
        );
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

/// What people write who know other proxies, who mistype, or who let a program write.
#[test]
fn what_nobody_would_think_of_is_refused_too() {
    let at = |pointer: &'static str, value: Value| {
        refusal(|document| {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[field] = value;
        })
    };
    for (pointer, value, message) in [
        ("/version", json!("1"), "version is \"1\""),
        ("/version", json!(null), "version is missing"),
        ("/targets", json!(null), "targets: invalid type: null"),
        ("/targets", json!({"auth": "http://auth"}), "targets: invalid type: map"),
        ("/routes", json!("*"), "routes: invalid type: string"),
        (
            "/targets/0/url",
            json!("http://:3000"),
            "targets[0].url is http://:3000",
        ),
        (
            "/targets/0/url",
            json!("http://auth:"),
            "targets[0].url is http://auth:",
        ),
        (
            "/targets/0/url",
            json!("http://auth:0"),
            "targets[0].url is http://auth:0",
        ),
        (
            "/targets/0/url",
            json!("http://auth:99999"),
            "targets[0].url is http://auth:99999",
        ),
        (
            "/targets/0/url",
            json!("http://auth:http"),
            "targets[0].url is http://auth:http",
        ),
        ("/targets/0/url", json!("http://[::1"), "targets[0].url is http://[::1"),
        (
            "/targets/0/url",
            json!("http://[auth]:1"),
            "targets[0].url is http://[auth]:1",
        ),
        (
            "/targets/0/url",
            json!("http://auth#a"),
            "targets[0].url is http://auth#a",
        ),
        (
            "/targets/0/url",
            json!("http://auth?a"),
            "targets[0].url is http://auth?a",
        ),
        (
            "/targets/0/url",
            json!("http://$(AUTH)"),
            "targets[0].url is http://$(AUTH)",
        ),
        (
            "/targets/0/url",
            json!(" http://auth"),
            "targets[0].url is  http://auth",
        ),
        ("/targets/0/url", json!(3000), "targets[0].url: invalid type: integer"),
        (
            "/targets/0/protocol",
            json!("HTTPS"),
            "targets[0].protocol: unknown variant `HTTPS`",
        ),
        ("/targets/0/name", json!("auth-"), "targets[0].name is auth-"),
        ("/targets/0/name", json!("a".repeat(64)), "use 1 to 63 of a-z"),
        ("/routes/0/name", json!("-a"), "routes[0].name is -a"),
        (
            "/routes/0/match",
            json!({}),
            "routes[0].match: missing field `pathPrefix`",
        ),
        (
            "/routes/0/match",
            json!("/auth"),
            "routes[0].match: invalid type: string",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("/a b"),
            "routes[0].match.pathPrefix is /a b",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("/a#b"),
            "routes[0].match.pathPrefix is /a#b",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("/\u{e4}"),
            "routes[0].match.pathPrefix is /\u{e4}",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("//"),
            "routes[0].match.pathPrefix is //",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("/a/*/"),
            "routes[0].match.pathPrefix is /a/*/",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("/%61"),
            "routes[0].match.pathPrefix is /%61",
        ),
        (
            "/routes/0/match/pathPrefix",
            json!("/a;b"),
            "routes[0].match.pathPrefix is /a;b",
        ),
        (
            "/routes/0/match/host",
            json!("*.example"),
            "routes[0].match.host is *.example",
        ),
        (
            "/routes/0/match/host",
            json!("http://a"),
            "routes[0].match.host is http://a",
        ),
        ("/routes/0/match/host", json!("a b"), "routes[0].match.host is a b"),
        ("/routes/0/match/methods", json!([""]), "routes[0].match.methods[0] is "),
        (
            "/routes/0/match/methods",
            json!(["*"]),
            "routes[0].match.methods[0] is *",
        ),
        (
            "/routes/0/match/methods",
            json!(["GET POST"]),
            "routes[0].match.methods[0] is GET POST",
        ),
        (
            "/routes/0/match/headers",
            json!([{"name": "", "value": "1"}]),
            "routes[0].match.headers[0].name is : write the name",
        ),
        (
            "/routes/0/match/headers",
            json!([{"name": "x-a", "value": "1 "}]),
            "routes[0].match.headers[0].value is 1 : write a value",
        ),
        (
            "/routes/0/match/headers",
            json!([{"name": "valerix-client", "value": "order"}]),
            "routes[0].match.headers[0].name is valerix-client: write another header",
        ),
        (
            "/routes/0/match/headers",
            json!({"x-a": "1"}),
            "routes[0].match.headers: invalid type: map",
        ),
        (
            "/routes/0/rewritePrefix",
            json!(""),
            "routes[0].rewritePrefix is : write / alone",
        ),
        (
            "/routes/0/rewritePrefix",
            json!("/a/.."),
            "routes[0].rewritePrefix is /a/..",
        ),
        (
            "/routes/0/rewritePrefix",
            json!("/a?b=c"),
            "routes[0].rewritePrefix is /a?b=c",
        ),
        (
            "/routes/0/rewritePrefix",
            json!("http://b/"),
            "routes[0].rewritePrefix is http://b/",
        ),
        (
            "/routes/0/target",
            json!(["auth"]),
            "routes[0].target: invalid type: sequence",
        ),
        (
            "/routes/0/target",
            json!("Auth"),
            "routes[0].target is Auth: name one of targets",
        ),
        (
            "/routes/0/auth",
            json!("Required"),
            "routes[0].auth: invalid type: string",
        ),
        (
            "/routes/0/auth",
            json!({"type": "required"}),
            "routes[0].auth.type: unknown variant `required`",
        ),
        (
            "/routes/0/auth",
            json!({"type": "None", "roles": ["admin"]}),
            "routes[0].auth.type is None: write Required",
        ),
        (
            "/routes/0/auth",
            json!({"type": "Required", "roles": [""]}),
            "routes[0].auth.roles[0] is : write admin",
        ),
        ("/routes/0/cors", json!(true), "routes[0].cors: invalid type: boolean"),
        (
            "/routes/0/maxBodyBytes",
            json!(1.5),
            "routes[0].maxBodyBytes: invalid type: floating point",
        ),
        (
            "/routes/0/maxBodyBytes",
            json!(null),
            "routes[0].maxBodyBytes: invalid type: null",
        ),
        (
            "/routes/0/idleTimeout",
            json!(30),
            "routes[0].idleTimeout: invalid type: integer",
        ),
        (
            "/routes/0/idleTimeout",
            json!("1h1ms"),
            "routes[0].idleTimeout is 1h1ms: use 1s to 1h",
        ),
        (
            "/routes/0/idleTimeout",
            json!("-1s"),
            "routes[0].idleTimeout: invalid duration \"-1s\"",
        ),
        (
            "/dashboard/parts/0/path",
            json!("/a#b"),
            "dashboard.parts[0].path is /a#b",
        ),
        (
            "/dashboard/parts/0/path",
            json!("http://b/"),
            "dashboard.parts[0].path is http://b/",
        ),
        (
            "/dashboard/parts/0/path",
            json!(""),
            "dashboard.parts[0].path is : write a path",
        ),
    ] {
        let said = at(pointer, value.clone());
        assert!(said.contains(message), "{pointer} {value}: {said}");
    }
    for (pointer, value) in [
        ("/targets/0/url", json!("http://auth.shop.svc.cluster.local:3000/")),
        ("/targets/0/url", json!("http://[::1]:3000")),
        ("/targets/0/url", json!("http://127.0.0.1")),
        ("/routes/0/match/host", json!("[::1]")),
        ("/routes/0/match/host", json!("Shop.Example")),
        ("/routes/0/match/headers", json!([{"name": "x-a", "value": ""}])),
        ("/dashboard/parts/0/path", json!("/api/orders?limit=5")),
    ] {
        assert_eq!(at(pointer, value.clone()), "", "{pointer} {value}");
    }
}
