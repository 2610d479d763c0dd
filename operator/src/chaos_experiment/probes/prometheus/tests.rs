use super::*;
use crate::chaos_experiment::probes::address::testing::{Fixed, nobody};
use crate::chaos_experiment::probes::mark::testing::mark;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::routing::get;
use rstest::rstest;
use serde_json::json;
use std::sync::Mutex;

fn vector(samples: &[Value]) -> Value {
    json!({"status": "success", "data": {"resultType": "vector", "result": samples}})
}

fn sample(value: &str) -> Value {
    json!({"metric": {"job": "a"}, "value": [1_700_000_000.5, value]})
}

#[rstest]
#[case::vector(200, vector(&[sample("0.25")]), Ok(0.25))]
#[case::scalar(200, json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}), Ok(3.0))]
#[case::infinite(200, vector(&[sample("+Inf")]), Ok(f64::INFINITY))]
#[case::none(200, vector(&[]), Err("the query has no sample"))]
#[case::several(200, vector(&[sample("1"), sample("2")]), Err("the query has 2 samples"))]
#[case::nan(200, vector(&[sample("NaN")]), Err("the value is NaN"))]
#[case::histogram(200, vector(&[json!({"metric": {}, "histogram": [1, {}]})]), Err("the sample is a histogram"))]
#[case::range(200, json!({"status": "success", "data": {"resultType": "matrix", "result": []}}), Err("a range of samples"))]
#[case::text(200, json!({"status": "success", "data": {"resultType": "string", "result": [1, "a"]}}), Err("comes to a string"))]
#[case::wrong(400, json!({"status": "error", "errorType": "bad_data", "error": "parse error"}), Err("refused the query: bad_data: parse error"))]
#[case::another_program(200, json!({"hello": "world"}), Err("is no Prometheus"))]
#[case::no_number(200, vector(&[sample("many")]), Err("`many` is no number"))]
fn an_answer_is_one_number_or_says_what_it_is(
    #[case] status: u16,
    #[case] answer: Value,
    #[case] expected: Result<f64, &str>,
) {
    match (one_number(status, answer.to_string().as_bytes()), expected) {
        (Ok(number), Ok(wanted)) => assert_eq!(number.to_string(), wanted.to_string()),
        (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

#[test]
fn what_is_no_json_or_too_long_is_said() {
    assert!(
        one_number(502, b"<html>")
            .unwrap_err()
            .contains("status 502 and no JSON")
    );
    assert!(
        one_number(200, &vec![b'['; BODY_LIMIT])
            .unwrap_err()
            .contains("longer than 64 KiB")
    );
}

#[rstest]
#[case("<", [true, false, false])]
#[case("<=", [true, true, false])]
#[case(">", [false, false, true])]
#[case(">=", [false, true, true])]
#[case("==", [false, true, false])]
#[case("!=", [true, false, true])]
fn every_comparator(#[case] comparator: &str, #[case] expected: [bool; 3]) {
    let question: PrometheusProbe =
        serde_json::from_value(json!({"service": "p", "query": "q", "comparator": comparator, "value": 2})).unwrap();
    let found = [1.0, 2.0, 3.0].map(|number| compare(&question, number) == ProbeResult::Passed);
    assert_eq!(found, expected);
    let unknown: PrometheusProbe =
        serde_json::from_value(json!({"service": "p", "query": "q", "comparator": "~", "value": 2})).unwrap();
    assert!(matches!(compare(&unknown, 2.0), ProbeResult::NotAsked(_)));
}

/// What a server was asked: query string and host.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

async fn serve(answer: Value) -> (SocketAddr, Seen) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = move |RawQuery(query): RawQuery, headers: HeaderMap| {
        let host = headers["host"].to_str().unwrap().to_owned();
        noted.lock().unwrap().push((query.unwrap_or_default(), host));
        let answer = answer.clone();
        async move { axum::Json(answer) }
    };
    let router = axum::Router::new()
        .route("/prefix/api/v1/query", get(handler.clone()))
        .route("/api/v1/query", get(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

#[tokio::test]
async fn a_service_and_an_address_are_asked_the_same_question() {
    let (address, seen) = serve(vector(&[sample("7")])).await;
    let of = |place: Value| {
        let mut question = json!({"query": "sum(rate(a{b=\"c d\"}[1m]))", "comparator": ">", "value": 6.5});
        question
            .as_object_mut()
            .unwrap()
            .extend(place.as_object().unwrap().clone());
        serde_json::from_value::<PrometheusProbe>(question).unwrap()
    };
    let asker = PrometheusAsker {
        client: builder().resolve("prometheus.monitoring.svc", address).build().unwrap(),
    };
    let resolver = Fixed(address);
    let service = of(json!({"service": "prometheus"}));
    assert_eq!(asker.ask(&resolver, &mark(), &service).await, ProbeResult::Passed);
    let url = of(json!({"url": format!("http://prometheus.monitoring.svc:{}/prefix/", address.port())}));
    assert_eq!(asker.ask(&resolver, &mark(), &url).await, ProbeResult::Passed);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1, "prometheus.shop.svc");
    assert!(
        seen[0].0.starts_with("query=sum%28rate%28a%7Bb%3D%22c"),
        "{}",
        seen[0].0
    );
    assert_eq!(seen[0].0, seen[1].0);
}

#[tokio::test]
async fn nobody_there_is_no_failure_of_the_system_and_the_own_node_is_never_asked() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (address, seen) = serve(vector(&[sample("7")])).await;
    let asker = PrometheusAsker::new().unwrap();
    let question = |place: &str| {
        let text = format!("http://{place}:{}", address.port());
        serde_json::from_value(json!({"url": text, "query": "q", "comparator": ">", "value": 0})).unwrap()
    };
    let result = asker.ask(&Fixed(address), &mark(), &question("localhost")).await;
    let ProbeResult::NotAsked(why) = result else {
        panic!("{result:?}")
    };
    assert!(why.contains("a loopback address"), "{why}");
    assert!(seen.lock().unwrap().is_empty());

    let (nobody, _kept) = nobody();
    let service = json!({"service": "prometheus", "query": "q", "comparator": ">", "value": 0});
    let service = serde_json::from_value(service).unwrap();
    let result = asker.ask(&Fixed(nobody), &mark(), &service).await;
    assert!(matches!(result, ProbeResult::NotAsked(why) if why.starts_with("Prometheus did not answer")));
}
