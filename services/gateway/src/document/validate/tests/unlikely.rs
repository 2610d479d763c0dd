//! What people write who know other proxies, who mistype, or who let a program write.

use super::*;

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
