//! The controller against the fake API server: what stands before what, runs by hand, strangers, kills, rest.

use super::*;
use crate::{
    fake_api::{FakeApi, Fault},
    runtime::{Clients, Fence, Identity, Runtime, Scope},
};
use http::Method;
use serde_json::{Value, json};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

const POLICIES: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backuppolicies";
const POLICY: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backuppolicies/shop";
const RECORDS: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backups";
const TODAY: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backups/shop-20260821";
const NEXT: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backups/shop-20260822";
const CRON_JOB: &str = "/apis/batch/v1/namespaces/shop/cronjobs/shop";
const JOBS: &str = "/apis/batch/v1/namespaces/shop/jobs";
/// 2026-08-21T02:15:00Z, which is 04:15 in Berlin, in minutes.
const JOB: &str = "/apis/batch/v1/namespaces/shop/jobs/shop-29787975";

struct Operator {
    runtime: Runtime,
    _task: AbortOnDropHandle<()>,
}

impl Operator {
    /// The controller, leading, on this API server, at noon of the fixtures' day.
    fn start(api: &FakeApi) -> Self {
        Self::start_at(api, fixtures::now)
    }

    fn start_at(api: &FakeApi, now: fn() -> DateTime<Utc>) -> Self {
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        runtime.leadership.set(Some(Fence {
            lease: "lease".into(),
            term: 1,
        }));
        let running = runtime.clone();
        let task = tokio::spawn(async move { run_with(&running, fixtures::runner(), now).await });
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

/// Waits until nothing was written for a while.
async fn rest(api: &FakeApi) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = api.requests().iter().filter(|request| request.is_write()).count();
        if now == before {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
}

fn policy() -> Value {
    let mut policy = serde_json::to_value(fixtures::policy()).unwrap();
    policy["metadata"] = json!({"name": "shop", "uid": "policy-uid"});
    policy
}

fn ask(api: &FakeApi, id: &str) {
    api.merge(
        POLICY,
        json!({"metadata": {"annotations": {"resilience.valerix.io/run": id}}}),
    );
}

async fn answered(api: &FakeApi, id: &str) -> Value {
    let policy = api
        .until(POLICY, |policy| {
            policy.pointer("/status/lastRun/id") == Some(&json!(id))
        })
        .await;
    policy["status"]["lastRun"].clone()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn shows(object: &Value, kind: &str, status: &str, reason: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == status && condition["reason"] == reason)
}

fn count(api: &FakeApi, write: &str) -> usize {
    api.writes().iter().filter(|done| *done == write).count()
}

#[tokio::test]
async fn the_record_of_the_next_slot_stands_before_the_cron_job_and_then_nothing_is_written() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let operator = Operator::start(&api);
    let policy = api
        .until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    assert_eq!(policy["status"]["nextSlot"], "2026-08-22");
    assert_eq!(policy["status"]["nextRunAt"], "2026-08-22T02:15:00Z");
    let record = api.get(NEXT).unwrap();
    assert_eq!(record["spec"]["policyRef"]["uid"], "policy-uid");
    assert!(record["metadata"].get("ownerReferences").is_none());
    let writes = api.writes();
    let place = |write: &str| {
        writes
            .iter()
            .position(|done| done.starts_with(write))
            .unwrap_or_else(|| panic!("{write} in {writes:?}"))
    };
    assert!(place(&format!("POST {RECORDS}")) < place(&format!("PATCH {CRON_JOB}")));
    assert!(place("PATCH /apis/rbac") < place(&format!("PATCH {CRON_JOB}")));
    assert!(
        api.get(TODAY).is_none(),
        "a policy made after the day's time has no run that day"
    );

    rest(&api).await;
    api.forget_requests();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let asked: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|request| !request.query.contains("watch=true"))
        .collect();
    assert!(asked.is_empty(), "at rest: {asked:?}");
    let text = String::from_utf8(operator.runtime.metrics.render()).unwrap();
    assert!(
        // 2026-01-01T00:00:00Z: before the first success an alert on its age counts from when the policy was made.
        text.contains("valerix_backup_last_success_timestamp_seconds{namespace=\"shop\",policy=\"shop\"} 1767225600"),
        "{text}"
    );
}

