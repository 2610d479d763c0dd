//! Killed at any write, the next life ends in the same state.

use super::*;
use crate::fake_api::Fault;
use http::Method;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// What a finished run by hand leaves: names only, since UIDs and versions differ.
fn end_state(api: &FakeApi) -> Value {
    let policy = api.get(POLICY).unwrap();
    json!({
        "lastRun": policy["status"]["lastRun"]["id"],
        "result": policy["status"]["lastRun"]["result"],
        "slot": policy["status"]["lastRun"]["slot"],
        "ready": shows(&policy, "Ready", "True", "Reconciled"),
        "records": [api.get(TODAY).map(|record| record["spec"].clone()), api.get(NEXT).map(|record| record["spec"].clone())],
        "job": api.get(JOB).map(|job| job["spec"].clone()),
        "cronJob": api.get(CRON_JOB).map(|job| job["spec"].clone()),
        "binding": api.get("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/shop-backup").map(|binding| binding["roleRef"].clone()),
    })
}

/// Kills the operator at its `at`-th write, before or after it takes; returns the end state and how many writes there were.
async fn killed_at(at: usize, takes: bool) -> (Value, usize, usize) {
    let api = FakeApi::default();
    let mut asked = policy();
    asked["metadata"]["annotations"] = json!({"resilience.valerix.io/run": "one"});
    api.create(POLICIES, asked);
    let (writes, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counter, notify) = (writes.clone(), killed.clone());
    api.inject(move |request| {
        if !request.is_write() || request.path.contains("/events") {
            return None;
        }
        if counter.fetch_add(1, Ordering::SeqCst) != at {
            return None;
        }
        notify.notify_one();
        Some(if takes { Fault::LoseAnswer } else { Fault::Refuse(500) })
    });
    let first = Operator::start(&api);
    let operators = Mutex::new(vec![first]);
    tokio::select! {
        () = killed.notified() => {
            operators.lock().unwrap().clear();
            operators.lock().unwrap().push(Operator::start(&api));
        }
        _ = answered(&api, "one") => {}
    }
    answered(&api, "one").await;
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    rest(&api).await;
    let jobs = api
        .requests()
        .iter()
        .filter(|request| request.method == Method::POST && request.path == JOBS)
        .count();
    (end_state(&api), writes.load(Ordering::SeqCst), jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_the_next_life_ends_in_the_same_state() {
    let (reference, writes, jobs) = killed_at(usize::MAX, true).await;
    assert_eq!(
        (reference["result"].as_str(), jobs),
        (Some("Started"), 1),
        "{reference}"
    );
    assert!(writes >= 6, "{writes}");
    let lives = (0..writes)
        .flat_map(|at| [(at, true), (at, false)])
        .map(|(at, takes)| async move { (at, takes, killed_at(at, takes).await.0) });
    for (at, takes, state) in futures::future::join_all(lives).await {
        assert_eq!(state, reference, "killed at write {at}, taken: {takes}");
    }
}
