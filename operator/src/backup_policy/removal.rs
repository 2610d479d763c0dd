//! A policy that is deleted with `deletionPolicy: Delete`: what stands between it and its end. Pure.
//!
//! In: the policy, what the caches have, the clock. Out: the next step. Runs end first, then one Job removes the archives
//! that name this policy by its UID. Whatever hinders that hinders it for an hour at most: then the archives stay.

use super::{
    dereference::Observed,
    job::{JobState, hindrance, is_ended, job_condition, job_state, termination},
};
use crate::runtime::{apply::controller_of, clock};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{
    Backup, BackupPolicy, DeletionPolicy, DestinationChoice, Upload, UploadState,
    backup_runner::{JOB_NAME_LABEL, RemovalReport, removal_job_name, scheduled_at},
    names::BACKUP_FINALIZER,
};

/// How long a deletion may be held up in all.
const PATIENCE: TimeDelta = TimeDelta::hours(1);
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

/// Decides about a policy that is being deleted and has the finalizer.
pub fn decide(policy: &BackupPolicy, observed: &Observed, now: DateTime<Utc>) -> Step {
    if !wants_finalizer(policy) {
        let why = "spec.deletionPolicy is Retain".to_owned();
        return Step::LetGo(Outcome::Retained { why });
    }
    let step = next(policy, observed);
    let since = policy.metadata.deletion_timestamp.as_ref().map(clock::from_time);
    match step {
        Step::LetGo(_) => step,
        _ if since.is_some_and(|since| now - since < PATIENCE) => step,
        Step::Wait { why } => Step::LetGo(Outcome::Left {
            why: format!("an hour was not enough: {why}"),
        }),
        Step::StopRuns | Step::Start => Step::LetGo(Outcome::Left {
            why: "an hour was not enough to end the runs of the policy".to_owned(),
        }),
    }
}

fn next(policy: &BackupPolicy, observed: &Observed) -> Step {
    let uid = policy.metadata.uid.as_ref();
    if let Some(job) = &observed.removal {
        let name = job.name_any();
        return match job_state(job) {
            JobState::Complete => Step::LetGo(Outcome::Removed(report(observed, &name))),
            JobState::Failed => Step::LetGo(Outcome::Left {
                why: failed(observed, &name),
            }),
            JobState::Active | JobState::Terminating => {
                let pods = observed.pods_of(&name).map(|pod| &**pod);
                let hindered = hindrance(pods, observed.refused.get(&name).map(String::as_str));
                let why = hindered.map_or_else(
                    || format!("Job {name} removes the archives"),
                    |found| format!("Job {name} does not start: {}", found.message),
                );
                Step::Wait { why }
            }
        };
    }
    let cron_job = observed.cron_job.as_ref();
    if cron_job.is_some_and(|cron_job| controller_of(&**cron_job).map(|owner| &owner.uid) == uid) {
        return Step::StopRuns;
    }
    match at_work(policy, observed) {
        Some(name) => Step::Wait {
            why: format!("a run is still at work (Job {name})"),
        },
        None => Step::Start,
    }
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

/// What the Job's pod has said at its end.
fn report(observed: &Observed, job: &str) -> RemovalReport {
    let said = observed.pods_of(job).find_map(|pod| {
        let message = ended_message(pod)?;
        serde_json::from_str(message).ok()
    });
    said.unwrap_or_else(|| RemovalReport {
        message: format!("Job {job} ended well, and its pod is gone before it was read what it did"),
        // Their Backups stay with them.
        left: observed.records.iter().map(|record| record.spec.slot.clone()).collect(),
        ..RemovalReport::default()
    })
}

fn ended_message(pod: &Arc<Pod>) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let mut ended = statuses
        .iter()
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    ended.find_map(|ended| ended.message.as_deref())
}

