//! The dashboard: what came, and the names of what did not.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use valerix_kit::extract::Json;

use super::support::{PATIENCE, Setup, serve};

#[tokio::test]
async fn parts_that_are_missing_are_named_and_the_others_are_there_in_time() {
    let order = Router::new().route(
        "/api/orders",
        get(|headers: HeaderMap| async move {
            assert!(headers.contains_key("x-request-id") && headers.contains_key("traceparent"));
            let time: u64 = headers["valerix-timeout-ms"].to_str().unwrap().parse().unwrap();
            assert!(time <= 2_000, "the deadline goes along: {time}");
            Json(json!({"orders": [headers["authorization"].to_str().unwrap()]}))
        }),
    );
    let auth = Router::new().route("/auth/me", get(|| std::future::ready(StatusCode::UNAUTHORIZED)));
    let inventory = Router::new().route("/api/inventory", get(|| std::future::ready("no JSON")));
    let slow = Router::new().route(
        "/analytics/summary",
        get(|| async {
            tokio::time::sleep(PATIENCE).await;
            "late"
        }),
    );
    // Payment is the one that is dead.
    let setup = Setup::new()
        .target_policy("payment", |payment| payment.retry.max_attempts = 1)
        .target("order", serve(order).await)
        .target("auth", serve(auth).await)
        .target("inventory", serve(inventory).await)
        .target("analytics", serve(slow).await);
    let gateway = setup.start().await.server;
    let request = reqwest::Client::new().get(format!("{}/api/dashboard", gateway.base));
    let answer = valerix_kit::testing::Answer::of(request.header("authorization", "Bearer x")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body(),
        json!({
            "parts": {"orders": {"orders": ["Bearer x"]}},
            "unavailable": [
                {"name": "user", "reason": "Status", "status": 401},
                {"name": "payments", "reason": "Connect"},
                {"name": "stock", "reason": "Body"},
                {"name": "analytics", "reason": "DeadlineExceeded"},
            ],
        })
    );
    assert!(
        answer.took < Duration::from_secs(4),
        "one deadline for all: {:?}",
        answer.took
    );
}

#[tokio::test]
async fn the_replica_says_who_it_is() {
    let setup = Setup::new().change(|config| config.service.pod_name = "gateway-7".to_owned());
    let gateway = setup.start().await.server;
    let body = gateway.get("/api/instance").await.body();
    assert_eq!(
        (&body["replica"], &body["routes"]),
        (&json!("gateway-7"), &json!("compiled-in"))
    );
}
