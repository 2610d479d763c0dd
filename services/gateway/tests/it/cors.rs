//! Pages of other origins, as browsers ask for them.

use axum::Router;
use axum::http::Method;
use axum::routing::any;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use valerix_kit::testing::Answer;

use super::support::{Gateway, Setup, serve};

const PAGE: &str = "https://shop.example";

/// In front of a service that lets every page do everything, and remembers cookies for it.
async fn gateway(cors: Value) -> Gateway {
    let answer = any(|method: Method| async move {
        assert_ne!(method, Method::OPTIONS, "what browsers ask is answered before");
        let headers = [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-own"),
            ("vary", "accept"),
        ];
        (StatusCode::OK, headers, "made")
    });
    let url = format!("http://{}", serve(Router::new().fallback(answer)).await);
    let route = |name: &str, methods: &[&str], auth: &str| {
        json!({"name": name, "match": {"pathPrefix": format!("/{name}"), "methods": methods}, "target": "order",
               "auth": {"type": auth}, "cors": cors})
    };
    let mut own = route("own", &[], "None");
    own.as_object_mut().unwrap().remove("cors");
    Setup::new()
        .document(&json!({"version": 1, "targets": [{"name": "order", "url": url}],
            "routes": [route("orders", &["GET", "POST"], "None"), route("mine", &[], "Required"), own]}))
        .change(|config| config.service.identity.auth_url = Some("http://127.0.0.1:1".to_owned()))
        .start()
        .await
}

async fn send(gateway: &Gateway, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = reqwest::Client::new().request(method, format!("{}{path}", gateway.server.base));
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request).await
}

async fn question(gateway: &Gateway, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    send(gateway, Method::OPTIONS, path, &headers).await
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

fn varies(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all("vary")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_page_that_is_named_may_use_the_route_and_another_may_not() {
    let gateway = gateway(json!({"origins": [PAGE], "credentials": true, "maxAge": "1m"})).await;
    let asked = question(&gateway, "/orders/7", PAGE).await;
    assert_eq!((asked.status, asked.text.as_str()), (204, ""));
    for (name, value) in [
        ("access-control-allow-origin", Some(PAGE)),
        ("access-control-allow-methods", Some("GET, POST")),
        (
            "access-control-allow-headers",
            Some("authorization, content-type, idempotency-key"),
        ),
        ("access-control-allow-credentials", Some("true")),
        ("access-control-max-age", Some("60")),
    ] {
        assert_eq!(said(&asked.headers, name), value, "{name}");
    }
    assert_eq!(varies(&asked.headers), ["origin"]);
    for stranger in [
        "https://evil.example",
        "https://shop.example.evil",
        "null",
        "http://shop.example",
    ] {
        let asked = question(&gateway, "/orders", stranger).await;
        assert_eq!(
            (asked.status, asked.problem().as_str()),
            (403, "origin-not-allowed"),
            "{stranger}"
        );
        assert_eq!(said(&asked.headers, "access-control-allow-origin"), None, "{stranger}");
        let used = send(&gateway, Method::POST, "/orders", &[("origin", stranger)]).await;
        assert_eq!((used.status, used.text.as_str()), (200, "made"));
        assert_eq!(said(&used.headers, "access-control-allow-origin"), None, "{stranger}");
        assert_eq!(
            said(&used.headers, "access-control-allow-credentials"),
            None,
            "{stranger}"
        );
    }
    let used = send(&gateway, Method::POST, "/orders", &[("origin", PAGE)]).await;
    assert_eq!(said(&used.headers, "access-control-allow-origin"), Some(PAGE));
    let exposed = said(&used.headers, "access-control-expose-headers").unwrap();
    assert!(
        exposed.contains("retry-after") && !exposed.contains("x-own"),
        "{exposed}"
    );
    assert_eq!(varies(&used.headers), ["accept", "origin"]);
    let elsewhere = send(&gateway, Method::GET, "/orders", &[]).await;
    assert_eq!(varies(&elsewhere.headers), ["accept", "origin"]);
}

/// A page must be able to read why it was refused, and a browser asks without the token that it would send.
#[tokio::test]
async fn a_question_needs_no_token_and_a_refusal_can_be_read() {
    let gateway = gateway(json!({"origins": ["*"]})).await;
    let asked = question(&gateway, "/mine", PAGE).await;
    assert_eq!(
        (asked.status, said(&asked.headers, "access-control-allow-origin")),
        (204, Some("*"))
    );
    let methods = said(&asked.headers, "access-control-allow-methods");
    assert_eq!(methods, Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
    let refused = send(&gateway, Method::POST, "/mine", &[("origin", PAGE)]).await;
    assert_eq!(
        (refused.status, said(&refused.headers, "access-control-allow-origin")),
        (401, Some("*"))
    );
    assert_eq!(varies(&refused.headers), Vec::<&str>::new());
}

#[tokio::test]
async fn a_route_that_says_nothing_leaves_it_to_the_service_behind() {
    let gateway = gateway(json!({"origins": [PAGE]})).await;
    let used = send(&gateway, Method::POST, "/own", &[("origin", "https://evil.example")]).await;
    assert_eq!(said(&used.headers, "access-control-allow-origin"), Some("*"));
}
