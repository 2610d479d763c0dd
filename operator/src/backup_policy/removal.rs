//! A policy that is deleted with `deletionPolicy: Delete`: what stands between it and its end. Pure.
//!
//! In: the policy, what the caches have, the clock. Out: the next step. Runs end first, then one Job removes the archives
//! that name this policy by its UID. Whatever hinders that hinders it for a bounded time: then the archives stay.

use super::{
    build::job::PUT_GRACE_SECONDS,
    dereference::Observed,
    job::{JobState, hindrance, is_ended, job_condition, job_state, termination},
    reason::Reason,
};
use crate::runtime::{apply::controller_of, clock};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{
    Backup, BackupPolicy, DeletionPolicy, DestinationChoice, OpenUpload, Upload, UploadState,
    backup_runner::{
        JOB_NAME_LABEL, MAX_DEADLINE_SECONDS, RemovalReport, archive_key, removal_job_name, scheduled_at, store_url,
    },
    names::{BACKUP_FINALIZER, condition::READY},
};

/// How long runs are given to end, and whatever is refused is tried: longer than the grace of a run.
pub const PATIENCE: TimeDelta = TimeDelta::seconds(PUT_GRACE_SECONDS + 30 * 60);
/// How long the Job that removes the archives may take beyond the time that reading them takes. Unit: seconds.
const DEADLINE: i64 = 30 * 60;
/// The slowest volume that is waited for. Unit: bytes a second.
const SLOWEST: i64 = 8 << 20;
/// How long after its deadline a Job may take to be seen as failed.
const DEADLINE_MARGIN: TimeDelta = TimeDelta::minutes(10);
/// How long after a Job's end the end of its pod is waited for.
const LAST_WORD: TimeDelta = TimeDelta::seconds(30);
/// How much of uploads in parts a Job is handed: one variable takes no more than 128 KiB. Unit: bytes.
const MAX_HANDED: usize = 64 << 10;
/// What one of them takes at most beside its id and its key. Unit: bytes.
const UPLOAD_SIZE: usize = 512;
/// How much of a complaint is told. Unit: characters.
const MAX_TEXT: usize = 512;

/// The next step of a policy that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// No run is to begin any more, and one at work is to end: its CronJob goes.
    StopRuns,
    /// Something must end first.
    Wait {
        /// What.
        why: String,
    },
    /// Nothing runs: the archives go.
    Start,
    /// It is over.
    LetGo(Outcome),
}

/// What became of the archives.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Those of this policy are gone.
    Removed(RemovalReport),
    /// They could not be removed, or not all of them.
    Left {
        /// Why.
        why: String,
        /// What is known to be gone all the same.
        report: Option<RemovalReport>,
    },
    /// They were to stay.
    Retained {
        /// Why.
        why: String,
    },
}

/// Whether the finalizer stands.
pub fn has_finalizer(policy: &BackupPolicy) -> bool {
    policy.finalizers().iter().any(|name| name == BACKUP_FINALIZER)
}

/// Whether it is to stand while the policy lives.
pub fn wants_finalizer(policy: &BackupPolicy) -> bool {
    policy.spec.deletion_policy == Some(DeletionPolicy::Delete)
}

/// Since when a deletion is worked on: its own time, or that at which the policy was first told of what it waits for, by an
/// operator that came back later.
pub fn begun(policy: &BackupPolicy) -> Option<DateTime<Utc>> {
    let deleted = policy.metadata.deletion_timestamp.as_ref().map(clock::from_time);
    deleted.max(told_at(policy))
}

/// When the policy was told what its deletion waits for, if it was.
pub fn told_at(policy: &BackupPolicy) -> Option<DateTime<Utc>> {
    let conditions = &policy.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == READY)?;
    (ready.reason == Reason::RemovingArchives.as_str()).then(|| clock::from_time(&ready.last_transition_time))
}

/// Whether what hinders a deletion has hindered it for long enough.
pub fn is_overdue(policy: &BackupPolicy, now: DateTime<Utc>) -> bool {
    begun(policy).is_some_and(|begun| now - begun >= PATIENCE)
}

/// The same of what is left to do once the outcome stands.
pub fn is_over_for_long(policy: &BackupPolicy, observed: &Observed, now: DateTime<Utc>) -> bool {
    let ended = observed.removal.as_deref().and_then(ended_at);
    ended
        .or_else(|| begun(policy))
        .is_some_and(|since| now - since >= PATIENCE)
}

