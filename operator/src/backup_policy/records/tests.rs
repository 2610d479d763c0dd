use super::super::fixtures;
use super::*;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use valerix_crds::BackupSchedule;

fn schedule_at(time: &str, zone: &str) -> Schedule {
    let schedule = BackupSchedule {
        time_of_day: time.into(),
        time_zone: zone.into(),
        catch_up_window: None,
    };
    Schedule::new(&schedule, fixtures::now()).unwrap()
}

fn schedule() -> Schedule {
    schedule_at("04:00", "Etc/UTC")
}

fn record(status: Value) -> Arc<Backup> {
    Arc::new(serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": "shop-20260821", "namespace": "shop", "resourceVersion": "7"},
        "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": "2026-08-21", "scheduledAt": "2026-08-21T04:00:00Z"},
        "status": status,
    })).unwrap())
}

fn job(conditions: Value) -> Arc<Job> {
    let name = backup_runner::job_name("shop", fixtures::at("2026-08-21T04:00:00Z"));
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": "job-uid"}, "status": {"conditions": conditions},
        }))
        .unwrap(),
    )
}

fn pod(status: Value) -> Arc<Pod> {
    let name = backup_runner::job_name("shop", fixtures::at("2026-08-21T04:00:00Z"));
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": name}}, "status": status,
        }))
        .unwrap(),
    )
}

fn judge(
    status: Value,
    jobs: Vec<Arc<Job>>,
    pods: Vec<Arc<Pod>>,
    now: &str,
) -> (Vec<Correction>, Option<DateTime<Utc>>) {
    let observed = Observed {
        records: vec![record(status)],
        jobs,
        pods,
        ..Observed::default()
    };
    corrections("shop", Some(&schedule()), 7200, &observed, fixtures::at(now))
}

#[test]
fn the_table_of_ends() {
    let none = json!([]);
    let failed = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]);
    let complete = json!([{"type": "Complete", "status": "True"}]);
    let at = |phase: &str, upload: &str| json!({"phase": phase, "startedAt": "2026-08-21T04:00:05Z", "upload": {"state": upload}});
    let (noon, next_day) = ("2026-08-21T12:00:00Z", "2026-08-22T00:02:00Z");
    for (status, jobs, now, expected) in [
        // The runner told its end: nothing is added.
        (at("Completed", "Completed"), vec![job(failed.clone())], noon, None),
        (at("Failed", "None"), vec![job(failed.clone())], noon, None),
        (at("Unknown", "Started"), vec![job(failed.clone())], noon, None),
        (at("Uploading", "Completed"), vec![job(failed.clone())], noon, None),
        // The Job gave up.
        (
            at("Scheduled", "None"),
            vec![job(failed.clone())],
            noon,
            Some((BackupPhase::Failed, "JobFailed")),
        ),
        (
            at("Verifying", "None"),
            vec![job(failed.clone())],
            noon,
            Some((BackupPhase::Failed, "JobFailed")),
        ),
        (
            at("Uploading", "Started"),
            vec![job(failed)],
            noon,
            Some((BackupPhase::Unknown, "JobFailed")),
        ),
        (
            at("Uploading", "Unknown"),
            vec![job(json!([{"type": "Failed", "status": "True"}]))],
            noon,
            Some((BackupPhase::Unknown, "JobFailed")),
        ),
        // It goes on, or has ended well and the record is on its way.
        (at("Dumping", "None"), vec![job(none.clone())], next_day, None),
        (at("Uploading", "Started"), vec![job(complete)], next_day, None),
        // No Job: missed when the day and the window have passed, gone when the deadline has.
        (at("Scheduled", "None"), vec![], "2026-08-21T03:00:00Z", None),
        (at("Scheduled", "None"), vec![], noon, None),
        (at("Scheduled", "None"), vec![], "2026-08-22T00:01:59Z", None),
        (
            at("Scheduled", "None"),
            vec![],
            next_day,
            Some((BackupPhase::Missed, "Missed")),
        ),
        (at("Scheduled", "None"), vec![job(none)], next_day, None),
        (at("Dumping", "None"), vec![], "2026-08-21T06:02:04Z", None),
        (
            at("Dumping", "None"),
            vec![],
            "2026-08-21T06:02:05Z",
            Some((BackupPhase::Failed, "JobGone")),
        ),
        (
            at("Uploading", "Started"),
            vec![],
            noon,
            Some((BackupPhase::Unknown, "JobGone")),
        ),
    ] {
        let (found, _) = judge(status.clone(), jobs, vec![], now);
        let found = found
            .first()
            .map(|correction| (correction.phase, correction.reason.as_str()));
        assert_eq!(found, expected, "{status} {now}");
    }
}

