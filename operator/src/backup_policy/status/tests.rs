//! What the status says of records, schedules and failures.

use super::super::{fixtures, validate::validate};
use super::*;
use serde_json::json;
use std::sync::Arc;

fn record(slot: &str, phase: &str, message: &str) -> Arc<Backup> {
    let upload = if phase == "Completed" {
        json!({"state": "Completed", "bytes": 1_258_291, "sha256": "abc"})
    } else {
        json!({"state": "None"})
    };
    Arc::new(serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": format!("shop-{}", slot.replace('-', "")), "namespace": "shop"},
        "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": format!("{slot}T02:15:00Z")},
        "status": {"phase": phase, "message": message, "upload": upload, "completedAt": format!("{slot}T02:16:00.5Z")},
    })).unwrap())
}

fn computed(policy: &BackupPolicy, records: Vec<Arc<Backup>>, now: &str) -> (BackupPolicyStatus, DateTime<Utc>) {
    let now = fixtures::at(now);
    let plan = validate(policy, &fixtures::runner(), now);
    let observed = Observed {
        records,
        ..Observed::default()
    };
    let found = Found {
        plan: plan.as_ref().ok(),
        error: plan.as_ref().err(),
        observed: &observed,
        last_run: None,
    };
    status(policy, &found, now)
}

fn shown<'a>(status: &'a BackupPolicyStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let condition = find_condition(&status.conditions, kind).unwrap();
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn a_whole_status() {
    let records = vec![
        record("2026-08-20", "Failed", "databases[0] orders: refused"),
        record("2026-08-21", "Completed", "2 databases, 1.2 MiB, stored"),
        record("2026-08-22", "Scheduled", ""),
    ];
    let (status, look_again) = computed(&fixtures::policy(), records, "2026-08-21T12:00:00Z");
    insta::assert_yaml_snapshot!("status", status);
    assert_eq!(look_again, fixtures::at("2026-08-22T02:15:00Z"));
}

#[test]
fn what_a_bucket_makes_of_conditions_is_told_of_this_bucket_alone() {
    let mut policy = fixtures::policy();
    let shown_for = |policy: &BackupPolicy, bucket: &str, seen: &str| {
        let mut record = (*record("2026-08-21", "Completed", "fine")).clone();
        let upload = &mut record.status.as_mut().unwrap().upload;
        upload.bucket = Some(bucket.into());
        upload.conditional_writes = serde_json::from_value(json!(seen)).unwrap();
        let (status, _) = computed(policy, vec![Arc::new(record)], "2026-08-21T05:00:00Z");
        find_condition(&status.conditions, CONDITIONAL_WRITES).map(|found| (found.status.clone(), found.reason.clone()))
    };
    assert_eq!(shown_for(&policy, "b", "Enforced"), None, "a volume never overwrites");
    policy.spec.destination =
        serde_json::from_value(json!({"s3": {"bucket": "b", "credentialsSecretRef": {"name": "store"}}})).unwrap();
    for (bucket, seen, status, reason) in [
        ("b", "Enforced", "True", "Enforced"),
        ("b", "Ignored", "False", "Ignored"),
        ("b", "Unknown", "Unknown", "NotAsked"),
        ("other", "Enforced", "Unknown", "NotAsked"),
    ] {
        let expected = Some((status.to_owned(), reason.to_owned()));
        assert_eq!(shown_for(&policy, bucket, seen), expected, "{bucket} {seen}");
    }
}