fn failed(observed: &Observed, name: &str) -> String {
    let job = observed.removal.as_deref();
    let said = observed.pods_of(name).filter_map(ended_message).last();
    let ended = || observed.pods_of(name).filter_map(|pod| termination(pod)).last();
    let condition = || job.and_then(|job| job_condition(job, "Failed")?.message.clone());
    let why = said.map(str::to_owned).or_else(ended).or_else(condition);
    let why: String = why
        .unwrap_or_else(|| "nobody knows why".into())
        .chars()
        .take(MAX_TEXT)
        .collect();
    format!("Job {name} failed: {why}")
}

/// The records that go with the archives: not those of what is left, nor of what lies where no policy points to any more.
pub fn forgotten(policy: &BackupPolicy, records: &[Arc<Backup>], report: &RemovalReport) -> Vec<Arc<Backup>> {
    let destination = policy.spec.destination.choice();
    let is_here = |upload: &Upload| match &destination {
        Some(DestinationChoice::VolumeClaim(claim)) => upload.claim_name.as_ref() == Some(&claim.claim_name),
        Some(DestinationChoice::S3(bucket)) => upload.bucket.as_ref() == Some(&bucket.bucket),
        None => false,
    };
    let goes = |record: &Backup| {
        let upload = record.status.clone().unwrap_or_default().upload;
        !report.left.contains(&record.spec.slot) && (upload.state == UploadState::None || is_here(&upload))
    };
    records.iter().filter(|record| goes(record)).cloned().collect()
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

    fn pod(job: &str, phase: &str, message: Value) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": format!("{job}-x"), "labels": {JOB_NAME_LABEL: job}},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "backup", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 20, "message": message}},
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
    fn runs_end_then_one_job_removes_and_nothing_holds_the_policy_for_more_than_an_hour() {
        let removal = job_of(&going("Delete"));
        assert_eq!(removal, "shop-dpolicyui");
        let said = json!({"removed": 3, "left": ["2026-08-01"], "message": "m"}).to_string();
        let report: RemovalReport = serde_json::from_str(&said).unwrap();
        let run = "shop-29787975";
        let wait = |why: &str| Step::Wait { why: why.into() };
        let left = |why: &str| Step::LetGo(Outcome::Left { why: why.into() });
        let none = Observed::default;
        let soon = fixtures::now() + TimeDelta::minutes(59);
        let late = fixtures::now() + PATIENCE;
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
                soon,
                wait("Job shop-dpolicyui removes the archives"),
            ),
            (
                "it is at work for too long",
                Observed {
                    removal: Some(job(&removal, None)),
                    ..none()
                },
                late,
                left("an hour was not enough: Job shop-dpolicyui removes the archives"),
            ),
            (
                "runs do not end",
                Observed {
                    jobs: vec![job(run, None)],
                    ..none()
                },
                late,
                left("an hour was not enough: a run is still at work (Job shop-29787975)"),
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

    #[test]
    fn the_records_of_what_is_left_or_lies_elsewhere_stay() {
        let record = |slot: &str, upload: Value| {
            Arc::new(
                serde_json::from_value::<Backup>(json!({
                    "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": slot},
                    "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": "2026-08-20T00:00:00Z"},
                    "status": {"upload": upload},
                }))
                .unwrap(),
            )
        };
        let records = [
            record("2026-08-01", json!({"state": "Completed", "claimName": "backups"})),
            record("2026-08-02", json!({"state": "Completed", "claimName": "backups"})),
            record("2026-08-03", json!({"state": "Completed", "claimName": "earlier"})),
            record("2026-08-04", json!({"state": "Completed", "bucket": "earlier"})),
            record("2026-08-05", json!({"state": "None"})),
        ];
        let report = RemovalReport {
            left: vec!["2026-08-02".into()],
            ..RemovalReport::default()
        };
        let gone = forgotten(&going("Delete"), &records, &report);
        let slots: Vec<_> = gone.iter().map(|record| record.spec.slot.as_str()).collect();
        assert_eq!(slots, ["2026-08-01", "2026-08-05"]);
    }
}
