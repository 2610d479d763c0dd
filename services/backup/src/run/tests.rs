//! Until when what passes by itself is waited for, with the clock in hand: hours are as short as the test wants them.

use super::*;
use crate::{server, settings::Arguments};
use axum::{
    Json, Router, extract,
    routing::{get, patch},
};
use clap::Parser;
use serde_json::{Value, json};
use std::{future::pending, sync::Mutex};
use valerix_crds::backup_runner::exit;

const DEADLINE: Duration = Duration::from_secs(90 * 60);
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(60);

type Kept = Arc<Mutex<Value>>;

async fn read(extract::State(record): extract::State<Kept>) -> Json<Value> {
    Json(record.lock().unwrap().clone())
}

async fn write(extract::State(record): extract::State<Kept>, Json(operations): Json<json_patch::Patch>) -> Json<Value> {
    let mut record = record.lock().unwrap();
    json_patch::patch(&mut record, &operations).unwrap();
    Json(record.clone())
}

/// A run of 90 minutes that has just begun, and its record.
fn begun(folder: &tempfile::TempDir) -> (Run, Kept) {
    let record: Kept = Arc::new(Mutex::new(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": "nightly-20260821", "namespace": "shop", "uid": "record-uid", "resourceVersion": "1"},
        "spec": {"policyRef": {"name": "nightly", "uid": "policy-uid"}, "slot": "2026-08-21", "scheduledAt": "2026-08-21T00:00:00Z"},
        "status": {"phase": "Dumping", "upload": {"state": "None"}},
    })));
    let base = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backups/{name}";
    let api = Router::new()
        .route(base, get(read))
        .route(&format!("{base}/status"), patch(write))
        .with_state(record.clone());
    let spec = json!({
        "schedule": {"timeOfDay": "00:00", "timeZone": "Etc/UTC"},
        "databases": [{"name": "orders", "connectionSecretRef": {"name": "orders-db"}}],
        "destination": {"volumeClaim": {"claimName": "backups"}},
        "job": {"deadline": "90m"},
    });
    let mut arguments = Arguments::parse_from([
        "backup",
        "--policy",
        "nightly",
        "--policy-uid",
        "policy-uid",
        "--namespace",
        "shop",
        "--pod-uid",
        "pod",
        "--job-name",
        "nightly-29787840",
        "--spec",
        &spec.to_string(),
    ]);
    folder.path().clone_into(&mut arguments.shared.destination_folder);
    let settings = Arc::new(Settings::new(arguments).unwrap());
    (Run::new(settings, kube::Client::new(api, "shop")), record)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_until_the_deadline_and_the_day_ends_with_that_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (run, record) = begun(&folder);
    assert_eq!(run.deadline - Instant::now(), DEADLINE - DEADLINE_MARGIN);
    let mut attempts = 0;
    let (last, failure) = loop {
        attempts += 1;
        let tried = Instant::now();
        let away = Failure::Servers(vec![server::Error::Unreachable {
            label: "databases[0] orders".into(),
            secret: "orders-db".into(),
            why: "Connection refused".into(),
        }]);
        if let Err(failure) = run.preparation().wait_after(away, attempts).await {
            break (tried, failure);
        }
        assert!(Instant::now() < run.deadline, "nothing is tried after it");
        let status = record.lock().unwrap()["status"].clone();
        let told =
            format!("tried {attempts} times, trying again until job.deadline: databases[0] orders: not reachable");
        assert!(status["message"].as_str().unwrap().starts_with(&told), "{status}");
        assert_eq!(status["reason"], "DatabaseUnreachable");
    };
    let left = run.deadline - last;
    assert!(
        Duration::ZERO < left && left <= PAUSE,
        "the last attempt was {left:?} before it"
    );
    // Five pauses that grow to 32 s, then one each minute.
    assert_eq!(attempts, 89);
    assert_eq!(
        (failure.category(), failure.exit_code()),
        ("DatabaseUnreachable", exit::UNREACHABLE)
    );
    run.report(&failure).await;
    let status = record.lock().unwrap()["status"].clone();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DatabaseUnreachable"))
    );
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_ended_at_the_deadline_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let (run, record) = begun(&folder);
    let mut stop = std::pin::pin!(pending::<()>());
    let mut work = std::pin::pin!(run.interruptible(stop.as_mut(), pending::<Result<(), Failure>>()));
    let moment = Duration::from_millis(20);
    let early = tokio::time::timeout_at(run.deadline - moment, work.as_mut()).await;
    assert!(early.is_err(), "it was ended {moment:?} before the deadline");
    let failure = work.await.unwrap_err();
    assert!(Instant::now() < run.deadline + moment);
    assert_eq!(
        (failure.category(), failure.exit_code()),
        ("DeadlineExceeded", exit::DEADLINE)
    );
    run.report(&failure).await;
    let status = record.lock().unwrap()["status"].clone();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
    assert_eq!(status["message"], "the deadline of 5400 s passed (job.deadline)");
}
