//! Records: whose they are, when they must be there, what they come to say.

use super::*;
use crate::fake_api::Fault;
use http::Method;

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

/// A CronJob as an earlier life of the operator left it.
fn cron_job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "shop", "creationTimestamp": "2026-08-20T09:00:01Z", "labels": {"resilience.valerix.io/policy": "shop"},
            "ownerReferences": [{"apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "name": "shop", "uid": "policy-uid", "controller": true}]},
        "spec": {"schedule": "15 4 * * *", "suspend": true},
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
async fn the_record_of_a_policy_that_is_deleted_in_the_middle_of_a_run_has_an_end() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let operator = Operator::start(&api);
    ask(&api, "one");
    answered(&api, "one").await;
    api.merge(
        TODAY,
        json!({"status": {"phase": "Dumping", "startedAt": "2026-08-21T11:59:00Z", "message": "dumping databases[0] orders (1 of 2)"}}),
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
