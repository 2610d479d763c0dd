//! The controller against the fake API server: one Job whatever happens, and a status that two write.

mod kills;

use super::*;
use crate::{
    fake_api::{FakeApi, Recorded},
    runtime::{Clients, Identity, Scope},
};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

const RESTORES: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/restores";
const RESTORE: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/restores/back";
const RECORDS: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backups";
const JOBS: &str = "/apis/batch/v1/namespaces/shop/jobs";
const JOB: &str = "/apis/batch/v1/namespaces/shop/jobs/back-restore";
const DROP_JOB: &str = "/apis/batch/v1/namespaces/shop/jobs/back-drop";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/back-restore";

struct Operator {
    runtime: Runtime,
    _task: AbortOnDropHandle<()>,
}

impl Operator {
    /// The controller, leading, on this API server, at noon of the fixtures' day.
    fn start(api: &FakeApi) -> Self {
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        runtime.leadership.set(true);
        let running = runtime.clone();
        let task = tokio::spawn(async move { run_with(&running, fixtures::runner(), fixtures::now).await });
        Self {
            runtime,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // The watches run in tasks of their own.
        self.runtime.shutdown.cancel();
    }
}

fn restore() -> Value {
    let mut restore = serde_json::to_value(fixtures::restore(json!({}))).unwrap();
    restore["metadata"] = json!({"name": "back", "uid": "restore-uid"});
    restore["status"] = json!({"observedGeneration": -1, "phase": "Pending"});
    restore
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn shows(object: &Value, kind: &str, status: &str, reason: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == status && condition["reason"] == reason)
}

fn made(api: &FakeApi) -> usize {
    api.writes()
        .iter()
        .filter(|write| **write == format!("POST {JOBS}"))
        .count()
}

/// A Restore whose Job was made.
async fn begun(api: &FakeApi) -> Operator {
    api.create(RECORDS, fixtures::record("2026-08-21"));
    api.create(RESTORES, restore());
    let operator = Operator::start(api);
    api.until(RESTORE, |restore| shows(restore, "Ready", "Unknown", "Running"))
        .await;
    operator
}

/// What the runner writes: the fields of `status`, over those that are there.
fn report(api: &FakeApi, status: Value) {
    api.merge(&format!("{RESTORE}/status"), json!({"status": status}));
}

#[tokio::test]
async fn a_restore_waits_for_its_archive_and_has_one_job_then() {
    let api = FakeApi::default();
    api.create(RESTORES, restore());
    let operator = Operator::start(&api);
    let waiting = api
        .until(RESTORE, |restore| shows(restore, "Ready", "False", "NoArchive"))
        .await;
    assert_eq!(waiting["status"]["phase"], "Pending");
    assert_eq!(made(&api), 0);
    api.create(RECORDS, fixtures::record("2026-08-21"));
    let restore = api
        .until(RESTORE, |restore| shows(restore, "Ready", "Unknown", "Running"))
        .await;
    assert_eq!(restore["status"]["source"]["slot"], "2026-08-21");
    assert_eq!(restore["status"]["source"]["claimName"], "backups");
    assert_eq!(restore["status"]["job"]["name"], "back-restore");
    assert!(shows(&restore, "Completed", "False", "Running"));
    assert_eq!(restore["status"]["observedGeneration"], 1);
    let binding = api.get(BINDING).unwrap();
    assert_eq!(binding["roleRef"]["name"], "valerix-restore-runner");

    // A newer archive and the runner's own reports change nothing of it.
    api.create(RECORDS, fixtures::record("2026-08-22"));
    report(
        &api,
        json!({"phase": "Restoring", "podUID": "pod", "message": "restoring orders (1 of 1)"}),
    );
    let databases = json!([{"name": "orders", "as": "orders", "phase": "Completed", "tables": 3}]);
    report(
        &api,
        json!({"phase": "Completed", "reason": "Restored", "message": "orders restored", "databases": databases, "tables": 3, "completedAt": "2026-08-21T12:00:00Z"}),
    );
    let restore = api
        .until(RESTORE, |restore| shows(restore, "Ready", "True", "Restored"))
        .await;
    assert!(shows(&restore, "Completed", "True", "Restored") && condition(&restore, "Stalled").is_none());
    assert_eq!(restore["status"]["databases"], databases);
    assert_eq!(restore["status"]["source"]["slot"], "2026-08-21");
    assert_eq!(made(&api), 1);
    let text = String::from_utf8(operator.runtime.metrics.render()).unwrap();
    assert!(
        text.contains("valerix_restore_failed{namespace=\"shop\",restore=\"back\"} 0"),
        "{text}"
    );
    assert!(
        text.contains("valerix_restore_completed_timestamp_seconds{namespace=\"shop\",restore=\"back\"} 1787313600"),
        "{text}"
    );
    // Also for an operator that begins anew.
    drop(operator);
    api.delete(JOB);
    let _heir = Operator::start(&api);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(made(&api), 1, "what has ended is not begun again");
}

#[tokio::test]
async fn an_operator_that_died_after_it_made_the_job_takes_it_over() {
    let api = FakeApi::default();
    {
        let _first = begun(&api).await;
    }
    // As if the status had not been written any more.
    let source = api.get(RESTORE).unwrap()["status"]["source"].clone();
    report(
        &api,
        json!({"job": null, "source": null, "conditions": null, "observedGeneration": -1}),
    );
    let _second = Operator::start(&api);
    let restore = api
        .until(RESTORE, |restore| restore["status"]["job"]["name"] == "back-restore")
        .await;
    assert_eq!(restore["status"]["source"], source);
    assert_eq!(made(&api), 1);
}

#[tokio::test]
async fn a_job_that_is_deleted_is_never_made_again() {
    let api = FakeApi::default();
    let _operator = begun(&api).await;
    report(
        &api,
        json!({
            "phase": "Swapping", "podUID": "pod",
            "databases": [{"name": "orders", "as": "orders", "phase": "Swapping", "staged": "orders_restore_20260821", "oid": 16384, "previous": "orders_before_20260821"}],
        }),
    );
    api.delete(JOB);
    let restore = api
        .until(RESTORE, |restore| shows(restore, "Stalled", "True", "JobGone"))
        .await;
    assert_eq!(restore["status"]["phase"], "Failed");
    let message = restore["status"]["message"].as_str().unwrap();
    for text in [
        "ALTER DATABASE \"orders\" ALLOW_CONNECTIONS true",
        "if there is a database \"orders_before_20260821\", it is the old one",
        "DROP DATABASE IF EXISTS \"orders_restore_20260821\"; DROP DATABASE IF EXISTS \"orders_restore_20260821_dropped_16384\"",
    ] {
        assert!(message.contains(text), "`{text}` in `{message}`");
    }
    assert_eq!(made(&api), 1);
}

#[tokio::test]
async fn a_job_that_cannot_start_says_why_and_one_that_has_failed_ends_the_restore() {
    let api = FakeApi::default();
    let _operator = begun(&api).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "back-restore-1", "labels": {"resilience.valerix.io/restore": "back", "batch.kubernetes.io/job-name": "back-restore"}},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "persistentvolumeclaim \"backups\" not found"}]},
    });
    api.create(PODS, pod);
    let restore = api
        .until(RESTORE, |restore| {
            shows(restore, "Ready", "Unknown", "WaitingForVolumes")
        })
        .await;
    assert!(
        restore["status"]["message"]
            .as_str()
            .unwrap()
            .contains("\"backups\" not found"),
        "{restore}"
    );

    // The runner spoke once and was killed for good.
    report(
        &api,
        json!({"podUID": "pod", "phase": "Restoring", "reason": "NotUndone", "message": "half done"}),
    );
    api.merge(
        &format!("{JOB}/status"),
        json!({"status": {"conditions": [
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many"}]}}),
    );
    let restore = api
        .until(RESTORE, |restore| restore["status"]["phase"] == "Failed")
        .await;
    let message = restore["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("BackoffLimitExceeded") && message.contains("half done"),
        "{message}"
    );
    assert!(shows(&restore, "Ready", "False", "NotUndone"), "{restore}");
}

#[tokio::test]
async fn somebody_elses_job_is_left_alone_and_told() {
    let api = FakeApi::default();
    api.create(
        JOBS,
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "back-restore"}, "spec": {}}),
    );
    api.create(RECORDS, fixtures::record("2026-08-21"));
    api.create(RESTORES, restore());
    let _operator = Operator::start(&api);
    let restore = api
        .until(RESTORE, |restore| shows(restore, "Ready", "False", "JobTaken"))
        .await;
    assert_eq!(restore["status"]["phase"], "Pending");
    assert!(restore["status"]["job"].is_null());
}