/// How long the Job that removes the archives may take: a file on a volume is read to its end before it goes. Unit: seconds.
pub fn deadline(records: &[Arc<Backup>]) -> i64 {
    let stored = records.iter().filter_map(|record| record.status.as_ref()?.upload.bytes);
    let bytes = stored.fold(0_i64, |sum, bytes| sum.saturating_add(bytes.max(0)));
    (DEADLINE + bytes / SLOWEST).min(MAX_DEADLINE_SECONDS.cast_signed())
}

/// The uploads in parts that the Job is to abort: those in the bucket that the policy names, as many as it can be handed.
pub fn handed(policy: &BackupPolicy, records: &[Arc<Backup>]) -> Vec<OpenUpload> {
    let Some(DestinationChoice::S3(bucket)) = policy.spec.destination.choice() else {
        return Vec::new();
    };
    let here = store_url(&bucket);
    records
        .iter()
        .filter_map(|record| record.status.as_ref())
        .flat_map(|status| &status.open_uploads)
        .filter(|upload| upload.bucket == bucket.bucket)
        .filter(|upload| upload.endpoint.as_ref().is_none_or(|said| *said == here))
        .scan(0, |size, upload| {
            *size += upload.id.len() + upload.key.len() + UPLOAD_SIZE;
            (*size <= MAX_HANDED).then(|| upload.clone())
        })
        .collect()
}

/// Decides about a policy that is being deleted and has the finalizer.
pub fn decide(policy: &BackupPolicy, observed: &Observed, now: DateTime<Utc>) -> Step {
    if !wants_finalizer(policy) {
        let why = "spec.deletionPolicy is Retain".to_owned();
        return Step::LetGo(Outcome::Retained { why });
    }
    let wait = |why: String, since: Option<DateTime<Utc>>, patience: TimeDelta| match since {
        Some(since) if now - since >= patience => {
            let minutes = (now - since).num_minutes();
            let why = format!("given up after {minutes} min: {why}");
            Step::LetGo(Outcome::Left { why, report: None })
        }
        _ => Step::Wait { why },
    };
    let uid = policy.metadata.uid.as_ref();
    if let Some(job) = &observed.removal {
        let name = job.name_any();
        let state = job_state(job);
        let reports = reports(observed, &name, state == JobState::Complete);
        // The Job may be known to have ended before its pod is.
        let is_silent = match state {
            JobState::Complete => reports.is_empty(),
            _ => observed.pods_of(&name).all(|pod| ended_message(pod).is_none()),
        };
        if is_silent && ended_at(job).is_some_and(|at| now - at < LAST_WORD) {
            let why = format!("Job {name} has ended, and its last word is awaited");
            return Step::Wait { why };
        }
        return match state {
            JobState::Complete => Step::LetGo(Outcome::Removed(report(&name, reports))),
            JobState::Failed => Step::LetGo(Outcome::Left {
                why: failed(observed, &name, reports.last()),
                report: least(reports),
            }),
            JobState::Active | JobState::Terminating => {
                let pods = observed.pods_of(&name).map(|pod| &**pod);
                let hindered = hindrance(pods, observed.refused.get(&name).map(String::as_str));
                let why = hindered.map_or_else(
                    || format!("Job {name} removes the archives"),
                    |found| format!("Job {name} does not start: {}", found.message),
                );
                let made = job.metadata.creation_timestamp.as_ref().map(clock::from_time);
                let patience = TimeDelta::seconds(deadline(&observed.records)) + DEADLINE_MARGIN;
                wait(why, made.or_else(|| begun(policy)), patience)
            }
        };
    }
    let cron_job = observed.cron_job.as_ref();
    // One that is still seen after so many deletions is seen by an old cache alone.
    let is_stale = told_at(policy).is_some() && is_overdue(policy, now);
    let is_ours = |cron_job: &Arc<CronJob>| controller_of(&**cron_job).map(|owner| &owner.uid) == uid;
    if !is_stale && cron_job.is_some_and(is_ours) {
        return Step::StopRuns;
    }
    match at_work(policy, observed) {
        Some(name) => {
            let why = format!("a run is still at work (Job {name})");
            wait(why, begun(policy), PATIENCE)
        }
        None => Step::Start,
    }
}

/// When a Job has ended, well or not.
fn ended_at(job: &Job) -> Option<DateTime<Utc>> {
    let condition = job_condition(job, "Complete").or_else(|| job_condition(job, "Failed"))?;
    let completed = job.status.as_ref()?.completion_time.as_ref();
    completed
        .or(condition.last_transition_time.as_ref())
        .map(clock::from_time)
}