#[test]
fn the_table_of_conditions() {
    let (new, _) = computed(&fixtures::policy(), vec![], "2026-08-21T10:59:59Z");
    assert_eq!(shown(&new, LAST_BACKUP_SUCCEEDED).0, "Unknown");
    assert_eq!(shown(&new, STALE).1, "New");
    let (old, _) = computed(&fixtures::policy(), vec![], "2026-08-21T11:00:01Z");
    assert_eq!((shown(&old, STALE).0, shown(&old, STALE).1), ("True", "NeverStored"));

    let stored = record("2026-08-20", "Completed", "fine");
    let failed = record("2026-08-21", "Failed", "databases[1] stock: not reachable");
    let (status, look_again) = computed(
        &fixtures::policy(),
        vec![stored.clone(), failed],
        "2026-08-21T03:00:00Z",
    );
    let (value, reason, message) = shown(&status, LAST_BACKUP_SUCCEEDED);
    assert_eq!((value, reason), ("False", "Failed"));
    assert!(message.contains("databases[1] stock"), "{message}");
    assert_eq!(shown(&status, STALE).0, "False");
    // It turns stale 26 h after 02:16:00, before the next run.
    assert_eq!(look_again, fixtures::at("2026-08-21T04:16:01Z"));
    assert_eq!(
        shown(&status, VERIFIED),
        ("Unknown", "NotConfigured", shown(&status, VERIFIED).2)
    );

    let unknown = record("2026-08-21", "Unknown", "x");
    let (status, _) = computed(
        &fixtures::policy(),
        vec![stored.clone(), unknown],
        "2026-08-21T05:00:00Z",
    );
    assert_eq!(shown(&status, LAST_BACKUP_SUCCEEDED).0, "Unknown");
    assert_eq!((shown(&status, STALE).0, shown(&status, STALE).1), ("True", "Overdue"));

    let missed = record("2026-08-21", "Missed", "x");
    let (shown_missed, _) = computed(&fixtures::policy(), vec![missed], "2026-08-21T05:00:00Z");
    let (value, reason, _) = shown(&shown_missed, LAST_BACKUP_SUCCEEDED);
    assert_eq!((value, reason), ("False", "Missed"));

    // The record is deleted: the success is remembered, also beside older records that are still there.
    let mut policy = fixtures::policy();
    policy.status = Some(status);
    for older in [vec![], vec![record("2026-08-19", "Completed", "fine")]] {
        let (status, _) = computed(&policy, older, "2026-08-21T05:00:00Z");
        assert_eq!(status.last_success.unwrap().slot, "2026-08-20");
    }

    let mut policy = fixtures::policy();
    policy.spec.suspend = true;
    let (status, _) = computed(&policy, vec![], "2026-08-21T05:00:00Z");
    assert_eq!(shown(&status, SCHEDULED).1, "Suspended");
    assert_eq!(
        (
            status.next_slot,
            shown(&computed(&policy, vec![], "2026-08-21T05:00:00Z").0, READY).0
        ),
        (None, "True")
    );

    policy.spec.schedule.time_of_day = "02:30".into();
    let (status, _) = computed(&policy, vec![], "2026-08-21T05:00:00Z");
    assert_eq!(
        (shown(&status, READY).0, shown(&status, READY).1),
        ("False", "InvalidSchedule")
    );
    assert!(shown(&status, READY).2.contains("write 03:00"));
    assert_eq!(shown(&status, SCHEDULED).1, "InvalidSchedule");
}

#[test]
fn only_what_is_stored_and_told_so_is_a_success() {
    for (phase, upload) in [
        ("Completed", "Started"),
        ("Unknown", "Completed"),
        ("Uploading", "Completed"),
    ] {
        let mut record = Backup::clone(&record("2026-08-21", "Completed", "x"));
        record.status = Some(
            serde_json::from_value(
                json!({"phase": phase, "completedAt": "2026-08-21T02:16:00Z", "upload": {"state": upload}}),
            )
            .unwrap(),
        );
        let (status, _) = computed(&fixtures::policy(), vec![Arc::new(record)], "2026-08-21T05:00:00Z");
        assert_eq!(status.last_success, None, "{phase} {upload}");
    }
}

#[test]
fn no_run_is_promised_that_cannot_start() {
    let now = fixtures::now();
    let policy = fixtures::policy();
    let plan = validate(&policy, &fixtures::runner(), now).unwrap();
    let refused = || Error::JobTaken { name: "x".into() };
    let taken = || Error::RecordTaken {
        name: "shop-20260822".into(),
        owner: "earlier".into(),
        state: "the day's archive is stored",
    };
    let cron_job = |schedule: &str, suspend: bool| {
        Some(Arc::new(
            serde_json::from_value(json!({"spec": {"schedule": schedule, "suspend": suspend, "jobTemplate": {}}}))
                .unwrap(),
        ))
    };
    for (error, cron_job, expected) in [
        (None, None, "NextRunKnown"),
        (None, cron_job("15 4 * * *", false), "NextRunKnown"),
        (Some(refused()), cron_job("15 4 * * *", false), "NextRunKnown"),
        (Some(refused()), None, "JobTaken"),
        (Some(refused()), cron_job("15 4 * * *", true), "JobTaken"),
        (Some(refused()), cron_job("1 1 * * *", false), "JobTaken"),
        (Some(taken()), cron_job("15 4 * * *", false), "RecordTaken"),
    ] {
        let observed = Observed {
            cron_job,
            ..Observed::default()
        };
        let found = Found {
            plan: Some(&plan),
            error: error.as_ref(),
            observed: &observed,
            last_run: None,
        };
        let (status, _) = status(&policy, &found, now);
        let (value, reason, _) = shown(&status, SCHEDULED);
        assert_eq!(reason, expected);
        assert_eq!(value == "True", expected == "NextRunKnown");
    }
}