#[tokio::test]
async fn what_was_replaced_is_dropped_when_its_time_has_come() {
    let api = FakeApi::default();
    let _operator = begun(&api).await;
    let completed = |until: &str| {
        json!({"phase": "Completed", "reason": "Restored", "podUID": "pod", "databases": [
            {"name": "orders", "as": "orders", "phase": "Completed", "previous": "orders_before_20260821", "previousOid": 16384, "previousUntil": until}]})
    };
    report(&api, completed("2026-08-28T12:00:00Z"));
    api.until(RESTORE, |restore| shows(restore, "Ready", "True", "Restored"))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(api.get(DROP_JOB).is_none(), "not before");
    report(&api, completed("2026-08-21T11:59:59Z"));
    let job = api.until(DROP_JOB, |_| true).await;
    assert_eq!(
        job["spec"]["template"]["spec"]["containers"][0]["args"],
        json!(["restore", "--drop-previous"])
    );
    // Whoever drops by hand what this Job could not is told of both names.
    let failed = json!({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many"});
    api.merge(
        &format!("{DROP_JOB}/status"),
        json!({"status": {"conditions": [failed]}}),
    );
    let left = "orders_before_20260821, or orders_before_20260821_dropped_16384 by now";
    let is_told = |request: &Recorded| {
        let note = request.body["note"].as_str().unwrap_or_default();
        request.body["reason"] == "DropFailed" && note.contains(left)
    };
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        while !api.requests().iter().any(is_told) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    told.await.expect("an event says what is left");
    report(
        &api,
        json!({"databases": [{"name": "orders", "as": "orders", "phase": "Completed", "previous": "x", "previousUntil": "2026-08-21T11:59:59Z", "previousDropped": true}]}),
    );
    api.delete(DROP_JOB);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(api.get(DROP_JOB).is_none(), "once is enough");
}
