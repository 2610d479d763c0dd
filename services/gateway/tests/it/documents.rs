//! A page leads to what each service says of itself.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use serde_json::json;
use valerix_gateway::policy::TARGETS;
use valerix_kit::extract::Json;

use super::support::{Setup, serve};

#[tokio::test]
async fn every_service_is_listed_and_its_document_is_where_its_page_says() {
    let order = Router::new()
        .route("/docs", get(|| std::future::ready(Html("<a href=\"openapi.json\">"))))
        .route(
            "/openapi.json",
            get(|| std::future::ready(Json(json!({"openapi": "3.1.0"})))),
        );
    let gateway = Setup::new().target("order", serve(order).await).start().await.server;
    let list = gateway.get("/services").await;
    assert_eq!(list.status, 200, "{list:?}");
    assert!(!list.text.contains("://"), "nothing leads elsewhere: {}", list.text);
    let policy = list.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for (name, _) in TARGETS {
        let link = format!("<a href=\"/services/{name}/docs\">{name}</a>");
        assert!(list.text.contains(&link), "{name} is not in {}", list.text);
    }
    let page = gateway.get("/services/order/docs").await;
    assert_eq!((page.status, page.text.as_str()), (200, "<a href=\"openapi.json\">"));
    let document = gateway.get("/services/order/openapi.json").await;
    assert_eq!((document.status, document.body()), (200, json!({"openapi": "3.1.0"})));
    // Nothing else of a service is reached this way.
    for path in ["/services/order", "/services/order/ready", "/services/nobody/docs"] {
        assert_eq!(gateway.get(path).await.status, 404, "{path}");
    }
    let written = gateway.post("/services/order/docs", &json!({})).await;
    assert_eq!(written.status, 404, "{written:?}");
}
