//! What comes next for a policy that goes, row by row, and which records go with it.

use super::super::fixtures;
use super::*;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde_json::{Value, json};

fn going(deletion_policy: &str) -> BackupPolicy {
    let mut policy = fixtures::policy();
    policy.spec.deletion_policy = serde_json::from_value(json!(deletion_policy)).unwrap();
    policy.metadata.deletion_timestamp = Some(clock::time(fixtures::now()));
    policy
}

fn job(name: &str, condition: Option<&str>) -> Arc<Job> {
    let conditions = condition.map(|kind| json!([{"type": kind, "status": "True", "message": "too slow"}]));
    let job = json!({"metadata": {"name": name}, "status": {"conditions": conditions}});
    Arc::new(serde_json::from_value(job).unwrap())
}

/// The same with the time of its end, or of its making.
fn job_of_time(name: &str, condition: Option<&str>, at: DateTime<Utc>) -> Arc<Job> {
    let mut job = Arc::unwrap_or_clone(job(name, condition));
    job.metadata.creation_timestamp = Some(clock::time(at));
    let conditions = job.status.iter_mut().flat_map(|status| &mut status.conditions);
    for condition in conditions.flatten() {
        condition.last_transition_time = Some(clock::time(at));
    }
    Arc::new(job)
}

fn pod(job: &str, phase: &str, message: Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": format!("{job}-x"), "labels": {JOB_NAME_LABEL: job}},
        "status": {"phase": phase, "containerStatuses": [{
            "name": "backup", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": if phase == "Succeeded" { 0 } else { 20 }, "message": message}},
        }]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn cron_job(owner: &str) -> Arc<CronJob> {
    let owner = json!([{"apiVersion": "v1", "kind": "BackupPolicy", "name": "shop", "uid": owner, "controller": true}]);
    let metadata = json!({"name": "shop", "ownerReferences": owner});
    Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
}

#[test]
fn runs_end_then_one_job_removes_and_nothing_holds_the_policy_for_good() {
    let removal = job_of(&going("Delete"));
    assert_eq!(removal, "shop-dpolicyui");
    let said = json!({"removed": 3, "left": ["2026-08-01"], "message": "m"}).to_string();
    let report: RemovalReport = serde_json::from_str(&said).unwrap();
    let run = "shop-29787975";
    let wait = |why: &str| Step::Wait { why: why.into() };
    let left = |why: &str| {
        let (why, report) = (why.into(), None);
        Step::LetGo(Outcome::Left { why, report })
    };
    let none = Observed::default;
    let soon = fixtures::now() + PATIENCE - TimeDelta::seconds(1);
    let late = fixtures::now() + PATIENCE;
    let in_time = fixtures::now() + TimeDelta::minutes(40) - TimeDelta::seconds(1);
    let too_late = fixtures::now() + TimeDelta::minutes(40);
    for (row, observed, at, expected) in [
        ("nothing runs", none(), soon, Step::Start),
        (
            "the CronJob stands",
            Observed {
                cron_job: Some(cron_job("policy-uid")),
                ..none()
            },
            soon,
            Step::StopRuns,
        ),
        (
            "the CronJob is somebody else's",
            Observed {
                cron_job: Some(cron_job("other")),
                ..none()
            },
            soon,
            Step::Start,
        ),
        (
            "a run is at work",
            Observed {
                jobs: vec![job(run, None)],
                ..none()
            },
            soon,
            wait("a run is still at work (Job shop-29787975)"),
        ),
        (
            "its Job is gone and its pod not yet",
            Observed {
                pods: vec![pod(run, "Running", Value::Null)],
                ..none()
            },
            soon,
            wait("a run is still at work (Job shop-29787975)"),
        ),
        (
            "a run has ended",
            Observed {
                jobs: vec![job(run, Some("Complete"))],
                pods: vec![pod(run, "Succeeded", Value::Null)],
                ..none()
            },
            soon,
            Step::Start,
        ),
        (
            "it is at work",
            Observed {
                removal: Some(job(&removal, None)),
                ..none()
            },
            in_time,
            wait("Job shop-dpolicyui removes the archives"),
        ),
        (
            "nothing runs, however late it is",
            none(),
            late + TimeDelta::days(3),
            Step::Start,
        ),
        (
            "it was made late and is at work",
            Observed {
                removal: Some(job_of_time(&removal, None, late)),
                ..none()
            },
            late + TimeDelta::minutes(39),
            wait("Job shop-dpolicyui removes the archives"),
        ),
        (
            "it is at work as long as it may be",
            Observed {
                removal: Some(job_of_time(&removal, None, fixtures::now())),
                ..none()
            },
            in_time,
            wait("Job shop-dpolicyui removes the archives"),
        ),
        (
            "it is at work for too long",
            Observed {
                removal: Some(job_of_time(&removal, None, fixtures::now())),
                ..none()
            },
            too_late,
            left("given up after 40 min: Job shop-dpolicyui removes the archives"),
        ),
        (
            "it has ended before its pod is seen to have",
            Observed {
                removal: Some(job_of_time(&removal, Some("Complete"), fixtures::now())),
                ..none()
            },
            fixtures::now() + TimeDelta::seconds(29),
            wait("Job shop-dpolicyui has ended, and its last word is awaited"),
        ),
        (
            "it has ended, and its pod is gone",
            Observed {
                removal: Some(job_of_time(&removal, Some("Complete"), fixtures::now())),
                ..none()
            },
            fixtures::now() + TimeDelta::seconds(30),
            Step::LetGo(Outcome::Removed(RemovalReport {
                is_cut: true,
                message: "Job shop-dpolicyui ended well, and its pod is gone before it was read what it did".into(),
                ..RemovalReport::default()
            })),
        ),
        (
            "an earlier pod's word is not the last one",
            Observed {
                removal: Some(job(&removal, Some("Complete"))),
                pods: vec![
                    pod(&removal, "Succeeded", json!(said)),
                    pod(
                        &removal,
                        "Failed",
                        json!(json!({"removed": 0, "left": [], "message": "x"}).to_string()),
                    ),
                ],
                ..none()
            },
            soon,
            Step::LetGo(Outcome::Removed(report.clone())),
        ),
        (
            "runs do not end",
            Observed {
                jobs: vec![job(run, None)],
                ..none()
            },
            late,
            left("given up after 98 min: a run is still at work (Job shop-29787975)"),
        ),
        (
            "it has removed",
            Observed {
                removal: Some(job(&removal, Some("Complete"))),
                pods: vec![pod(&removal, "Succeeded", json!(said))],
                ..none()
            },
            late,
            Step::LetGo(Outcome::Removed(report)),
        ),
        (
            "it has failed, and said why",
            Observed {
                removal: Some(job(&removal, Some("Failed"))),
                pods: vec![pod(&removal, "Failed", json!("it answered 403"))],
                ..none()
            },
            soon,
            left("Job shop-dpolicyui failed: it answered 403"),
        ),
        (
            "it has failed without a word",
            Observed {
                removal: Some(job(&removal, Some("Failed"))),
                ..none()
            },
            soon,
            left("Job shop-dpolicyui failed: too slow"),
        ),
    ] {
        assert_eq!(decide(&going("Delete"), &observed, at), expected, "{row}");
    }
    let why = "spec.deletionPolicy is Retain".to_owned();
    assert_eq!(
        decide(&going("Retain"), &none(), soon),
        Step::LetGo(Outcome::Retained { why }),
        "who has changed their mind in time is heard"
    );
}

fn record(slot: &str, status: Value) -> Arc<Backup> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": slot},
            "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": "2026-08-20T00:00:00Z"},
            "status": status,
        }))
        .unwrap(),
    )
}