#[tokio::test]
async fn runs_by_hand_start_one_job_for_the_day() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let operator = Operator::start(&api);
    ask(&api, "one");
    let run = answered(&api, "one").await;
    assert_eq!(
        (run["result"].as_str(), run["slot"].as_str()),
        (Some("Started"), Some("2026-08-21")),
        "{run}"
    );
    let job = api.get(JOB).unwrap();
    assert_eq!(
        job["metadata"]["ownerReferences"][0]["uid"],
        api.get(CRON_JOB).unwrap()["metadata"]["uid"]
    );
    assert_eq!(job["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(api.get(TODAY).unwrap()["spec"]["slot"], "2026-08-21");

    // Asked again while it works.
    ask(&api, "two");
    assert!(
        answered(&api, "two").await["message"]
            .as_str()
            .unwrap()
            .contains("at work on this slot already")
    );

    // It has stored.
    api.merge(
        TODAY,
        json!({"status": {"phase": "Completed", "message": "2 databases", "completedAt": "2026-08-21T12:00:00Z",
        "upload": {"state": "Completed", "bytes": 2048, "sha256": "abc"}}}),
    );
    api.merge(
        JOB,
        json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
    );
    let policy = api
        .until(POLICY, |policy| shows(policy, "LastBackupSucceeded", "True", "Stored"))
        .await;
    assert_eq!(policy["status"]["lastSuccess"]["slot"], "2026-08-21");
    assert_eq!(policy["status"]["summary"]["size"], "2.0 KiB");
    ask(&api, "three");
    assert_eq!(answered(&api, "three").await["result"], "SlotUsed");
    assert_eq!(count(&api, &format!("POST {JOBS}")), 1);
    let text = String::from_utf8(operator.runtime.metrics.render()).unwrap();
    assert!(
        text.contains("valerix_backup_last_success_timestamp_seconds{namespace=\"shop\",policy=\"shop\"} 1787313600"),
        "{text}"
    );
}

#[tokio::test]
async fn a_failed_job_of_the_day_is_removed_by_its_uid_before_the_next_one() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    ask(&api, "one");
    answered(&api, "one").await;
    let first = api.get(JOB).unwrap()["metadata"]["uid"].clone();
    // The pod never came to say anything: the operator says it.
    api.merge(JOB, json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no luck"}]}}));
    let record = api
        .until(TODAY, |record| {
            record.pointer("/status/phase") == Some(&json!("Failed"))
        })
        .await;
    assert_eq!(record["status"]["reason"], "JobFailed");
    let policy = api
        .until(POLICY, |policy| shows(policy, "LastBackupSucceeded", "False", "Failed"))
        .await;
    let message = condition(&policy, "LastBackupSucceeded").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("BackoffLimitExceeded"), "{message}");

    ask(&api, "two");
    answered(&api, "two").await;
    let deletion = api
        .requests()
        .into_iter()
        .find(|request| request.method == Method::DELETE && request.path == JOB)
        .unwrap();
    assert_eq!(deletion.body.pointer("/preconditions/uid"), Some(&first));
    assert_ne!(api.get(JOB).unwrap()["metadata"]["uid"], first);
    assert_eq!(count(&api, &format!("POST {JOBS}")), 2);
}

#[tokio::test]
async fn a_write_that_may_have_happened_is_never_called_failed() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    ask(&api, "one");
    answered(&api, "one").await;
    let fence = json!({"state": "Started", "podUID": "pod", "sha256": "abc"});
    api.merge(TODAY, json!({"status": {"phase": "Uploading", "upload": fence}}));
    api.merge(
        JOB,
        json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}}),
    );
    let record = api
        .until(TODAY, |record| {
            record.pointer("/status/phase") == Some(&json!("Unknown"))
        })
        .await;
    assert_eq!(record["status"]["upload"], fence, "the fence stays as it was");
    api.until(POLICY, |policy| {
        shows(policy, "LastBackupSucceeded", "Unknown", "UploadUnknown")
    })
    .await;
}

