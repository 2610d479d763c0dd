//! Each bound of a document, broken once: the path, the value and the remedy are told.

use super::*;

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