fn slots(policy: &BackupPolicy, records: &[Arc<Backup>], report: &RemovalReport) -> Vec<String> {
    let gone = forgotten(policy, records, report);
    gone.iter().map(|record| record.spec.slot.clone()).collect()
}

#[test]
fn an_operator_that_comes_back_late_waits_for_the_runs_that_it_ends() {
    let mut policy = going("Delete");
    let back = fixtures::now() + TimeDelta::days(1);
    let status = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "RemovingArchives",
        "message": "", "lastTransitionTime": clock::time(back)}]});
    policy.status = serde_json::from_value(status).unwrap();
    let observed = Observed {
        jobs: vec![job("shop-29787975", None)],
        ..Observed::default()
    };
    let step = |at| decide(&policy, &observed, at);
    assert!(matches!(step(back + TimeDelta::minutes(90)), Step::Wait { .. }));
    assert!(matches!(step(back + PATIENCE), Step::LetGo(Outcome::Left { .. })));
}

#[test]
fn what_must_be_read_to_its_end_is_given_the_time_for_it() {
    let stored = |bytes: i64| record("2026-08-01", json!({"upload": {"state": "Completed", "bytes": bytes}}));
    assert_eq!(deadline(&[]), 1800);
    assert_eq!(deadline(&[stored(80 << 30), stored(80 << 30)]), 1800 + 2 * 10_240);
    assert_eq!(deadline(&[stored(i64::MAX), stored(i64::MAX)]), 72_000);
}

