//! What the services behind are told of who asks.

use axum::Router;
use axum::routing::any;
use http::HeaderMap;
use serde_json::{Value, json};
use valerix_kit::extract::Json;
use valerix_kit::testing::{Answer, TestServer};

use super::support::{Setup, serve};

/// Says what it was told.
pub async fn mirror() -> std::net::SocketAddr {
    serve(
        Router::new().fallback(any(|headers: HeaderMap, uri: http::Uri| async move {
            let headers = headers.iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), Value::from(value))
            });
            let headers: serde_json::Map<_, _> = headers.collect();
            Json(json!({"uri": uri.to_string(), "headers": headers}))
        })),
    )
    .await
}

pub async fn ask(gateway: &TestServer, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = reqwest::Client::new().get(format!("{}{path}", gateway.base));
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request).await
}

#[tokio::test]
async fn nobody_speaks_for_others_and_the_services_hear_who_asks() {
    let address = mirror().await;
    let gateway = Setup::new().target("order", address).start().await.server;
    let answer = ask(
        &gateway,
        "/api/orders/7?a=%20b",
        &[
            ("valerix-client", "shop/order"),
            ("valerix-service-token", "x"),
            ("valerix-probe", "shop/slow/1"),
            ("valerix-timeout-ms", "0"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-request-id", "abc"),
            (
                "connection",
                "x-secret, X-Forwarded-For, x-forwarded-host, traceparent, valerix-timeout-ms",
            ),
            ("x-secret", "1"),
            ("x-kept", "1"),
        ],
    )
    .await;
    assert_eq!(
        answer.status, 200,
        "a deadline from outside is not believed: {answer:?}"
    );
    assert_eq!(answer.headers["x-request-id"], "abc");
    let told = answer.body();
    assert_eq!(told["uri"], "/api/orders/7?a=%20b");
    let headers = &told["headers"];
    assert_eq!(headers["host"], address.to_string());
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], gateway.base.trim_start_matches("http://"));
    assert_eq!(headers["valerix-client"], "default/gateway");
    assert_eq!(
        headers["valerix-probe"], "shop/slow/1",
        "a mark that asks for less is passed on"
    );
    assert_eq!(
        (&headers["x-request-id"], &headers["x-kept"]),
        (&json!("abc"), &json!("1"))
    );
    for dropped in ["valerix-service-token", "x-secret", "connection"] {
        assert!(headers.get(dropped).is_none(), "{dropped}: {headers}");
    }
    assert!(
        headers["traceparent"].is_string() && headers["valerix-timeout-ms"] != "0",
        "{headers}"
    );
}

#[tokio::test]
async fn the_time_of_a_client_of_grpc_counts_whatever_its_connection_names() {
    let gateway = Setup::new().target("order", mirror().await).start().await.server;
    let headers = [
        ("content-type", "application/grpc"),
        ("grpc-timeout", "1500m"),
        ("connection", "valerix-timeout-ms"),
    ];
    let told = ask(&gateway, "/api/orders/7", &headers).await.body();
    let left = &told["headers"]["valerix-timeout-ms"];
    let left: u64 = left.as_str().unwrap().parse().unwrap();
    assert!(left <= 1_500, "{told}");
}

#[tokio::test]
async fn a_path_without_a_route_is_nowhere() {
    let setup = Setup::new().target_policy("order", |order| order.retry.max_attempts = 1);
    let gateway = setup.start().await.server;
    assert_eq!(gateway.get("/api/orders/7").await.status, 502);
    for path in ["/", "/api", "/api/ordersx", "/admin"] {
        let answer = gateway.get(path).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (404, "not-found".to_owned()),
            "{path}"
        );
    }
    let metrics = reqwest::get(format!("{}/metrics", gateway.report))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("http_requests_total{method=\"GET\",route=\"orders\",status=\"502\"} 1"),
        "{metrics}"
    );
    assert!(!metrics.contains("ordersx"), "no label is a caller's invention");
}