#[test]
fn each_run_is_told_with_its_end_and_no_run_is_not() {
    let told = |old: &BackupPolicyStatus, records: &[Arc<Backup>]| {
        let (new, _) = computed(&fixtures::policy(), records.to_vec(), "2026-08-21T05:00:00Z");
        let news: Vec<_> = news(old, &new)
            .into_iter()
            .map(|news| (news.good, news.reason.into_owned()))
            .collect();
        (new, news)
    };
    let (nothing, first) = told(&BackupPolicyStatus::default(), &[]);
    assert_eq!(first, []);
    let yesterday = record("2026-08-20", "Completed", "fine");
    let (stored, first) = told(&nothing, std::slice::from_ref(&yesterday));
    assert_eq!(first, [(true, "BackupStored".to_owned())]);
    let (_, again) = told(&stored, &[yesterday.clone(), record("2026-08-21", "Completed", "fine")]);
    assert_eq!(again, [(true, "BackupStored".to_owned())]);
    let (_, bad) = told(&stored, &[yesterday, record("2026-08-21", "Failed", "refused")]);
    assert_eq!(bad, [(false, "BackupFailed".to_owned())]);
}

#[test]
fn the_answer_to_a_run_by_hand_stays_and_is_told_once() {
    let mut policy = fixtures::policy();
    let mut old = BackupPolicyStatus {
        last_run: Some(LastRun {
            id: "one".into(),
            slot: "2026-08-21".into(),
            result: valerix_crds::LastRunResult::Started,
            message: "Job shop-1 was started".into(),
        }),
        ..BackupPolicyStatus::default()
    };
    policy.status = Some(old.clone());
    let (new, _) = computed(&policy, vec![], "2026-08-21T05:00:00Z");
    assert_eq!(new.last_run, old.last_run);
    assert_eq!(news(&old, &new), []);
    old.last_run = None;
    assert_eq!(news(&old, &new)[0].reason, "Started");
}

#[test]
fn news_are_told_once() {
    let records = vec![record("2026-08-21", "Completed", "fine")];
    let mut policy = fixtures::policy();
    let (first, _) = computed(&policy, records.clone(), "2026-08-21T05:00:00Z");
    assert_eq!(news(&BackupPolicyStatus::default(), &first)[0].reason, "BackupStored");
    policy.status = Some(first.clone());
    let (second, _) = computed(&policy, records, "2026-08-21T06:00:00Z");
    assert_eq!(second, first, "time alone changes nothing");
    assert!(news(&first, &second).is_empty());
}

#[test]
fn the_last_upload_is_the_newest_day_that_was_allowed_to_write() {
    let of = |records: &[(&str, &str)], old: Option<&str>| {
        let records = records.iter().map(|(slot, state)| {
            let mut record = Backup::clone(&record(slot, "Failed", "m"));
            record.status.as_mut().unwrap().upload.state = serde_json::from_value(json!(state)).unwrap();
            Arc::new(record)
        });
        let mut policy = fixtures::policy();
        policy.status = Some(BackupPolicyStatus {
            last_upload: old.map(|slot| LastUpload { slot: slot.into() }),
            ..BackupPolicyStatus::default()
        });
        let (status, _) = computed(&policy, records.collect(), "2026-08-21T05:00:00Z");
        status.last_upload.map(|upload| upload.slot)
    };
    let some = |slot: &str| Some(slot.to_owned());
    assert_eq!(of(&[("2026-08-20", "None")], None), None);
    let open = [
        ("2026-08-19", "Completed"),
        ("2026-08-20", "Unknown"),
        ("2026-08-21", "None"),
    ];
    assert_eq!(of(&open, None), some("2026-08-20"));
    assert_eq!(of(&open, Some("2026-08-18")), some("2026-08-20"));
    assert_eq!(
        of(&[], Some("2026-08-18")),
        some("2026-08-18"),
        "its record was deleted"
    );
    assert_eq!(
        of(&[("2026-08-18", "None")], Some("2026-08-18")),
        None,
        "it was given back"
    );
}
