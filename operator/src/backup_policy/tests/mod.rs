//! The controller against the fake API server: what stands before what, strangers, rest; runs by hand, records and kills
//! in files of their own.

mod by_hand;
mod clock;
mod deletion;
mod found;
mod kills;
mod records;
mod retention;
mod still_due;
mod verification;

use super::*;
use crate::{
    fake_api::{FakeApi, kills::rest},
    runtime::{Clients, Identity, Runtime, Scope},
};
use serde_json::{Value, json};
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
        Self::start_with(api, fixtures::runner(), now)
    }

    fn start_with(api: &FakeApi, runner: Runner, now: fn() -> DateTime<Utc>) -> Self {
        Self::start_in(api, Scope::Cluster, runner, now)
    }

    fn start_in(api: &FakeApi, scope: Scope, runner: Runner, now: fn() -> DateTime<Utc>) -> Self {
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![scope]);
        runtime.leadership.set(true);
        let running = runtime.clone();
        let task = tokio::spawn(async move { run_with(&running, runner, now).await });
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
async fn an_operator_without_the_runners_image_stops_what_would_run_without_a_record() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let operator = Operator::start(&api);
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    drop(operator);
    let mut runner = fixtures::runner();
    runner.image.clear();
    let operator = Operator::start_with(&api, runner, fixtures::now);
    api.until(CRON_JOB, |job| job["spec"]["suspend"] == true).await;
    let policy = api
        .until(POLICY, |policy| shows(policy, "Scheduled", "False", "NoRunnerImage"))
        .await;
    let message = condition(&policy, "Scheduled").unwrap()["message"].to_string();
    assert!(
        message.contains("no scheduled run starts until this is mended"),
        "{message}"
    );
    drop(operator);
    let _operator = Operator::start(&api);
    api.until(CRON_JOB, |job| job["spec"]["suspend"] == false).await;
}
