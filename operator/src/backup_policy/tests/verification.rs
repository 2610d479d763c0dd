//! Trial restores against the fake API server: one Job for an archive, under an account that goes when it is not needed.

use super::*;
use crate::fake_api::Fault;
use http::Method;

const TRIAL: &str = "/apis/batch/v1/namespaces/shop/jobs/shop-v20260821";
const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/shop-verify";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/shop-verify";
const NETWORK: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/shop-verify";

fn restoring() -> Value {
    let mut policy = policy();
    policy["spec"]["verification"] = json!({"restore": "EveryRun"});
    policy
}

fn stored(api: &FakeApi) {
    let status = json!({
        "phase": "Completed", "completedAt": "2026-08-21T02:16:00Z", "verified": "Local",
        "upload": {"state": "Completed", "sha256": "abc", "bytes": 7, "key": "shop/shop/20260821.tar.zst"},
    });
    api.create(RECORDS, with_slot("shop-20260821", "2026-08-21", status));
}

#[tokio::test]
async fn a_stored_archive_is_restored_by_one_job_of_another_account() {
    let api = FakeApi::default();
    stored(&api);
    api.create(POLICIES, restoring());
    let _operator = Operator::start(&api);
    let job = api.until(TRIAL, |_| true).await;
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "shop-verify");
    assert!(api.get(ACCOUNT).is_some() && api.get(BINDING).is_some());
    let writes = api.writes();
    let place = |write: &str| writes.iter().position(|done| *done == write);
    let held = place(&format!("PATCH {NETWORK}"));
    assert!(held.is_some() && held < place(&format!("POST {JOBS}")), "{writes:?}");
    let policy = api
        .until(POLICY, |policy| shows(policy, "Verified", "Unknown", "NotRestored"))
        .await;
    assert_eq!(policy["status"]["summary"]["verified"], "NotRestored");
    rest(&api).await;
    assert_eq!(count(&api, &format!("POST {JOBS}")), 1);

    // The verifier says what it found; once its Job is gone nobody starts another.
    let found = json!({"state": "Restored", "rung": "Time", "restoreSeconds": 3, "message": "2 databases restored"});
    api.merge(
        TODAY,
        json!({"status": {"verified": "Restored", "verification": found}}),
    );
    let policy = api
        .until(POLICY, |policy| shows(policy, "Verified", "True", "Restored"))
        .await;
    assert_eq!(policy["status"]["summary"]["verified"], "Restored");
    assert_eq!(policy["status"]["lastSuccess"]["verified"], "Restored");
    assert_eq!(policy["status"]["lastSuccess"]["key"], "shop/shop/20260821.tar.zst");
    api.delete(TRIAL);
    rest(&api).await;
    assert_eq!(count(&api, &format!("POST {JOBS}")), 1);

    api.merge(POLICY, json!({"spec": {"verification": {"restore": "Off"}}}));
    rest(&api).await;
    assert!(api.get(ACCOUNT).is_none() && api.get(BINDING).is_none() && api.get(NETWORK).is_none());
}

#[tokio::test]
async fn what_holds_a_trial_back_is_put_back_and_where_it_is_refused_the_trial_runs_and_it_is_told() {
    let api = FakeApi::default();
    stored(&api);
    api.inject(|request| (request.is_write() && request.path == NETWORK).then_some(Fault::Refuse(403)));
    api.create(POLICIES, restoring());
    let _operator = Operator::start(&api);
    api.until(TRIAL, |_| true).await;
    // The days' runs go on.
    let policy = api
        .until(POLICY, |policy| {
            let ready = condition(policy, "Ready");
            ready.is_some_and(|ready| ready["status"] == "False") && shows(policy, "Scheduled", "True", "NextRunKnown")
        })
        .await;
    let ready = condition(&policy, "Ready").unwrap();
    assert!(
        ready["message"].to_string().contains("NetworkPolicy shop-verify"),
        "{ready}"
    );
    // What was put back meanwhile is told.
    api.merge(CRON_JOB, json!({"spec": {"schedule": "1 1 * * *"}}));
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        let drift = |request: &crate::fake_api::Recorded| request.body.to_string().contains("CronJob shop was changed");
        while !api.requests().iter().any(drift) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(told.await.is_ok(), "{:?}", api.writes());

    api.inject(|_| None);
    let egress = api.until(NETWORK, |_| true).await["spec"]["egress"].clone();
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    api.merge(NETWORK, json!({"spec": {"egress": [{}]}}));
    api.until(NETWORK, |policy| policy["spec"]["egress"] == egress).await;

    // No trials any more: the one at work is held back to its end.
    api.merge(POLICY, json!({"spec": {"verification": {"restore": "Off"}}}));
    rest(&api).await;
    assert!(api.get(BINDING).is_none() && api.get(NETWORK).is_some());
    let complete = json!([{"type": "Complete", "status": "True"}]);
    api.merge(TRIAL, json!({"status": {"conditions": complete}}));
    rest(&api).await;
    assert!(api.get(NETWORK).is_none());
}