#[tokio::test]
async fn a_record_of_another_policy_is_never_adopted_and_an_unused_one_makes_room() {
    for (status, taken) in [
        (json!({"phase": "Completed", "upload": {"state": "Completed"}}), true),
        (json!({"phase": "Failed", "upload": {"state": "None"}}), false),
    ] {
        let api = FakeApi::default();
        api.create(RECORDS, json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
            "metadata": {"name": "shop-20260822", "labels": {"resilience.valerix.io/policy": "shop"}},
            "spec": {"policyRef": {"name": "shop", "uid": "earlier-policy"}, "slot": "2026-08-22", "scheduledAt": "2026-08-22T02:15:00Z"},
            "status": status,
        }));
        api.create(POLICIES, policy());
        let _operator = Operator::start(&api);
        if taken {
            let policy = api
                .until(POLICY, |policy| shows(policy, "Ready", "False", "RecordTaken"))
                .await;
            let message = condition(&policy, "Ready").unwrap()["message"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(
                message.contains("shop-20260822") && message.contains("earlier-policy"),
                "{message}"
            );
            assert!(
                message.contains("the first run of this policy is that of the next day"),
                "{message}"
            );
            assert!(
                shows(&policy, "Scheduled", "False", "RecordTaken"),
                "no run is promised: {policy}"
            );
            assert_eq!(api.get(NEXT).unwrap()["spec"]["policyRef"]["uid"], "earlier-policy");
            assert!(api.get(CRON_JOB).is_none(), "no run without its record");
        } else {
            api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
                .await;
            assert_eq!(api.get(NEXT).unwrap()["spec"]["policyRef"]["uid"], "policy-uid");
            let deletion = api
                .requests()
                .into_iter()
                .find(|request| request.method == Method::DELETE && request.path == NEXT)
                .unwrap();
            let precondition = |field: &str| deletion.body["preconditions"][field].is_string();
            assert!(precondition("uid") && precondition("resourceVersion"), "{deletion:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_schedule_and_a_stranger_are_shown_and_nothing_runs() {
    let api = FakeApi::default();
    let mut wrong = policy();
    wrong["spec"]["schedule"]["timeOfDay"] = json!("02:30");
    api.create(POLICIES, wrong);
    let _operator = Operator::start(&api);
    let shown = api
        .until(POLICY, |policy| shows(policy, "Ready", "False", "InvalidSchedule"))
        .await;
    let message = condition(&shown, "Ready").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("02:30") && message.contains("Europe/Berlin"),
        "{message}"
    );
    assert!(api.get(CRON_JOB).is_none());

    api.create("/apis/batch/v1/namespaces/shop/cronjobs", json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "shop"}, "spec": {"schedule": "1 1 * * *"}}));
    api.merge(POLICY, json!({"spec": {"schedule": {"timeOfDay": "03:00"}}}));
    let policy = api
        .until(POLICY, |policy| shows(policy, "Ready", "False", "NotOwned"))
        .await;
    assert!(
        shows(&policy, "Scheduled", "False", "NotOwned"),
        "no run is promised: {policy}"
    );
    assert_eq!(api.get(CRON_JOB).unwrap()["spec"]["schedule"], "1 1 * * *");
}

#[tokio::test]
async fn a_run_is_answered_once_though_its_job_is_gone_or_was_started_by_an_earlier_life() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let first = Operator::start(&api);
    ask(&api, "");
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    drop(first);
    // As an earlier life left it that was killed before it could answer; it has failed since.
    let owner = api.get(CRON_JOB).unwrap()["metadata"]["uid"].clone();
    api.create(JOBS, json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "shop-29787975", "annotations": {"resilience.valerix.io/run": "one"},
            "labels": {"resilience.valerix.io/policy": "shop", "resilience.valerix.io/slot": "2026-08-21"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "shop", "uid": owner, "controller": true}]},
        "status": {"conditions": [{"type": "Failed", "status": "True"}]},
    }));
    let _operator = Operator::start(&api);
    ask(&api, "one");
    assert_eq!(answered(&api, "one").await["result"], "Started");
    assert_eq!(count(&api, &format!("DELETE {JOB}")), 0, "that one was the run");
    api.delete(JOB);
    rest(&api).await;
    assert_eq!(count(&api, &format!("POST {JOBS}")), 0);
}

#[tokio::test]
async fn a_stranger_under_the_jobs_name_is_told_and_left_alone() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let stranger = api.create(
        JOBS,
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "shop-29787975"}}),
    );
    let _operator = Operator::start(&api);
    ask(&api, &"long".repeat(100));
    let policy = api
        .until(POLICY, |policy| shows(policy, "Ready", "False", "JobTaken"))
        .await;
    let message = condition(&policy, "Ready").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("shop-29787975"), "{message}");
    assert_eq!(api.get(JOB).unwrap(), stranger);
    api.delete(JOB);
    let run = answered(&api, &"long".repeat(64)).await;
    assert_eq!(run["result"], "Started");
}

#[tokio::test]
async fn a_run_by_hand_uses_the_policy_as_it_is_now() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    api.merge(
        POLICY,
        json!({"metadata": {"annotations": {"resilience.valerix.io/run": "one"}}, "spec": {"job": {"deadline": "30m"}}}),
    );
    answered(&api, "one").await;
    assert_eq!(api.get(JOB).unwrap()["spec"]["activeDeadlineSeconds"], 1800);
}