#[test]
fn what_a_job_has_removed_before_it_failed_is_known() {
    let removal = job_of(&going("Delete"));
    let said = |left: &[&str]| {
        let report = json!({"removed": 1, "left": left, "message": "it answered 403; 1 archives removed before"});
        json!(report.to_string())
    };
    let observed = Observed {
        removal: Some(job(&removal, Some("Failed"))),
        pods: vec![
            pod(&removal, "Failed", said(&["2026-08-02"])),
            pod(&removal, "Failed", said(&["2026-08-01", "2026-08-02"])),
        ],
        ..Observed::default()
    };
    let Step::LetGo(Outcome::Left { why, report }) = decide(&going("Delete"), &observed, fixtures::now()) else {
        panic!("it has failed");
    };
    assert!(why.contains("failed: it answered 403"), "{why}");
    let upload = json!({"upload": {"state": "Completed", "claimName": "backups"}});
    let records = ["2026-08-01", "2026-08-02"].map(|slot| record(slot, upload.clone()));
    assert_eq!(slots(&going("Delete"), &records, &report.unwrap()), ["2026-08-01"]);
}

#[test]
fn the_records_of_what_is_left_or_lies_elsewhere_stay() {
    let at = |slot: &str, upload: Value| record(slot, json!({"upload": upload}));
    let records = [
        at("2026-08-01", json!({"state": "Completed", "claimName": "backups"})),
        at("2026-08-02", json!({"state": "Completed", "claimName": "backups"})),
        at("2026-08-03", json!({"state": "Completed", "claimName": "earlier"})),
        at("2026-08-04", json!({"state": "Completed", "bucket": "earlier"})),
        at("2026-08-05", json!({"state": "None"})),
        at(
            "2026-08-06",
            json!({"state": "Completed", "claimName": "backups", "key": "pg/shop/shop/20260806.tar.zst"}),
        ),
        at(
            "2026-08-07",
            json!({"state": "Completed", "claimName": "backups", "key": "earlier/shop/shop/20260807.tar.zst"}),
        ),
    ];
    let mut report = RemovalReport {
        left: vec!["2026-08-02".into()],
        ..RemovalReport::default()
    };
    let policy = going("Delete");
    assert_eq!(
        slots(&policy, &records, &report),
        ["2026-08-01", "2026-08-05", "2026-08-06"]
    );
    report.is_cut = true;
    assert_eq!(slots(&policy, &records, &report), [""; 0], "any other may be left too");
}

#[test]
fn in_a_bucket_the_store_counts_too_and_what_alone_tells_of_parts_stays() {
    let mut policy = going("Delete");
    let bucket = json!({"s3": {"bucket": "b", "prefix": "pg/", "endpoint": "http://store:9000/", "credentialsSecretRef": {"name": "c"}}});
    policy.spec.destination = serde_json::from_value(bucket).unwrap();
    let begun = |endpoint: Option<&str>| json!([{"id": "u", "bucket": "b", "endpoint": endpoint, "key": "k", "startedAt": "2026-08-20T00:00:00Z"}]);
    let stored = |slot: &str, endpoint: &str, uploads: Value| {
        let key = format!("pg/shop/shop/{}.tar.zst", slot.replace('-', ""));
        record(
            slot,
            json!({
                "upload": {"state": "Completed", "bucket": "b", "endpoint": endpoint, "key": key},
                "openUploads": uploads,
            }),
        )
    };
    let records = [
        stored("2026-08-01", "http://store:9000", json!([])),
        stored("2026-08-02", "http://earlier:9000", json!([])),
        stored("2026-08-03", "http://store:9000", begun(Some("http://store:9000"))),
        stored("2026-08-04", "http://store:9000", begun(None)),
        stored("2026-08-05", "http://store:9000", begun(Some("http://earlier:9000"))),
    ];
    assert_eq!(handed(&policy, &records).len(), 2);
    let mut report = RemovalReport::default();
    assert_eq!(
        slots(&policy, &records, &report),
        ["2026-08-01", "2026-08-03", "2026-08-04"]
    );
    report.open_uploads = 1;
    assert_eq!(slots(&policy, &records, &report), ["2026-08-01"]);
}
