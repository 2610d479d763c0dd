//! Policies that change while requests run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::routing::get;
use futures::future::join_all;
use valerix_policy::guard::Protocol;

use super::support::{Setup, nobody, serve};

const CHANGES: u32 = 100;
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_fail_no_request_and_close_no_circuit() {
    let application = serve(Router::new().route("/", get(|| async { "well" }))).await;
    let mut guard = Setup::new()
        .inbound("http", Protocol::Http, application)
        .target("dead", Protocol::Http, &format!("http://{}", nobody()))
        .of_target(|target| {
            target.retry.max_attempts = 1;
            target.circuit_breaker.consecutive_failures = Some(1);
            target.circuit_breaker.open_duration = "1m".parse().unwrap();
        })
        .start()
        .await;
    let dead = format!("{}/", guard.target());
    assert_eq!(reqwest::get(&dead).await.unwrap().status(), 502);
    let (asked, changed) = (AtomicU64::new(0), AtomicBool::new(false));
    let url = format!("{}/", guard.base());
    let ask = || async {
        let client = reqwest::Client::new();
        while !changed.load(Ordering::Relaxed) {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.text().await.unwrap(), "well");
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let change = async {
        for number in 1..=CHANGES {
            // Everything that a request meets: its limits, its time, and the places of what it calls.
            guard
                .change(|policy| {
                    policy.inbound.timeout = format!("{}s", 10 + number % 5).parse().unwrap();
                    policy.targets[0].bulkhead.max_concurrent = 100 + number;
                })
                .await;
        }
        changed.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..CLIENTS).map(|_| ask())), change);
    assert!(
        asked.load(Ordering::Relaxed) > u64::from(CHANGES),
        "{asked:?} requests ran meanwhile"
    );
    let refused = reqwest::get(&dead).await.unwrap();
    assert_eq!(refused.headers()["valerix-problem"], "circuit-open");
}