#[tokio::test]
async fn a_job_that_the_caches_do_not_have_is_never_called_gone() {
    let api = FakeApi::default();
    let record = |slot: &str, status: Value| {
        let name = format!("shop-{}", slot.replace('-', ""));
        api.create(RECORDS, json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "labels": {"resilience.valerix.io/policy": "shop"}},
            "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": format!("{slot}T02:15:00Z")},
            "status": status,
        }));
    };
    record(
        "2026-08-21",
        json!({"phase": "Dumping", "startedAt": "2026-08-21T02:15:05Z"}),
    );
    record(
        "2026-08-20",
        json!({"phase": "Completed", "completedAt": "2026-08-20T02:16:00Z", "upload": {"state": "Completed"}}),
    );
    record(
        "2026-08-19",
        json!({"phase": "Failed", "completedAt": "2026-08-19T02:16:00Z"}),
    );
    api.create(
        JOBS,
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "shop-29787975"}}),
    );
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    // Of the ended ones the newest counts, in whatever order they were found.
    let policy = api
        .until(POLICY, |policy| shows(policy, "LastBackupSucceeded", "True", "Stored"))
        .await;
    assert_eq!(policy["status"]["lastSuccess"]["slot"], "2026-08-20");
    assert_eq!(api.get(TODAY).unwrap()["status"]["phase"], "Dumping");
    // Now it is gone, and a refused correction is made at the next look.
    let mut refused = false;
    api.inject(move |request| {
        let first = !refused && request.is_write() && request.path.starts_with(TODAY);
        refused |= first;
        first.then_some(Fault::Refuse(409))
    });
    api.delete(JOB);
    let record = api.until(TODAY, |record| record["status"]["phase"] == "Failed").await;
    assert_eq!(record["status"]["reason"], "JobGone");
}

#[tokio::test]
async fn a_binding_to_another_role_makes_room_and_what_the_user_changes_is_no_drift() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let operator = Operator::start(&api);
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    let binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/shop-backup";
    let before = api.get(binding).unwrap()["metadata"]["uid"].clone();
    api.merge(binding, json!({"roleRef": {"name": "another"}}));
    let made = api
        .until(binding, |binding| binding["roleRef"]["name"] == "valerix-backup-runner")
        .await;
    assert_ne!(made["metadata"]["uid"], before, "a role is never changed in place");

    // At rest and suspended: no record is made ahead, and a deleted policy is not told of any more.
    api.merge(POLICY, json!({"spec": {"suspend": true}}));
    api.until(CRON_JOB, |job| job["spec"]["suspend"] == true).await;
    api.until(POLICY, |policy| shows(policy, "Scheduled", "False", "Suspended"))
        .await;
    let drift = |request: &crate::fake_api::Recorded| request.body.to_string().contains("CronJob shop was changed");
    assert!(!api.requests().iter().any(drift));
    let told = || {
        String::from_utf8(operator.runtime.metrics.render())
            .unwrap()
            .contains("policy=\"shop\"")
    };
    assert!(told());
    api.delete(POLICY);
    let forgotten = tokio::time::timeout(Duration::from_secs(10), async {
        while told() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(forgotten.await.is_ok());
}

#[tokio::test]
async fn a_suspended_policy_has_no_record_ahead_and_one_that_goes_gets_nothing() {
    let api = FakeApi::default();
    let mut suspended = policy();
    suspended["spec"]["suspend"] = json!(true);
    api.create(POLICIES, suspended);
    let mut going = policy();
    going["metadata"] = json!({"name": "going", "uid": "going-uid", "deletionTimestamp": "2026-08-21T11:00:00Z", "finalizers": ["example.com/wait"]});
    api.create(POLICIES, going);
    let _operator = Operator::start(&api);
    api.until(POLICY, |policy| shows(policy, "Scheduled", "False", "Suspended"))
        .await;
    rest(&api).await;
    assert_eq!(api.get(NEXT), None);
    assert!(
        api.writes().iter().all(|write| !write.contains("going")),
        "{:?}",
        api.writes()
    );
}

/// A CronJob as an earlier life of the operator left it.
fn cron_job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "shop", "creationTimestamp": "2026-08-20T09:00:01Z", "labels": {"resilience.valerix.io/policy": "shop"},
            "ownerReferences": [{"apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "name": "shop", "uid": "policy-uid", "controller": true}]},
        "spec": {"schedule": "15 4 * * *", "suspend": true},
    })
}

