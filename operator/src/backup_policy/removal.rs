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
mod tests;
