//! What a document of routes must not say. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt::Arguments;
use std::net::Ipv6Addr;

use http::{HeaderName, HeaderValue, Uri};
use valerix_policy::{Duration, Violation};
use valerix_proxy::Tls;

use super::findings::{Findings, is_method};
use super::{AuthType, Dashboard, Gateway, Match, Protocol, Route, TargetAddress, cors, is_own};

const MAX_TARGETS: usize = 64;
const MAX_ROUTES: usize = 10_000;
const MAX_PARTS: usize = 16;
pub(super) fn violations(gateway: &Gateway) -> Vec<Violation> {
    let mut found = Findings(Vec::new());
    found.at_most("targets", gateway.targets.len(), MAX_TARGETS);
    found.at_most("routes", gateway.routes.len(), MAX_ROUTES);
    let mut targets = HashSet::new();
    for (index, target) in gateway.targets.iter().enumerate() {
        let path = format_args!("targets[{index}]");
        found.name(format_args!("{path}.name"), &target.name);
        let fresh = targets.insert(target.name.as_str());
        found.require(
            fresh,
            format_args!("{path}.name"),
            &target.name,
            "name each target once",
        );
        let remedy = "write http://host[:port] or https://host[:port], without a path";
        found.require(is_address(&target.url), format_args!("{path}.url"), &target.url, remedy);
        tls(&mut found, path, target);
    }
    let (mut names, mut places) = (HashSet::new(), HashMap::<_, Vec<&Route>>::new());
    for (index, route) in gateway.routes.iter().enumerate() {
        let path = format_args!("routes[{index}]");
        let fresh = names.insert(route.name.as_str());
        found.require(fresh, format_args!("{path}.name"), &route.name, "name each route once");
        self::route(&mut found, path, route, &targets);
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

fn tls(found: &mut Findings, path: Arguments<'_>, target: &TargetAddress) {
    let secured = target.url.starts_with("https:");
    let remedy = "write HTTP: H2C is HTTP/2 without TLS, and what is spoken by TLS is agreed on there";
    let good = !secured || target.protocol != Protocol::H2c;
    found.require(good, format_args!("{path}.protocol"), "H2C", remedy);
    let Some(tls) = &target.tls else { return };
    let remedy = "write https:// there, or leave tls out: nobody has a certificate to show by plain HTTP";
    found.require(secured, format_args!("{path}.url"), &target.url, remedy);
    if let Some(bundle) = &tls.ca_bundle {
        let remedy = "write the whole path of a file, such as /etc/valerix/authorities/ca.crt";
        let good = bundle.starts_with('/') && !bundle.ends_with('/') && !bundle.contains('\0');
        found.require(good, format_args!("{path}.tls.caBundle"), bundle, remedy);
    }
    if let Some(name) = &tls.server_name {
        let remedy = "write a host name or an IP address, as certificates have them";
        found.require(Tls::is_name(name), format_args!("{path}.tls.serverName"), name, remedy);
    }
}

fn route(found: &mut Findings, path: Arguments<'_>, route: &Route, targets: &HashSet<&str>) {
    found.name(format_args!("{path}.name"), &route.name);
    let matches = &route.matches;
    let prefix = &matches.path_prefix;
    let remedy = "start it with / and do not end it with /, with nothing in it that could be read in two ways";
    found.require(
        is_prefix(prefix),
        format_args!("{path}.match.pathPrefix"),
        prefix,
        remedy,
    );
    let remedy = "the gateway answers this path itself";
    found.require(!is_own(prefix), format_args!("{path}.match.pathPrefix"), prefix, remedy);
    if let Some(host) = &matches.host {
        let remedy = "write a host name without a port; it stands for itself alone, and leaving it out for any host";
        found.require(is_host(host), format_args!("{path}.match.host"), host, remedy);
    }
    for (index, method) in matches.methods.iter().enumerate() {
        let remedy = "write a method in upper case, other than CONNECT and TRACE";
        found.require(
            is_method(method),
            format_args!("{path}.match.methods[{index}]"),
            method,
            remedy,
        );
    }
    for (index, header) in matches.headers.iter().enumerate() {
        let good = HeaderName::from_bytes(header.name.as_bytes()).is_ok_and(|name| name.as_str() == header.name);
        let remedy = "write the name of a header in lower case";
        found.require(
            good,
            format_args!("{path}.match.headers[{index}].name"),
            &header.name,
            remedy,
        );
        let dropped = header.name.starts_with("valerix-");
        let remedy = "write another header: what services tell each other is dropped before routes are looked for";
        found.require(
            !dropped,
            format_args!("{path}.match.headers[{index}].name"),
            &header.name,
            remedy,
        );
        let good = HeaderValue::from_str(&header.value).is_ok() && header.value.trim() == header.value;
        let remedy = "write a value that a header can have, without spaces around it";
        found.require(
            good,
            format_args!("{path}.match.headers[{index}].value"),
            &header.value,
            remedy,
        );
    }
    if let Some(rewrite) = &route.rewrite_prefix {
        let remedy = "write / alone, or a path that starts with / and does not end with it";
        found.require(
            is_prefix(rewrite),
            format_args!("{path}.rewritePrefix"),
            rewrite,
            remedy,
        );
    }
    found.target(format_args!("{path}.target"), &route.target, targets);
    for (index, role) in route.auth.roles.iter().enumerate() {
        let remedy = "write admin: tokens tell of no other role";
        found.require(
            role == "admin",
            format_args!("{path}.auth.roles[{index}]"),
            role,
            remedy,
        );
    }
    let good = route.auth.roles.is_empty() || route.auth.auth_type == AuthType::Required;
    let remedy = "write Required, as a role needs a token";
    found.require(good, format_args!("{path}.auth.type"), route.auth.auth_type, remedy);
    if let Some(cors) = &route.cors {
        cors::violations(found, format_args!("{path}.cors"), cors);
    }
    let good = (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&route.idle_timeout);
    found.require(
        good,
        format_args!("{path}.idleTimeout"),
        route.idle_timeout,
        "use 1s to 1h",
    );
}

fn dashboard(found: &mut Findings, dashboard: &Dashboard, targets: &HashSet<&str>) {
    let good = (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&dashboard.deadline);
    found.require(good, "dashboard.deadline", dashboard.deadline, "use 10ms to 60s");
    found.at_most("dashboard.parts", dashboard.parts.len(), MAX_PARTS);
    let mut names = HashSet::new();
    for (index, part) in dashboard.parts.iter().enumerate() {
        let path = format_args!("dashboard.parts[{index}]");
        found.name(format_args!("{path}.name"), &part.name);
        let fresh = names.insert(part.name.as_str());
        found.require(fresh, format_args!("{path}.name"), &part.name, "name each part once");
        found.target(format_args!("{path}.target"), &part.target, targets);
        let good = part.path.parse::<http::uri::PathAndQuery>();
        // What comes after # would be left out without a word.
        let good = good.is_ok_and(|path| path == part.path.as_str() && valerix_proxy::check_path(path.path()).is_ok());
        let remedy = "write a path that starts with /, with a query or without";
        found.require(good, format_args!("{path}.path"), &part.path, remedy);
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

fn is_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|url| {
        let bare = url.path_and_query().is_none_or(|path| path.as_str() == "/");
        // Neither no port nor one too large is an error to who reads the URL.
        let port = url
            .authority()
            .map(|authority| authority.as_str().len() == url.host().unwrap_or_default().len());
        let port = port.unwrap_or_default() || url.port_u16().is_some_and(|port| port > 0);
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(is_host)
            && port
            && bare
            && !text.contains(['@', '#'])
    })
}

/// Whether it is the name of one host, or its address.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        let address = address
            .strip_suffix(']')
            .and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.is_some();
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(known)
}

#[cfg(test)]
mod tests;