fn job_at_work(labels: Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "shop-29787975", "creationTimestamp": "2026-08-21T11:00:00Z", "labels": labels}, "status": {},
    })
}

fn with_slot(record: &str, slot: &str, status: Value) -> Value {
    json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": record, "labels": {"resilience.valerix.io/policy": "shop"}},
        "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": format!("{slot}T02:15:00Z")},
        "status": status,
    })
}

#[tokio::test]
async fn a_run_that_may_still_start_finds_its_record() {
    // Suspended over the day's time, and not any more: the CronJob controller starts what it missed.
    let api = FakeApi::default();
    let mut late = policy();
    late["spec"]["schedule"]["catchUpWindow"] = json!("12h");
    api.create("/apis/batch/v1/namespaces/shop/cronjobs", cron_job());
    api.create(POLICIES, late);
    let operator = Operator::start(&api);
    let record = api.until(TODAY, |_| true).await;
    assert_eq!(record["spec"]["scheduledAt"], "2026-08-21T02:15:00Z");
    api.until(CRON_JOB, |job| job["spec"]["suspend"] == false).await;
    let writes = api.writes();
    let place = |write: &str| writes.iter().position(|done| done.starts_with(write)).unwrap();
    assert!(
        place(&format!("POST {RECORDS}")) < place(&format!("PATCH {CRON_JOB}")),
        "{writes:?}"
    );
    drop(operator);

    // A Job that waits for a record that nobody made.
    let api = FakeApi::default();
    api.create(JOBS, job_at_work(json!({"resilience.valerix.io/policy": "shop"})));
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    let record = api.until(TODAY, |_| true).await;
    assert_eq!(record["spec"]["policyRef"]["uid"], "policy-uid");
}

#[tokio::test]
async fn a_policy_that_is_edited_into_a_wrong_one_stops_its_cron_job_until_it_is_mended() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    api.merge(POLICY, json!({"spec": {"schedule": {"timeOfDay": "02:30"}}}));
    api.until(CRON_JOB, |job| job["spec"]["suspend"] == true).await;
    let policy = api
        .until(POLICY, |policy| shows(policy, "Scheduled", "False", "InvalidSchedule"))
        .await;
    let message = condition(&policy, "Scheduled").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("no scheduled run starts until this is mended"),
        "{message}"
    );
    assert_eq!(api.get(CRON_JOB).unwrap()["spec"]["schedule"], "15 4 * * *");
    // What a Job says is heard all the same.
    api.create(
        RECORDS,
        with_slot("shop-20260821", "2026-08-21", json!({"phase": "Dumping"})),
    );
    let mut failed = job_at_work(json!({"resilience.valerix.io/policy": "shop"}));
    failed["status"] = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]});
    api.create(JOBS, failed);
    api.until(TODAY, |record| record["status"]["reason"] == "JobFailed")
        .await;

    api.merge(POLICY, json!({"spec": {"schedule": {"timeOfDay": "03:15"}}}));
    api.until(CRON_JOB, |job| {
        job["spec"]["suspend"] == false && job["spec"]["schedule"] == "15 3 * * *"
    })
    .await;
    let blamed =
        |request: &crate::fake_api::Recorded| request.body.to_string().contains("was changed by somebody else");
    assert!(!api.requests().iter().any(blamed), "it was us");
}