#[tokio::test]
async fn a_trial_is_held_back_from_its_beginning_whatever_hinders_the_rest() {
    let api = FakeApi::default();
    stored(&api);
    let of_tomorrow = |request: &crate::fake_api::Recorded| request.method == Method::POST && request.path == RECORDS;
    api.inject(move |request| of_tomorrow(request).then_some(Fault::Refuse(403)));
    api.create(POLICIES, restoring());
    let _operator = Operator::start(&api);
    api.until(TRIAL, |_| true).await;
    assert!(api.get(NEXT).is_none() && api.get(CRON_JOB).is_none());
    let writes = api.writes();
    let place = |write: &str| writes.iter().position(|done| *done == write);
    let held = place(&format!("PATCH {NETWORK}"));
    assert!(held.is_some() && held < place(&format!("POST {JOBS}")), "{writes:?}");
}

#[tokio::test]
async fn a_trial_that_the_cache_does_not_know_yet_is_held_back_to_its_end() {
    let api = FakeApi::default();
    stored(&api);
    let of_jobs = |request: &crate::fake_api::Recorded| request.is_watch() && request.path.ends_with("/jobs");
    api.inject(move |request| of_jobs(request).then_some(Fault::Delay(Duration::from_secs(1_000_000))));
    api.create(POLICIES, restoring());
    let _operator = Operator::start(&api);
    api.until(TRIAL, |_| true).await;
    api.merge(POLICY, json!({"spec": {"verification": {"restore": "Off"}}}));
    rest(&api).await;
    // What goes is looked at after what holds trials back.
    assert!(api.get(BINDING).is_none() && api.get(NETWORK).is_some());
}

#[tokio::test]
async fn who_wants_no_trial_held_back_need_not_wait_for_the_one_at_work() {
    let api = FakeApi::default();
    stored(&api);
    api.create(POLICIES, restoring());
    let _operator = Operator::start(&api);
    api.until(TRIAL, |_| true).await;
    api.until(NETWORK, |_| true).await;
    api.merge(POLICY, json!({"spec": {"verification": {"networkPolicy": "None"}}}));
    rest(&api).await;
    assert!(api.get(NETWORK).is_none() && api.get(BINDING).is_some());
    api.merge(POLICY, json!({"spec": {"verification": {"networkPolicy": "Managed"}}}));
    api.until(NETWORK, |_| true).await;
}

#[tokio::test]
async fn a_trial_that_ended_without_a_word_is_no_pass() {
    let api = FakeApi::default();
    stored(&api);
    api.create(POLICIES, restoring());
    let _operator = Operator::start(&api);
    api.until(TRIAL, |_| true).await;
    api.merge(TODAY, json!({"status": {"verification": {"state": "Running"}}}));
    let failed = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}]);
    api.merge(TRIAL, json!({"status": {"conditions": failed}}));
    let policy = api
        .until(POLICY, |policy| shows(policy, "Verified", "Unknown", "Inconclusive"))
        .await;
    let message = condition(&policy, "Verified").unwrap()["message"].to_string();
    assert!(
        message.contains("longer than specified deadline") && message.contains("shop-v20260821"),
        "{message}"
    );
    let record = api.get(TODAY).unwrap();
    assert_eq!(record["status"]["verification"]["state"], "Inconclusive");
    assert_eq!(
        record["status"]["phase"], "Completed",
        "the archive is as stored as before"
    );
    assert_eq!(record["status"]["verified"], "Local");
}
