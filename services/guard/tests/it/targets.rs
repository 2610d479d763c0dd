//! What the application calls by HTTP, a listener for each target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use http::{HeaderMap, Uri};
use valerix_policy::guard::Protocol;

use super::support::{Setup, nobody, serve};

#[tokio::test]
async fn a_target_that_fails_is_left_alone_and_the_report_says_so() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let failing = any(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { StatusCode::INTERNAL_SERVER_ERROR }
    });
    let address = serve(Router::new().fallback(failing)).await;
    let guard = Setup::new()
        .target("stock", Protocol::Http, &format!("http://{address}"))
        .of_target(|target| {
            target.circuit_breaker.consecutive_failures = Some(3);
            target.circuit_breaker.open_duration = "1m".parse().unwrap();
        })
        .start()
        .await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let answer = reqwest::get(guard.target()).await.unwrap();
        let problem = answer.headers().get("valerix-problem").cloned();
        seen.push((
            answer.status().as_u16(),
            problem.map(|problem| problem.to_str().unwrap().to_owned()),
        ));
    }
    let open = (503, Some("circuit-open".to_owned()));
    let failed = (500, None);
    assert_eq!(seen, [failed.clone(), failed.clone(), failed, open.clone(), open]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    let report = guard.report().await;
    assert_eq!(report["circuitBreakers"][0]["target"], "stock");
    assert_eq!(report["circuitBreakers"][0]["state"], "Open");
}

#[tokio::test]
async fn a_read_is_tried_again_and_a_write_is_not() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let second = any(move || {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            }
        }
    });
    let address = serve(Router::new().fallback(second)).await;
    let guard = Setup::new()
        .target("stock", Protocol::Http, &format!("http://{address}"))
        .of_target(|target| target.retry.budget.percent = 100)
        .start()
        .await;
    assert_eq!(reqwest::get(guard.target()).await.unwrap().status(), 200);
    assert_eq!(calls.swap(0, Ordering::Relaxed), 2);
    let write = reqwest::Client::new().post(guard.target()).body("one").send();
    assert_eq!(write.await.unwrap().status(), 503);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_names_its_target_its_caller_and_its_time() {
    let told = any(|uri: Uri, headers: HeaderMap| async move {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let time: u64 = header("valerix-timeout-ms").unwrap().parse().unwrap();
        format!(
            "{uri} {} {} {}",
            header("host").unwrap(),
            header("valerix-client").unwrap(),
            (1..=60_000).contains(&time)
        )
    });
    let address = serve(Router::new().fallback(told)).await;
    let guard = Setup::new()
        .target("stock", Protocol::Http, &format!("http://{address}/v2/"))
        .start()
        .await;
    let call = reqwest::Client::new().get(format!("{}/items?all=1", guard.target()));
    let answer = call
        .header("valerix-timeout-ms", "60000")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(answer, format!("/v2/items?all=1 {address} default/shop-web true"));
}

#[tokio::test]
async fn a_target_without_an_address_is_named_with_the_remedy() {
    let setup = Setup::new().target("stock", Protocol::Http, "http://unused");
    let guard = setup.change(|config| config.wiring.targets[0].url = None).start().await;
    let answer = reqwest::get(guard.target()).await.unwrap();
    assert_eq!(answer.status(), 502);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["target"], "stock");
    assert!(
        problem["detail"].as_str().unwrap().contains("targets[].url"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_target_at_which_nobody_listens_is_unreachable() {
    let address = nobody();
    let guard = Setup::new()
        .target("stock", Protocol::Http, &format!("http://{address}"))
        .start()
        .await;
    let answer = reqwest::Client::new().post(guard.target()).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["valerix-problem"], "unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_changes_under_load_and_no_request_fails() {
    let named = |name: &'static str| Router::new().route("/", get(move || async move { name }));
    let (first, second) = (serve(named("first")).await, serve(named("second")).await);
    let mut guard = Setup::new()
        .inbound("http", Protocol::Http, first)
        .target("stock", Protocol::Http, "http://unused")
        .of_target(|target| target.url = Some(format!("http://{first}")))
        .start()
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = [guard.target(), guard.base()].map(|url| {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get(&url).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                let text = answer.text().await.unwrap();
                if seen.last() != Some(&text) {
                    seen.push(text);
                }
            }
            seen
        })
    });
    for round in 0..10 {
        guard
            .change(|policy| {
                let at = if round % 2 == 0 { second } else { first };
                policy.targets[0].url = Some(format!("http://{at}"));
                policy.targets[0].timeout.attempt = valerix_policy::Duration::from_millis(5_000 + round);
                policy.inbound.timeout = valerix_policy::Duration::from_millis(6_000 + round);
            })
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let [target, inbound] = load;
    let turns = target.await.unwrap();
    assert!(turns.len() > 2, "the target's url was followed: {turns:?}");
    assert_eq!(inbound.await.unwrap(), ["first"]);
}