#[test]
fn an_edited_schedule_moves_the_run_within_its_day_and_never_before_its_record() {
    let told = |schedule: &Schedule, jobs, now: &str| {
        let observed = Observed {
            records: vec![record(json!({"phase": "Scheduled"}))],
            jobs,
            ..Observed::default()
        };
        corrections("shop", Some(schedule), 7200, &observed, fixtures::at(now))
    };
    // Later: its window reaches into the next day, so midnight is not yet its end.
    let later = schedule_at("22:00", "Etc/UTC");
    let (found, look_again) = told(&later, vec![], "2026-08-22T00:02:00Z");
    assert_eq!(
        (found, look_again),
        (vec![], Some(fixtures::at("2026-08-22T04:02:00Z")))
    );
    let (found, _) = told(&later, vec![], "2026-08-22T04:02:00Z");
    let window = "from 2026-08-21T22:00:00Z to 2026-08-22T04:00:00Z";
    assert!(found[0].message.contains(window), "{}", found[0].message);
    // Earlier: the record was made for 04:00.
    let earlier = schedule_at("01:00", "Etc/UTC");
    let (found, _) = told(&earlier, vec![], "2026-08-22T00:02:00Z");
    assert!(
        found[0].message.contains("from 2026-08-21T04:00:00Z"),
        "{}",
        found[0].message
    );
    // A Job that ran at the old time is still the day's.
    let failed = json!([{"type": "Failed", "status": "True"}]);
    let (found, _) = told(&later, vec![job(failed)], "2026-08-21T12:00:00Z");
    assert_eq!(found[0].reason, "JobFailed");
}

#[test]
fn a_day_ends_at_midnight_of_its_zone() {
    let tokyo = schedule_at("04:00", "Asia/Tokyo");
    let mut record = Backup::clone(&record(json!({"phase": "Scheduled"})));
    record.spec.scheduled_at = fixtures::at("2026-08-20T19:00:00Z");
    let mut running = Job::clone(&job(json!([])));
    running.metadata.name = Some(backup_runner::job_name("shop", record.spec.scheduled_at));
    let mut observed = Observed {
        records: vec![Arc::new(record)],
        ..Observed::default()
    };
    let midnight = fixtures::at("2026-08-21T15:00:00Z");
    let told = |observed: &Observed, now| corrections("shop", Some(&tokyo), 7200, observed, now);
    assert_eq!(told(&observed, midnight), (vec![], Some(midnight + GRACE)));
    assert_eq!(told(&observed, midnight + GRACE).0[0].reason, "Missed");
    // The Job's name is of the day before in UTC.
    observed.jobs = vec![Arc::new(running)];
    assert_eq!(told(&observed, midnight + GRACE).0, []);
}