#[tokio::test]
async fn what_hinders_the_next_record_hinders_nothing_else() {
    let api = FakeApi::default();
    let mut taken = with_slot(
        "shop-20260822",
        "2026-08-22",
        json!({"phase": "Completed", "upload": {"state": "Completed"}}),
    );
    taken["spec"]["policyRef"]["uid"] = json!("earlier-policy");
    api.create(RECORDS, taken);
    api.create(
        RECORDS,
        with_slot("shop-20260821", "2026-08-21", json!({"phase": "Dumping"})),
    );
    let mut failed = job_at_work(json!({"resilience.valerix.io/policy": "shop"}));
    failed["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    api.create(JOBS, failed);
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    api.until(POLICY, |policy| shows(policy, "Ready", "False", "RecordTaken"))
        .await;
    api.until(TODAY, |record| record["status"]["reason"] == "JobFailed")
        .await;
}

#[tokio::test]
async fn a_job_whose_pod_is_refused_says_so_on_its_record() {
    let api = FakeApi::default();
    let job = api.create(JOBS, job_at_work(json!({"resilience.valerix.io/policy": "shop"})));
    let event = |uid: &Value, reason: &str, at: &str, message: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("e-{at}-{}", reason.to_lowercase()).replace(':', "")},
            "involvedObject": {"kind": "Job", "name": "shop-29787975", "uid": uid}, "reason": reason, "message": message, "lastTimestamp": at,
        })
    };
    let uid = &job["metadata"]["uid"];
    for event in [
        event(
            uid,
            "FailedCreate",
            "2026-08-21T11:00:00Z",
            "Error creating: an older answer",
        ),
        event(
            uid,
            "FailedCreate",
            "2026-08-21T11:00:10Z",
            "Error creating: pods \"shop-29787975-x\" is forbidden: failed quota: must-limit: must specify limits.cpu for: backup",
        ),
        event(uid, "SuccessfulCreate", "2026-08-21T11:00:20Z", "Created pod"),
        event(
            &json!("another"),
            "FailedCreate",
            "2026-08-21T11:00:30Z",
            "Error creating: of another Job",
        ),
    ] {
        api.create("/api/v1/namespaces/shop/events", event);
    }
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    let record = api
        .until(TODAY, |record| record["status"]["reason"] == "PodRefused")
        .await;
    assert_eq!(
        record["status"]["message"],
        "no pod can be made: failed quota: must-limit: must specify limits.cpu for: backup; set spec.job.resources (spec.scratch.sizeLimit for ephemeral-storage)"
    );
    assert_eq!(record["status"]["phase"], "Scheduled");
}

#[tokio::test]
async fn a_failed_run_by_hand_makes_room_for_the_days_run() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    // A minute before the day's time; the Job by hand has the name that the CronJob controller will want.
    let _operator = Operator::start_at(&api, || fixtures::at("2026-08-21T02:14:00Z"));
    ask(&api, "one");
    answered(&api, "one").await;
    let uid = api.get(JOB).unwrap()["metadata"]["uid"].clone();
    api.merge(
        JOB,
        json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}),
    );
    let gone = tokio::time::timeout(Duration::from_secs(30), async {
        while api.get(JOB).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(gone.await.is_ok(), "the name is free in time");
    let deletion = api
        .requests()
        .into_iter()
        .find(|request| request.method == Method::DELETE && request.path == JOB)
        .unwrap();
    assert_eq!(deletion.body.pointer("/preconditions/uid"), Some(&uid));
    rest(&api).await;
    assert_eq!(
        count(&api, &format!("POST {JOBS}")),
        1,
        "the next one is the CronJob controller's"
    );
}

#[tokio::test]
async fn an_id_that_was_used_on_another_day_is_a_run_of_today() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    api.create(
        JOBS,
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "shop-29786535", "annotations": {"resilience.valerix.io/run": "now"},
                "labels": {"resilience.valerix.io/policy": "shop", "resilience.valerix.io/slot": "2026-08-20"}},
            "status": {"conditions": [{"type": "Failed", "status": "True"}]},
        }),
    );
    let _operator = Operator::start(&api);
    ask(&api, "now");
    let run = answered(&api, "now").await;
    assert_eq!(run["slot"], "2026-08-21", "{run}");
    assert!(
        run["message"]
            .as_str()
            .unwrap()
            .contains("needs another value of the annotation"),
        "{run}"
    );
    assert!(api.get(JOB).is_some());
}

#[tokio::test]
async fn the_record_of_a_policy_that_is_deleted_in_the_middle_of_a_run_has_an_end() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let operator = Operator::start(&api);
    ask(&api, "one");
    answered(&api, "one").await;
    api.merge(
        TODAY,
        json!({"status": {"phase": "Dumping", "message": "dumping databases[0] orders (1 of 2)"}}),
    );
    api.delete(POLICY);
    let record = api.until(TODAY, |record| record["status"]["phase"] == "Failed").await;
    assert_eq!(record["status"]["reason"], "PolicyGone");
    api.until(NEXT, |record| record["status"]["phase"] == "Missed").await;
    drop(operator);

    // It went while nobody looked.
    api.create(
        RECORDS,
        with_slot(
            "shop-20260820",
            "2026-08-20",
            json!({"phase": "Uploading", "upload": {"state": "Started"}}),
        ),
    );
    let _operator = Operator::start(&api);
    let earlier = format!("{RECORDS}/shop-20260820");
    api.until(&earlier, |record| record["status"]["phase"] == "Unknown")
        .await;
}

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