/// The Job of a run that may still store.
fn at_work(policy: &BackupPolicy, observed: &Observed) -> Option<String> {
    let jobs = observed.jobs.iter().filter(|job| job_state(job) == JobState::Active);
    let pods = observed.pods.iter().filter(|pod| !is_ended(pod));
    let of_pods = pods.filter_map(|pod| pod.labels().get(JOB_NAME_LABEL).cloned());
    let name = policy.name_any();
    jobs.map(|job| job.name_any())
        .chain(of_pods)
        .find(|job| scheduled_at(&name, job).is_some())
}

/// What the Job's pods have said at their ends; only those that ended well where `well` is true.
fn reports(observed: &Observed, job: &str, well: bool) -> Vec<RemovalReport> {
    let pods = observed.pods_of(job).filter(|pod| !well || termination(pod).is_none());
    let said = pods.filter_map(ended_message);
    said.filter_map(|message| serde_json::from_str(message).ok()).collect()
}

fn report(job: &str, mut reports: Vec<RemovalReport>) -> RemovalReport {
    reports.pop().unwrap_or_else(|| RemovalReport {
        message: format!("Job {job} ended well, and its pod is gone before it was read what it did"),
        // Their Backups stay with them.
        is_cut: true,
        ..RemovalReport::default()
    })
}

/// Of what several pods have left, each has removed some: the shortest is the newest.
fn least(reports: Vec<RemovalReport>) -> Option<RemovalReport> {
    reports
        .into_iter()
        .min_by_key(|report| (report.is_cut, report.left.len()))
}

fn ended_message(pod: &Arc<Pod>) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let mut ended = statuses
        .iter()
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    ended.find_map(|ended| ended.message.as_deref())
}

fn failed(observed: &Observed, name: &str, report: Option<&RemovalReport>) -> String {
    let job = observed.removal.as_deref();
    let said = || observed.pods_of(name).filter_map(ended_message).last();
    let ended = || observed.pods_of(name).filter_map(|pod| termination(pod)).last();
    let condition = || job.and_then(|job| job_condition(job, "Failed")?.message.clone());
    let reported = report.map(|report| report.message.clone());
    let why = reported
        .or_else(|| said().map(str::to_owned))
        .or_else(ended)
        .or_else(condition);
    let why: String = why
        .unwrap_or_else(|| "nobody knows why".into())
        .chars()
        .take(MAX_TEXT)
        .collect();
    format!("Job {name} failed: {why}")
}

/// The records that go with the archives: not those of what is left, nor of what lies where no policy points to any more,
/// nor of uploads that nobody has aborted: nothing else tells of them.
pub fn forgotten(policy: &BackupPolicy, records: &[Arc<Backup>], report: &RemovalReport) -> Vec<Arc<Backup>> {
    if report.is_cut {
        return Vec::new();
    }
    let aborted = if report.open_uploads == 0 {
        handed(policy, records)
    } else {
        Vec::new()
    };
    let goes = |record: &Backup| {
        let status = record.status.clone().unwrap_or_default();
        let is_gone = status.upload.state == UploadState::None || is_here(policy, record, &status.upload);
        let is_aborted = status.open_uploads.iter().all(|upload| aborted.contains(upload));
        !report.left.contains(&record.spec.slot) && is_gone && is_aborted
    };
    records.iter().filter(|record| goes(record)).cloned().collect()
}

/// Whether a record's archive lies where the policy's destination points to now, as the runner would look for it. What an
/// older record does not say is taken to be so.
fn is_here(policy: &BackupPolicy, record: &Backup, upload: &Upload) -> bool {
    let is = |said: &Option<String>, here: &str| said.as_ref().is_none_or(|said| said == here);
    let namespace = policy.namespace().unwrap_or_default();
    let key = |folder: Option<&String>| {
        let slot = record.spec.slot.parse().ok()?;
        let key = archive_key(folder.map(String::as_str), &namespace, &policy.name_any(), slot);
        Some(is(&upload.key, &key))
    };
    let found = match policy.spec.destination.choice() {
        Some(DestinationChoice::VolumeClaim(claim)) => {
            key(claim.path.as_ref()).filter(|_| upload.claim_name.as_ref() == Some(&claim.claim_name))
        }
        Some(DestinationChoice::S3(bucket)) => key(bucket.prefix.as_ref())
            .filter(|_| upload.bucket.as_ref() == Some(&bucket.bucket) && is(&upload.endpoint, &store_url(&bucket))),
        None => None,
    };
    found.unwrap_or_default()
}

/// Name of the Job that removes the archives.
pub fn job_of(policy: &BackupPolicy) -> String {
    removal_job_name(&policy.name_any(), policy.metadata.uid.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
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
        let owner =
            json!([{"apiVersion": "v1", "kind": "BackupPolicy", "name": "shop", "uid": owner, "controller": true}]);
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
}
