//! Policies that are deleted with their archives, against the fake API server: what comes before what, and that nothing
//! holds a policy or a namespace for good.

use super::*;
use crate::fake_api::Fault;
use http::Method;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// What was to end has had its time.
fn late() -> DateTime<Utc> {
    fixtures::at("2026-01-01T02:00:00Z")
}

static TIME_HAS_PASSED: AtomicBool = AtomicBool::new(false);

fn now_or_late() -> DateTime<Utc> {
    if TIME_HAS_PASSED.load(Ordering::SeqCst) {
        late()
    } else {
        now()
    }
}

/// An operator of this namespace alone, and a policy that has the finalizer.
async fn watched(api: &FakeApi, clock: fn() -> DateTime<Utc>) -> Operator {
    api.create(POLICIES, deleting());
    let shop = Scope::Namespace("shop".into());
    let operator = Operator::start_in(api, shop, fixtures::runner(), clock);
    api.until(POLICY, |policy| {
        shows(policy, "Ready", "True", "Reconciled") && has_finalizer(policy)
    })
    .await;
    operator
}

/// What a ClusterRole still allows once the Role in the namespace is gone.
fn lose_the_role(api: &FakeApi, is_namespace_told: bool) {
    api.inject(move |request| {
        let of_policies = request.path.contains("/backuppolicies") && !request.path.ends_with("/status");
        let of_the_namespace = is_namespace_told && request.path == "/api/v1/namespaces/shop";
        (!of_policies && !of_the_namespace).then_some(Fault::Refuse(403))
    });
    api.end_watches();
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
async fn a_namespace_that_takes_the_role_along_before_the_policy_is_not_held() {
    let api = FakeApi::default();
    let operator = watched(&api, now).await;
    going_namespace(&api);
    lose_the_role(&api, true);
    api.delete(POLICY);
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesRetained").contains("the namespace shop is being deleted"));
    assert!(counted(&operator, "Retained"));
}

/// What a namespace that is being deleted looks like to whoever may ask.
fn going_namespace(api: &FakeApi) {
    let metadata = json!({"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    api.create(
        "/api/v1/namespaces",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}),
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_when_the_role_is_gone_already_does_not_hold_the_namespace_either() {
    let api = FakeApi::default();
    let mut policy = deleting();
    policy["metadata"]["finalizers"] = json!([FINALIZER]);
    policy["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    api.create(POLICIES, policy);
    going_namespace(&api);
    lose_the_role(&api, true);
    let shop = Scope::Namespace("shop".into());
    let _operator = Operator::start_in(&api, shop, fixtures::runner(), now);
    let gone = tokio::time::timeout(Duration::from_secs(600), async {
        while api.get(POLICY).is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert!(gone.await.is_ok(), "{:?}", api.writes());
}

#[tokio::test]
async fn who_may_do_nothing_but_take_the_finalizer_away_does_so_in_the_end() {
    let api = FakeApi::default();
    let operator = watched(&api, now_or_late).await;
    lose_the_role(&api, false);
    api.forget_requests();
    api.delete(POLICY);
    let refused = tokio::time::timeout(Duration::from_secs(20), async {
        while count(&api, &format!("DELETE {CRON_JOB}")) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(refused.await.is_ok(), "it is tried again: {:?}", api.writes());
    assert!(api.get(POLICY).is_some_and(|policy| has_finalizer(&policy)));
    TIME_HAS_PASSED.store(true, Ordering::SeqCst);
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesLeft").contains("failed to delete shop"));
    assert!(counted(&operator, "Left"));
}

#[tokio::test]
async fn a_policy_where_the_operator_does_not_work_any_more_has_no_finalizer() {
    let api = FakeApi::default();
    let operator = watched(&api, now).await;
    drop(operator);
    let bank = Scope::Namespace("bank".into());
    let _operator = Operator::start_in(&api, bank, fixtures::runner(), now);
    api.until(POLICY, |policy| !has_finalizer(policy)).await;
    api.delete(POLICY);
    assert!(api.get(POLICY).is_none());
}

#[tokio::test]
async fn an_operator_that_was_away_removes_all_the_same_and_gives_up_for_its_own_reason() {
    let api = FakeApi::default();
    let operator = watched(&api, now).await;
    drop(operator);
    api.delete(POLICY);
    let refuse = Fault::Refuse(422);
    api.inject(move |request| (request.method == Method::POST && request.path == JOBS).then_some(refuse));
    let operator = Operator::start_at(&api, late);
    api.until(POLICY, |policy| {
        let message = condition(policy, "Ready").map(|ready| ready["message"].to_string());
        message.is_some_and(|message| message.contains("failed to create the Job shop-dpolicyui"))
    })
    .await;
    // That was the first time that anybody tried.
    assert!(api.get(POLICY).is_some_and(|policy| has_finalizer(&policy)));
    api.inject(|_| None);
    api.until(REMOVAL, |_| true).await;
    drop(operator);
}

#[tokio::test]
async fn what_cannot_be_tidied_up_holds_no_policy_for_good() {
    let api = FakeApi::default();
    let stored = json!({"phase": "Completed", "upload": {"state": "Completed", "claimName": "backups"}});
    api.create(RECORDS, with_slot("shop-20260821", "2026-08-21", stored));
    let operator = watched(&api, now).await;
    api.delete(POLICY);
    api.until(REMOVAL, |_| true).await;
    api.inject(|request| (request.method == Method::DELETE && request.path == TODAY).then_some(Fault::Refuse(403)));
    let said = json!({"removed": 1, "left": [], "message": "1 archives removed"});
    ended(&api, "Complete", "Succeeded", &said.to_string());
    let refused = tokio::time::timeout(Duration::from_secs(20), async {
        while count(&api, &format!("DELETE {TODAY}")) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(refused.await.is_ok());
    assert!(api.get(POLICY).is_some(), "it is tried again");
    drop(operator);
    let _operator = Operator::start_at(&api, late);
    gone(&api, POLICY).await;
    assert!(told(&api, "ArchivesRemoved").contains("1 archives removed"));
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
    assert!(told(&api, "ArchivesLeft").contains("given up after 120 min: Job shop-dpolicyui removes the archives"));
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
