//! The report over HTTP, as the operator reads it.

use std::time::{Duration, Instant};

use valerix_resilience::policy::{BreakerOverride, CircuitState, FaultState, OverrideState, Policy, Report};
use valerix_resilience::{Outcome, Resilience};

use crate::support::{PATIENCE, eventually, policy, serve, with_policy};

async fn served(policy: &Policy) -> (Resilience, String) {
    let resilience = with_policy(policy).await;
    let url = format!("http://{}/resilience", serve(resilience.report_router()).await);
    (resilience, url)
}

async fn etag(url: &str) -> String {
    reqwest::get(url).await.unwrap().headers()["etag"]
        .to_str()
        .unwrap()
        .trim_matches('"')
        .to_owned()
}

fn trip(resilience: &Resilience) {
    let target = resilience.target("upstream");
    while let Ok(permit) = target.breaker().try_acquire() {
        permit.record(Outcome::Failure);
    }
}

#[tokio::test]
async fn it_says_what_the_page_says() {
    let (resilience, url) = served(&policy(|_, _| {})).await;
    trip(&resilience);
    let report: serde_json::Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
    for field in [
        "podUID",
        "service",
        "now",
        "policy",
        "circuitBreakers",
        "limits",
        "faults",
    ] {
        assert!(report.get(field).is_some(), "{field} in {report}");
    }
    assert_eq!(report["policy"]["versions"], serde_json::json!([1]));
    assert_eq!(report["circuitBreakers"][0]["state"], "Open");
    assert_eq!(report["circuitBreakers"][0]["failures"], 20);
    assert!(report["circuitBreakers"][0]["nextProbeAt"].is_string());
}

#[tokio::test]
async fn a_waiter_hears_of_a_transition_at_once() {
    let (resilience, url) = served(&policy(|_, _| {})).await;
    let known = etag(&url).await;
    let waiter = tokio::spawn(reqwest::get(format!("{url}?since={known}&wait=60s")));
    // Whether the waiter is already there or comes later, it must learn of the change.
    tokio::task::yield_now().await;
    trip(&resilience);
    let began = Instant::now();
    let answer = waiter.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_ne!(answer.headers()["etag"].to_str().unwrap().trim_matches('"'), known);
    let report: Report = answer.json().await.unwrap();
    assert_eq!(report.circuit_breakers[0].state, CircuitState::Open);
}

#[tokio::test]
async fn a_waiter_hears_when_a_circuit_lets_probes_pass_although_nobody_calls() {
    let settings = policy(|_, target| {
        target.circuit_breaker.open_duration = "500ms".parse().unwrap();
        target.circuit_breaker.max_open_duration = "500ms".parse().unwrap();
    });
    let (resilience, url) = served(&settings).await;
    let known = loop {
        resilience.target("upstream").reset();
        trip(&resilience);
        let answer = reqwest::get(&url).await.unwrap();
        let etag = answer.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned();
        let report: Report = answer.json().await.unwrap();
        // On a slow machine the open time may be over before the report is asked for.
        if report.circuit_breakers[0].state == CircuitState::Open {
            break etag;
        }
    };
    let answer = reqwest::get(format!("{url}?since={known}&wait=60s")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let report: Report = answer.json().await.unwrap();
    assert_eq!(report.circuit_breakers[0].state, CircuitState::HalfOpen);
}

#[tokio::test]
async fn a_waiter_hears_when_an_override_ends_although_nobody_calls() {
    let (resilience, url) = served(&policy(|_, _| {})).await;
    let known = loop {
        let held = policy(|_, target| {
            target.breaker_override = Some(BreakerOverride {
                circuit_breaker: OverrideState::ForcedOpen,
                until: chrono::Utc::now() + chrono::TimeDelta::milliseconds(500),
            });
        });
        resilience.apply_policy(held.render().as_bytes()).unwrap();
        let answer = reqwest::get(&url).await.unwrap();
        let etag = answer.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned();
        let report: Report = answer.json().await.unwrap();
        // On a slow machine it may be over before the report is asked for.
        if report.circuit_breakers[0].state == CircuitState::Open {
            break etag;
        }
    };
    let waiting = reqwest::get(format!("{url}?since={known}&wait=60s"));
    let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    let answer = answer.expect("it hears of the end").unwrap();
    assert_eq!(answer.status(), 200);
    let report: Report = answer.json().await.unwrap();
    assert_eq!(report.circuit_breakers[0].state, CircuitState::Closed);
}

#[tokio::test]
async fn calls_alone_wake_nobody_and_the_wait_ends_with_304() {
    let (resilience, url) = served(&policy(|_, _| {})).await;
    let known = etag(&url).await;
    resilience
        .target("upstream")
        .breaker()
        .try_acquire()
        .unwrap()
        .record(Outcome::Failure);
    assert_eq!(etag(&url).await, known);
    let answer = reqwest::get(format!("{url}?since=%22{known}%22&wait=50ms"))
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["etag"].to_str().unwrap()),
        (304, &*format!("\"{known}\""))
    );
    let client = reqwest::Client::new();
    let answer = client
        .get(&url)
        .header("if-none-match", format!("\"{known}\""))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 304);
    assert_eq!(
        reqwest::get(format!("{url}?since=other&wait=60s"))
            .await
            .unwrap()
            .status(),
        200
    );
    let tags = format!("\"other\", W/\"{known}\"");
    let answer = client.get(&url).header("if-none-match", tags).send().await.unwrap();
    assert_eq!(answer.status(), 304);
}