#[test]
fn the_newest_job_of_a_day_and_the_first_moment_of_several_records_count() {
    let made = |at: &str, conditions: Value| {
        let mut job = Job::clone(&job(conditions));
        job.metadata.creation_timestamp = Some(clock::time(fixtures::at(at)));
        Arc::new(job)
    };
    let first = made(
        "2026-08-21T04:00:00Z",
        json!([{"type": "Failed", "status": "True", "message": "x".repeat(3000)}]),
    );
    let second = made("2026-08-21T05:00:00Z", json!([]));
    let status = json!({"phase": "Dumping"});
    for jobs in [vec![first.clone(), second.clone()], vec![second, first.clone()]] {
        assert_eq!(judge(status.clone(), jobs, vec![], "2026-08-21T05:01:00Z").0, []);
    }
    let (found, _) = judge(status, vec![first], vec![], "2026-08-21T05:01:00Z");
    assert_eq!(found[0].message.chars().count(), MAX_MESSAGE);

    let waiting = record(json!({"phase": "Scheduled"}));
    let working = record(json!({"phase": "Dumping", "startedAt": "2026-08-21T04:00:05Z"}));
    for records in [vec![waiting.clone(), working.clone()], vec![working, waiting]] {
        let observed = Observed {
            records,
            ..Observed::default()
        };
        let (_, look_again) = corrections(
            "shop",
            Some(&schedule()),
            7200,
            &observed,
            fixtures::at("2026-08-21T05:00:00Z"),
        );
        assert_eq!(look_again, Some(fixtures::at("2026-08-21T06:02:05Z")));
    }
}

#[test]
fn a_pod_that_cannot_start_is_told_and_remembered() {
    let image = json!({"containerStatuses": [{"name": "backup", "image": "x/y:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}]});
    let (found, _) = judge(
        json!({"phase": "Scheduled"}),
        vec![job(json!([]))],
        vec![pod(image.clone())],
        "2026-08-21T04:01:00Z",
    );
    assert_eq!(
        (found[0].phase, found[0].reason.as_str()),
        (BackupPhase::Scheduled, "ImagePullFailed")
    );
    let patch = correction_patch(&found[0], fixtures::now());
    assert!(patch["status"].get("completedAt").is_none(), "nothing has ended");
    let mut strangers = Pod::clone(&pod(image.clone()));
    strangers.metadata.labels = Some([("batch.kubernetes.io/job-name".to_owned(), "shop-1".to_owned())].into());
    assert_eq!(
        judge(
            json!({"phase": "Scheduled"}),
            vec![job(json!([]))],
            vec![Arc::new(strangers)],
            "2026-08-21T04:01:00Z"
        )
        .0,
        []
    );
    let message = found[0].message.clone();
    let told = json!({"phase": "Scheduled", "message": message});
    assert!(
        judge(
            told.clone(),
            vec![job(json!([]))],
            vec![pod(image)],
            "2026-08-21T04:01:00Z"
        )
        .0
        .is_empty()
    );

    let failed = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]);
    let oom = json!({"containerStatuses": [{"name": "backup", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]});
    let (found, _) = judge(told, vec![job(failed)], vec![pod(oom)], "2026-08-21T06:01:00Z");
    for text in ["DeadlineExceeded", "137 (OOMKilled)", "x/y:1 cannot be pulled"] {
        assert!(found[0].message.contains(text), "{text} in {}", found[0].message);
    }
    let patch = correction_patch(&found[0], fixtures::now());
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert_eq!(patch["status"]["completedAt"], "2026-08-21T12:00:00Z");
    assert!(
        patch["status"].get("upload").is_none(),
        "the fence is the runner's alone"
    );

    let unschedulable = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "persistentvolumeclaim \"b\" not found"}]});
    let (found, _) = judge(
        json!({"phase": "Scheduled"}),
        vec![job(json!([]))],
        vec![pod(unschedulable)],
        "2026-08-21T04:01:00Z",
    );
    assert!(found[0].message.contains("persistentvolumeclaim \"b\" not found"));
}

