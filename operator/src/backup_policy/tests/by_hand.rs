//! Runs by hand: one Job a day, answered once.

use super::*;
use http::Method;

const PODS: &str = "/api/v1/namespaces/shop/pods";

/// The day's Job has this pod.
fn pod(api: &FakeApi, status: Value) {
    let labels = json!({"batch.kubernetes.io/job-name": "shop-29787975", "resilience.valerix.io/policy": "shop"});
    let metadata = json!({"name": "shop-29787975-a", "labels": labels});
    api.create(
        PODS,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}),
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
    pod(&api, json!({"phase": "Running"}));
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
async fn a_job_that_cannot_start_makes_room_for_a_run_by_hand() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let _operator = Operator::start(&api);
    ask(&api, "one");
    answered(&api, "one").await;
    let first = api.get(JOB).unwrap()["metadata"]["uid"].clone();
    pod(&api, json!({"phase": "Running"}));
    ask(&api, "two");
    let run = answered(&api, "two").await;
    assert!(run["message"].as_str().unwrap().contains("at work"), "{run}");
    assert_eq!(api.get(JOB).unwrap()["metadata"]["uid"], first);

    // Its node went, and no other has the memory: the policy is told to ask for less.
    api.merge(&format!("{PODS}/shop-29787975-a"), json!({"status": {"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient memory."}]}}));
    api.until(TODAY, |record| record["status"]["reason"] == "Unschedulable")
        .await;
    api.merge(
        POLICY,
        json!({"spec": {"job": {"resources": {"requests": {"memory": "64Mi"}}}}}),
    );
    ask(&api, "three");
    answered(&api, "three").await;
    let job = api.get(JOB).unwrap();
    assert_ne!(job["metadata"]["uid"], first);
    assert_eq!(
        job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"],
        "64Mi"
    );
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
