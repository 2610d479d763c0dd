//! What somebody who may enter the pod can ask and set.

use super::*;
use crate::{
    admin,
    runtime::telemetry::{self, LogFormat},
};
use http_body_util::BodyExt;
use tower::ServiceExt;

async fn ask(operator: &Operator, method: &str, path: &str, body: &'static str) -> (u16, String) {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let answer = admin::router(operator.ctx.clone()).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_is_said_and_can_be_changed_while_it_runs() {
    let operator = Operator::start(&FakeApi::default());
    let _telemetry = telemetry::start(LogFormat::Text);
    let put = async |directives| ask(&operator, "PUT", "/debug/log", directives).await;
    let now = async || ask(&operator, "GET", "/debug/log", "").await;
    assert_eq!(put("error,valerix_operator=off\n").await.0, 200);
    let said = now().await;
    assert!(said.0 == 200 && said.1.contains("valerix_operator=off"), "{said:?}");
    let (status, text) = put("valerix_operator=loud").await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("write such as info,valerix_operator=debug"), "{text}");
    assert_eq!(now().await, said);
    // The other tests of this process are to stay silent.
    assert_eq!(put("off").await, (200, "off".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_operator_says_what_it_holds_of_each_service() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(ORDER, |order| reason(order, "Ready").starts_with("True"))
        .await;
    operator.rest().await;
    let (_, known) = ask(&operator, "GET", "/debug/objects", "").await;
    let known: Value = serde_json::from_str(&known).unwrap();
    let live = api.get(ORDER).unwrap();
    assert_eq!(known[0]["name"], "order");
    assert_eq!(known[0]["resourceVersion"], live["metadata"]["resourceVersion"]);
    assert_eq!(known[0]["observedGeneration"], live["metadata"]["generation"]);
    assert_eq!(known[0]["conditions"]["ResourcesReady"], "True/AllApplied");
}