#[test]
fn a_due_record_is_looked_at_again_when_it_can_be_missed() {
    let (_, look_again) = judge(json!({"phase": "Scheduled"}), vec![], vec![], "2026-08-21T04:00:01Z");
    assert_eq!(look_again, Some(fixtures::at("2026-08-22T00:02:00Z")));
    // Also one that is not due yet: an edit may have moved the policy's next run away from it.
    let (_, look_again) = judge(json!({"phase": "Scheduled"}), vec![], vec![], "2026-08-20T04:00:01Z");
    assert_eq!(look_again, Some(fixtures::at("2026-08-22T00:02:00Z")));
}

#[test]
fn a_day_that_an_edit_left_without_a_run_says_so() {
    // Made for 04:00 UTC; in Tokyo the day's 04:00 was nine hours before.
    let tokyo = schedule_at("04:00", "Asia/Tokyo");
    let observed = Observed {
        records: vec![record(json!({"phase": "Scheduled"}))],
        ..Observed::default()
    };
    let told = |now: &str| corrections("shop", Some(&tokyo), 7200, &observed, fixtures::at(now));
    assert_eq!(
        told("2026-08-20T20:00:00Z").1,
        Some(fixtures::at("2026-08-21T15:02:00Z"))
    );
    let (found, _) = told("2026-08-21T15:02:00Z");
    assert!(
        found[0].message.contains("the schedule was changed meanwhile"),
        "{}",
        found[0].message
    );
    assert!(!found[0].message.contains("suspended"), "{}", found[0].message);
}

#[test]
fn a_wrong_schedule_keeps_what_jobs_say_and_judges_no_day_without_one() {
    let told = |status: Value, jobs, pods| {
        let observed = Observed {
            records: vec![record(status)],
            jobs,
            pods,
            ..Observed::default()
        };
        corrections("shop", None, 7200, &observed, fixtures::at("2026-08-23T04:00:00Z")).0
    };
    assert_eq!(told(json!({"phase": "Scheduled"}), vec![], vec![]), []);
    let failed = json!([{"type": "Failed", "status": "True"}]);
    assert_eq!(
        told(json!({"phase": "Dumping"}), vec![job(failed)], vec![])[0].reason,
        "JobFailed"
    );
    let unschedulable = pod(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}]}),
    );
    let found = told(json!({"phase": "Scheduled"}), vec![job(json!([]))], vec![unschedulable]);
    assert_eq!(found[0].reason, "Unschedulable");
}

#[test]
fn a_job_after_the_recorded_end_is_heard() {
    let made = |at: &str, conditions: Value| {
        let mut job = Job::clone(&job(conditions));
        job.metadata.creation_timestamp = Some(clock::time(fixtures::at(at)));
        vec![Arc::new(job)]
    };
    let ended = json!({"phase": "Failed", "message": "the first", "completedAt": "2026-08-21T03:00:00Z"});
    let pods = || {
        vec![pod(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}]}),
        )]
    };
    let now = "2026-08-21T04:05:00Z";
    // The scheduled run after a run by hand that failed.
    let (found, _) = judge(ended.clone(), made("2026-08-21T04:00:00Z", json!([])), pods(), now);
    assert_eq!(
        (found[0].phase, found[0].reason.as_str()),
        (BackupPhase::Scheduled, "Unschedulable")
    );
    let failed = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]);
    let (found, _) = judge(ended.clone(), made("2026-08-21T04:00:00Z", failed.clone()), vec![], now);
    assert_eq!(
        (found[0].phase, found[0].reason.as_str()),
        (BackupPhase::Failed, "JobFailed")
    );
    // The Job that the record's end is of, and an end that may hide an archive.
    assert_eq!(
        judge(ended, made("2026-08-21T02:59:00Z", failed.clone()), vec![], now).0,
        []
    );
    let doubt = json!({"phase": "Unknown", "completedAt": "2026-08-21T03:00:00Z", "upload": {"state": "Started"}});
    assert_eq!(judge(doubt, made("2026-08-21T04:00:00Z", failed), vec![], now).0, []);
}

