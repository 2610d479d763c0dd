//! What pods say of themselves, and orders that go through the gateway.

use axum::Router;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::support::{Console, serve, service};

fn pod(name: &str, address: Option<&str>) -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"labels": {"resilience.valerix.io/service": "order"}},
        "spec": {"containers": [], "nodeName": name},
        "status": {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[tokio::test]
async fn pods_report_and_one_that_does_not_says_why() {
    let report = json!({
        "podUID": "uid", "service": "order", "now": "2026-11-27T10:00:00Z", "policy": {"versions": [1], "hash": "9f2c"},
        "circuitBreakers": [{"target": "inventory", "state": "Open", "nextProbeAt": "2026-11-27T10:00:07Z"}],
        "limits": [{"name": "inventory", "kind": "Bulkhead", "limit": 100}],
    });
    let metrics = "http_requests_total{method=\"GET\",route=\"/\",status=\"200\"} 1\nprocess_threads 7\n";
    let pods = Router::new()
        .route(
            "/resilience",
            get(move || std::future::ready(axum::Json(report.clone()))),
        )
        .route("/metrics", get(move || std::future::ready(metrics)));
    let port = serve(pods).await;
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    let mut order = service("well");
    order["spec"]["resilience"] = json!({"reportPort": port});
    cluster.put("resilientservices", "shop", "order", order);
    cluster.put("pods", "shop", "order-1", pod("order-1", Some("127.0.0.1")));
    cluster.put("pods", "shop", "order-2", pod("order-2", None));
    let console = Console::start(cluster).await;
    let ann = console.sign_in("ann").await;
    let pods = ann.get("/api/services/shop/order/pods").await.body();
    assert_eq!(
        pods["pods"][0]["report"]["circuitBreakers"][0]["state"], "Open",
        "{pods}"
    );
    assert_eq!(pods["pods"][1]["error"], "the pod has no address yet", "{pods}");
    assert!(!pods.to_string().contains("127.0.0.1"), "addresses stay inside: {pods}");
    let mut stream = ann.follow().await;
    let told = |message: &Value| message["services"][0]["pods"][0]["threads"] == 7.0;
    let vitals = stream.until("how the pods are", told).await;
    assert_eq!(vitals["services"][0]["pods"][0]["answered"], true, "{vitals}");
    let moments = ann.get("/api/services/shop/order/moments").await.body();
    assert!(!moments["moments"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn an_order_goes_through_the_gateway_with_its_key_and_comes_back_as_it_was_answered() {
    let shop = Router::new().route(
        "/api/orders",
        post(|headers: HeaderMap, axum::Json(order): axum::Json<Value>| async move {
            assert!(!headers.contains_key("cookie") && !headers.contains_key("authorization"));
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            if order["item_id"] == "none" {
                let problem = json!({"type": "https://valerix.io/problems/circuit-open", "detail": "a service needed for this does not answer"});
                return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3")], axum::Json(problem));
            }
            let order = json!({"order_id": key, "status": "CONFIRMED", "gremlin": order["gremlin"]});
            (StatusCode::CREATED, [("x", "y")], axum::Json(order))
        }),
    );
    let port = serve(shop).await;
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    let gateway = format!("http://127.0.0.1:{port}").parse().unwrap();
    let console = Console::with(cluster, |config| config.gateway_url = Some(gateway)).await;
    let ann = console.sign_in("ann").await;
    let place = |item: &str, key: &str| {
        let request = console
            .server
            .request("/api/orders")
            .json(&json!({"item_id": item, "quantity": 1, "gremlin": true}));
        let request = request
            .header("cookie", &ann.cookie)
            .header("x-valerix-csrf", &ann.csrf);
        valerix_kit::testing::Answer::of(request.header("idempotency-key", key))
    };
    let placed = place("ps5", "k-1").await.body();
    assert_eq!(
        (
            &placed["status"],
            &placed["body"]["order_id"],
            &placed["body"]["gremlin"]
        ),
        (&json!(201), &json!("k-1"), &json!(true))
    );
    let refused = place("none", "k-2").await.body();
    assert_eq!(
        (&refused["status"], &refused["circuitOpen"], &refused["retryAfter"]),
        (&json!(503), &json!(true), &json!(3))
    );
    let anonymous = console
        .server
        .post("/api/orders", &json!({"item_id": "ps5", "quantity": 1}))
        .await;
    assert_eq!(anonymous.status, 401, "{anonymous:?}");
}