#[tokio::test]
async fn a_bad_query_is_a_problem_that_names_the_parameter_and_the_remedy() {
    let (_resilience, url) = served(&policy(|_, _| {})).await;
    for (query, parameter, remedy) in [
        ("wait=soon", "wait", "such as 500ms"),
        ("wait=", "wait", "such as 500ms"),
        ("wait=121s", "wait", "at most 2m"),
        ("wait=1s&wait=2s", "since or wait", "duplicate field `wait`"),
    ] {
        let answer = reqwest::get(format!("{url}?{query}")).await.unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["parameter"], parameter, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(remedy), "{problem}");
    }
    assert_eq!(
        reqwest::get(format!("{url}?wait=120s&unknown=1"))
            .await
            .unwrap()
            .status(),
        200
    );
}

/// The document that is served describes what is answered: every member with its type, and the required ones.
#[tokio::test]
async fn the_openapi_document_is_served_and_is_about_this_answer() {
    let (resilience, url) = served(&policy(|policy, _| {
        policy.inbound.concurrency = Some(valerix_resilience::policy::Concurrency::default());
    }))
    .await;
    trip(&resilience);
    let get = async |url: String| -> serde_json::Value { reqwest::get(url).await.unwrap().json().await.unwrap() };
    let document = get(format!("{url}/openapi.json")).await;
    let answers = &document["paths"]["/resilience"]["get"]["responses"];
    assert!(answers["304"].is_object());
    let schemas = &document["components"]["schemas"];
    let check = |name: &str, value: &serde_json::Value| {
        let schema = &schemas[name];
        for member in value.as_object().unwrap().keys() {
            assert!(schema["properties"][member].is_object(), "{name} lacks {member}");
        }
        for member in schema["required"].as_array().unwrap() {
            assert!(
                value.get(member.as_str().unwrap()).is_some(),
                "{name}: {member} is required"
            );
        }
    };
    let report = get(url.clone()).await;
    check("Report", &report);
    check("PolicyReport", &report["policy"]);
    check("CircuitBreakerReport", &report["circuitBreakers"][0]);
    assert_eq!(report["limits"].as_array().unwrap().len(), 2);
    check("LimitReport", &report["limits"][1]);
    check("Problem", &get(format!("{url}?wait=soon")).await);
}

#[tokio::test]
async fn a_fifth_waiter_is_answered_at_once_and_places_come_back() {
    let (resilience, url) = served(&policy(|_, _| {})).await;
    let known = etag(&url).await;
    let waiting = format!("{url}?since={known}&wait=60s");
    let asked = (0..5).map(|_| tokio::spawn(reqwest::get(waiting.clone())));
    // Whichever of them comes last finds all four places taken, and is told what there is.
    let at_once = tokio::time::timeout(PATIENCE, futures::future::select_all(asked)).await;
    let (answer, _, waiters) = at_once.expect("one of five is answered");
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["etag"].to_str().unwrap().trim_matches('"'),
        known,
        "nothing has changed"
    );
    for waiter in &waiters {
        assert!(!waiter.is_finished());
    }
    trip(&resilience);
    for waiter in waiters {
        let answer = waiter.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert_ne!(
            answer.headers()["etag"].to_str().unwrap().trim_matches('"'),
            known,
            "it waited for the change"
        );
    }
    let known = etag(&url).await;
    assert_eq!(
        reqwest::get(format!("{url}?since={known}&wait=30ms"))
            .await
            .unwrap()
            .status(),
        304
    );
}

#[tokio::test]
async fn a_reload_wakes_and_metrics_show_the_same() {
    let registry = prometheus::Registry::new();
    let resilience = Resilience::builder()
        .service("test")
        .registry(registry.clone())
        .start()
        .await
        .unwrap();
    let url = format!("http://{}/resilience", serve(resilience.report_router()).await);
    let known = etag(&url).await;
    let waiter = tokio::spawn(reqwest::get(format!("{url}?since={known}&wait=60s")));
    resilience.apply_policy(policy(|_, _| {}).render().as_bytes()).unwrap();
    let report: Report = waiter.await.unwrap().unwrap().json().await.unwrap();
    assert!(report.policy.hash.is_some());
    assert!(report.faults.iter().all(|fault| fault.state != FaultState::Active));
    trip(&resilience);
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    assert!(
        text.contains("resilience_circuit_state{state=\"Open\",target=\"upstream\"} 1"),
        "{text}"
    );
    assert!(text.contains("resilience_circuit_state{state=\"Closed\",target=\"upstream\"} 0"));
    assert!(text.contains(&format!("hash=\"{}\"", report.policy.hash.unwrap())));
    eventually("dropping it leaves no series behind", || true).await;
}
