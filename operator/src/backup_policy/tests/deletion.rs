//! Policies that are deleted with their archives, against the fake API server: what comes before what, and that nothing
//! holds a policy or a namespace for good.

use super::*;
use crate::{fake_api::Fault, runtime::Scope};
use http::Method;

const REMOVAL: &str = "/apis/batch/v1/namespaces/shop/jobs/shop-dpolicyui";
const FINALIZER: &str = "resilience.valerix.io/remove-archives";

fn deleting() -> Value {
    let mut policy = policy();
    policy["spec"]["deletionPolicy"] = json!("Delete");
    policy
}

fn has_finalizer(policy: &Value) -> bool {
    let finalizers = policy.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| finalizers.contains(&json!(FINALIZER)))
}

async fn gone(api: &FakeApi, path: &str) {
    let gone = tokio::time::timeout(Duration::from_secs(20), async {
        while api.get(path).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(gone.await.is_ok(), "{path} is there: {:?}", api.get(path));
}

fn told(api: &FakeApi, reason: &str) -> String {
    let requests = api.requests();
    let event = requests.iter().find(|request| request.body["reason"] == reason);
    event.unwrap_or_else(|| panic!("no event {reason}")).body["note"].to_string()
}

fn counted(operator: &Operator, outcome: &str) -> bool {
    let text = String::from_utf8(operator.runtime.metrics.render()).unwrap();
    text.contains(&format!("valerix_backup_deletions_total{{outcome=\"{outcome}\"}} 1"))
}

/// A deletion that began just now, by the clock of the test.
fn now() -> DateTime<Utc> {
    fixtures::at("2026-01-01T00:10:00Z")
}

fn late() -> DateTime<Utc> {
    fixtures::at("2026-01-01T01:00:01Z")
}

fn ended(api: &FakeApi, condition: &str, phase: &str, message: &str) {
    api.create(
        "/api/v1/namespaces/shop/pods",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "shop-dpolicyui-x", "labels": {
                "resilience.valerix.io/policy": "shop", "batch.kubernetes.io/job-name": "shop-dpolicyui",
            }},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "backup", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "message": message}},
            }]},
        }),
    );
    let conditions = json!([{"type": condition, "status": "True"}]);
    api.merge(REMOVAL, json!({"status": {"conditions": conditions}}));
}

#[tokio::test]
async fn the_archives_go_with_the_policy_once_no_run_can_store_another() {
    let api = FakeApi::default();
    api.create(POLICIES, deleting());
    let operator = Operator::start_at(&api, now);
    api.until(POLICY, |policy| {
        shows(policy, "Ready", "True", "Reconciled") && has_finalizer(policy)
    })
    .await;
    let writes = api.writes();
    let place = |write: &str| writes.iter().position(|done| done.starts_with(write)).unwrap();
    assert!(
        place(&format!("PATCH {POLICY}")) < place(&format!("PATCH {CRON_JOB}")),
        "the finalizer stands before anything can be stored: {writes:?}"
    );
    let stored = json!({"phase": "Completed", "upload": {"state": "Completed", "claimName": "backups"}});
    for day in ["20", "21"] {
        api.create(
            RECORDS,
            with_slot(&format!("shop-202608{day}"), &format!("2026-08-{day}"), stored.clone()),
        );
    }
    api.delete(POLICY);
    let job = api.until(REMOVAL, |_| true).await;
    assert!(api.get(CRON_JOB).is_none(), "no run begins any more");
    assert!(job["metadata"].get("ownerReferences").is_none());
    let policy = api
        .until(POLICY, |policy| shows(policy, "Ready", "False", "RemovingArchives"))
        .await;
    assert!(
        condition(&policy, "Ready").unwrap()["message"]
            .to_string()
            .contains("shop-dpolicyui")
    );
    let said = json!({"removed": 1, "left": ["2026-08-20"], "message": "1 archives removed; 2026-08-20 is left"});
    ended(&api, "Complete", "Succeeded", &said.to_string());
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesLeft").contains("1 archives removed"));
    assert!(counted(&operator, "Left"));
    assert!(api.get(TODAY).is_none(), "the record goes with its archive");
    assert!(
        api.get(&format!("{RECORDS}/shop-20260820")).is_some(),
        "what is left keeps its record"
    );
    assert_eq!(count(&api, &format!("POST {JOBS}")), 1);
}

#[tokio::test]
async fn in_a_namespace_that_goes_the_archives_stay_and_the_policy_goes() {
    let api = FakeApi::default();
    api.create(POLICIES, deleting());
    let operator = Operator::start_at(&api, now);
    api.until(POLICY, |policy| {
        shows(policy, "Ready", "True", "Reconciled") && has_finalizer(policy)
    })
    .await;
    api.inject(|request| (request.method == Method::POST && request.path == JOBS).then_some(Fault::GoingNamespace));
    api.delete(POLICY);
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesRetained").contains("the namespace shop is being deleted"));
    assert!(counted(&operator, "Retained"));
}

#[tokio::test]
async fn what_fails_or_does_not_end_leaves_the_archives_and_says_why() {
    let api = FakeApi::default();
    api.create(POLICIES, deleting());
    let operator = Operator::start_at(&api, now);
    api.until(POLICY, has_finalizer).await;
    api.delete(POLICY);
    api.until(REMOVAL, |_| true).await;
    ended(&api, "Failed", "Failed", "it answered 403: AccessDenied");
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesLeft").contains("AccessDenied"));
    assert!(counted(&operator, "Left"));
    drop(operator);

    let api = FakeApi::default();
    api.create(POLICIES, deleting());
    let operator = Operator::start_at(&api, now);
    api.until(POLICY, has_finalizer).await;
    api.delete(POLICY);
    api.until(REMOVAL, |_| true).await;
    drop(operator);
    let _operator = Operator::start_at(&api, late);
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesLeft").contains("an hour was not enough"));
    gone(&api, REMOVAL).await;
}

#[tokio::test]
async fn who_changes_their_mind_or_removes_the_operator_keeps_the_archives() {
    let api = FakeApi::default();
    api.create(POLICIES, deleting());
    let operator = Operator::start_at(&api, now);
    api.until(POLICY, has_finalizer).await;
    api.merge(POLICY, json!({"spec": {"deletionPolicy": null}}));
    api.until(POLICY, |policy| !has_finalizer(policy)).await;
    api.merge(POLICY, json!({"spec": {"deletionPolicy": "Delete"}}));
    api.until(POLICY, has_finalizer).await;
    drop(operator);
    release(&Clients::single(api.client()), &[Scope::Cluster])
        .await
        .unwrap();
    assert!(!has_finalizer(&api.get(POLICY).unwrap()));
    api.delete(POLICY);
    assert!(api.get(POLICY).is_none());
    assert_eq!(count(&api, &format!("POST {JOBS}")), 0);
}
