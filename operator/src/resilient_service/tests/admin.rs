//! What somebody who may enter the pod can ask.

use super::*;
use crate::admin;
use http_body_util::BodyExt;
use tower::ServiceExt;

#[tokio::test(start_paused = true)]
async fn the_operator_says_what_it_holds_of_each_service() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(ORDER, |order| reason(order, "Ready").starts_with("True"))
        .await;
    operator.rest().await;
    let ask = http::Request::get("/debug/objects")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = admin::router(operator.ctx.clone()).oneshot(ask).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let known: Value = serde_json::from_slice(&bytes).unwrap();
    let live = api.get(ORDER).unwrap();
    assert_eq!(known[0]["name"], "order");
    assert_eq!(known[0]["resourceVersion"], live["metadata"]["resourceVersion"]);
    assert_eq!(known[0]["observedGeneration"], live["metadata"]["generation"]);
    assert_eq!(known[0]["conditions"]["ResourcesReady"], "True/AllApplied");
}
