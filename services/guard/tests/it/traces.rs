//! Spans of the guard, between those of who calls and of who is called.

use axum::Router;
use axum::routing::get;
use http::HeaderMap;
use valerix_kit::testing::collector::Collector;

use super::process::Guard;
use super::support::{eventually, serve};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_request_is_a_span_below_its_callers_and_above_the_applications() {
    let told = get(|headers: HeaderMap| async move { headers["traceparent"].to_str().unwrap().to_owned() });
    let application = serve(Router::new().route("/orders/7", told)).await;
    let collector = Collector::start().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let guard = Guard::start(application, &environment).await;
    let request = reqwest::Client::new().get(format!("{}/orders/7", guard.base()));
    let request = request.header("traceparent", format!("00-{TRACE}-{CLIENT}-01"));
    let heard = request.send().await.unwrap().text().await.unwrap();
    let span = eventually("the span is exported", || async { collector.trace(TRACE).pop() }).await;
    assert_eq!(
        (span.name.as_str(), span.parent.as_str()),
        ("GET inbound http", CLIENT),
        "{span:?}"
    );
    assert_eq!(span.attribute("http.response.status_code"), "200");
    assert_eq!(heard, format!("00-{TRACE}-{}-01", span.span_id));
}