#[test]
fn a_refused_pod_is_told_and_asked_about_again() {
    let name = backup_runner::job_name("shop", fixtures::at("2026-08-21T04:00:00Z"));
    let told = |message: &str, refused: &[(&str, &str)]| {
        let observed = Observed {
            records: vec![record(json!({"phase": "Scheduled", "message": message}))],
            jobs: vec![job(json!([]))],
            refused: refused
                .iter()
                .map(|(job, why)| ((*job).to_owned(), (*why).to_owned()))
                .collect(),
            ..Observed::default()
        };
        corrections(
            "shop",
            Some(&schedule()),
            7200,
            &observed,
            fixtures::at("2026-08-21T04:01:00Z"),
        )
    };
    let again = Some(fixtures::at("2026-08-21T04:01:30Z"));
    assert_eq!(told("", &[]), (vec![], again));
    let why =
        "Error creating: pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9";
    let (found, _) = told("", &[(&name, why)]);
    assert_eq!(
        (found[0].phase, found[0].reason.as_str()),
        (BackupPhase::Scheduled, "PodRefused")
    );
    assert!(found[0].message.contains("exceeded quota: q"), "{}", found[0].message);
    assert_eq!(
        told(&found[0].message, &[(&name, why)]),
        (vec![], again),
        "said once, asked on"
    );
}

#[test]
fn a_later_pod_that_is_refused_is_told_and_how_far_the_run_was_stays() {
    let name = backup_runner::job_name("shop", fixtures::at("2026-08-21T04:00:00Z"));
    let made = || {
        let mut job = Job::clone(&job(json!([])));
        job.metadata.creation_timestamp = Some(clock::time(fixtures::at("2026-08-21T04:00:00Z")));
        Arc::new(job)
    };
    let told = |status: Value, pods, refused: Option<&str>| {
        let observed = Observed {
            records: vec![record(status)],
            jobs: vec![made()],
            pods,
            refused: refused.map(|why| (name.clone(), why.to_owned())).into_iter().collect(),
            ..Observed::default()
        };
        corrections(
            "shop",
            Some(&schedule()),
            7200,
            &observed,
            fixtures::at("2026-08-21T04:05:00Z"),
        )
    };
    let dumping = json!({"phase": "Dumping", "message": "dumping databases[0] orders (1 of 2)"});
    let ended = || vec![pod(json!({"phase": "Failed"}))];
    let again = Some(fixtures::at("2026-08-21T04:05:30Z"));
    assert_eq!(told(dumping.clone(), ended(), None), (vec![], again));
    let (found, _) = told(dumping.clone(), ended(), Some("Error creating: exceeded quota: q"));
    assert_eq!(
        (found[0].phase, found[0].reason.as_str()),
        (BackupPhase::Dumping, "PodRefused")
    );
    assert_eq!(found[0].evidence, Evidence::Progress);
    // At work: its own words stand. Behind the fence they do in any case.
    let working = vec![pod(json!({"phase": "Running"}))];
    assert_eq!(told(dumping, working, None), (vec![], None));
    let uploading = json!({"phase": "Uploading", "upload": {"state": "Started"}});
    assert_eq!(told(uploading, ended(), Some("Error creating: q")), (vec![], None));
}

#[test]
fn what_a_deleted_policy_left_in_the_middle_has_an_end() {
    for (status, expected) in [
        (json!({"phase": "Scheduled"}), Some(BackupPhase::Missed)),
        (json!({"phase": "Dumping"}), Some(BackupPhase::Failed)),
        (
            json!({"phase": "Uploading", "upload": {"state": "Started"}}),
            Some(BackupPhase::Unknown),
        ),
        (json!({"phase": "Uploading", "upload": {"state": "Completed"}}), None),
        (json!({"phase": "Failed"}), None),
    ] {
        let found = of_gone_policies(&[record(status.clone())]);
        assert_eq!(found.first().map(|correction| correction.phase), expected, "{status}");
        assert!(found.iter().all(|correction| correction.reason == "PolicyGone"));
    }
}
