//! A run by hand that was at work at the day's time has the name of the scheduled Job, and the CronJob controller took it
//! for its own. Where it fails afterwards, the day's run is still due. Pure.
//!
//! The record announces that run first, then the failed Job goes, then the run starts: whatever is killed in between, the
//! record tells what is left to do, and once a runner has said anything there, nothing is. The Job of that run is none by
//! hand, so it is never started twice.

use super::super::{
    dereference::Observed,
    job::{JobState, job_condition, job_state},
    slot::Slot,
    validate::Plan,
};
use super::{Correction, Evidence, MAX_MESSAGE};
use crate::runtime::clock;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{Backup, BackupPhase, BackupStatus, UploadState, backup_runner, names::RUN_ANNOTATION};

/// Why a record waits for a run once more.
const RUN_BY_HAND_FAILED: &str = "RunByHandFailed";

/// A slot whose run is still due after one by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct StillDue {
    /// The slot.
    pub slot: Slot,
    /// Name of its record. Nothing else is to be said of it meanwhile.
    pub record: String,
    /// What comes next.
    pub step: Step,
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The record says that the run is due.
    Announce(Box<Correction>),
    /// The failed Job gives its name up.
    Remove(Arc<Job>),
    /// The run starts.
    Start,
}

/// The slot whose scheduled run a failed one by hand was taken for, while that run may still start. None where an archive
/// is or may be stored.
pub fn still_due(plan: &Plan, observed: &Observed, now: DateTime<Utc>) -> Option<StillDue> {
    let slot = plan.schedule.latest(now)?;
    if plan.spec.suspend || now >= plan.schedule.closes(slot.at) {
        return None;
    }
    let record = observed.record(&backup_runner::record_name(&plan.name, slot.day))?;
    let status = record.status.clone().unwrap_or_default();
    if status.upload.state != UploadState::None {
        return None;
    }
    let name = backup_runner::job_name(&plan.name, slot.at);
    let job = observed.jobs.iter().find(|job| job.name_any() == name);
    let step = match (job, is_announced(&status)) {
        (None, true) => Step::Start,
        (Some(job), announced) if is_failed_run_by_hand(job, slot) => match announced {
            true => Step::Remove(job.clone()),
            false => Step::Announce(Box::new(announcement(record, &status, job, slot))),
        },
        _ => return None,
    };
    Some(StillDue {
        slot,
        record: record.name_any(),
        step,
    })
}

/// Whether a record says that its run is due after one by hand, and that nothing has begun since.
pub fn is_announced(status: &BackupStatus) -> bool {
    status.phase == BackupPhase::Scheduled
        && status.upload.state == UploadState::None
        && status.reason.as_deref() == Some(RUN_BY_HAND_FAILED)
}

/// Begun before the slot's time: a later one is a run of its own after the scheduled one.
fn is_failed_run_by_hand(job: &Job, slot: Slot) -> bool {
    let made = job.creation_timestamp().map(|made| clock::from_time(&made));
    job_state(job) == JobState::Failed
        && job.annotations().contains_key(RUN_ANNOTATION)
        && made.is_some_and(|made| made < slot.at)
}

fn announcement(record: &Arc<Backup>, status: &BackupStatus, job: &Job, slot: Slot) -> Correction {
    let of_job = || job_condition(job, "Failed")?.message.clone();
    let why = status.message.clone().or_else(of_job);
    let message = format!(
        "the run by hand that was at work at {} has failed, and the scheduled run starts in its place; before that: {}",
        slot.at.format("%FT%TZ"),
        why.as_deref().unwrap_or("no reason was given"),
    );
    Correction {
        record: record.clone(),
        phase: BackupPhase::Scheduled,
        reason: RUN_BY_HAND_FAILED.into(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        evidence: Evidence::JobFailed {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{fixtures, validate::validate};
    use super::*;
    use serde_json::{Value, json};

    /// The fixtures' policy runs at 02:15 UTC.
    fn step(job: Option<Value>, status: &Value, suspend: bool, now: &str) -> &'static str {
        let mut policy = fixtures::policy();
        policy.spec.suspend = suspend;
        let now = fixtures::at(now);
        let plan = validate(&policy, &fixtures::runner(), now).unwrap();
        let record = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": "shop-20260821"},
            "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": "2026-08-21", "scheduledAt": "2026-08-21T02:15:00Z"},
            "status": status,
        });
        let observed = Observed {
            records: vec![Arc::new(serde_json::from_value(record).unwrap())],
            jobs: job
                .map(|job| Arc::new(serde_json::from_value(job).unwrap()))
                .into_iter()
                .collect(),
            ..Observed::default()
        };
        match still_due(&plan, &observed, now).map(|due| due.step) {
            None => "nothing",
            Some(Step::Announce(_)) => "announce",
            Some(Step::Remove(_)) => "remove",
            Some(Step::Start) => "start",
        }
    }

    fn job(made: &str, run: Option<&str>, end: Option<&str>) -> Value {
        let conditions: Vec<_> = end
            .map(|kind| json!({"type": kind, "status": "True"}))
            .into_iter()
            .collect();
        json!({
            "metadata": {"name": "shop-29787975", "creationTimestamp": made, "annotations": run.map(|run| json!({RUN_ANNOTATION: run}))},
            "status": {"conditions": conditions},
        })
    }

    #[test]
    fn the_run_of_a_day_is_due_after_a_failed_one_by_hand_that_was_begun_before_its_time() {
        let (before, after) = ("2026-08-21T01:00:00Z", "2026-08-21T02:15:10Z");
        let (soon, closed) = ("2026-08-21T03:15:00Z", "2026-08-21T08:15:00Z");
        let failed = || Some(job(before, Some("one"), Some("Failed")));
        let told = json!({"phase": "Failed", "reason": "DatabaseUnreachable"});
        let announced = json!({"phase": "Scheduled", "reason": RUN_BY_HAND_FAILED});
        for (job, status, suspend, now, expected) in [
            (failed(), &told, false, soon, "announce"),
            (failed(), &json!({"phase": "Dumping"}), false, soon, "announce"),
            (failed(), &announced, false, soon, "remove"),
            (None, &announced, false, soon, "start"),
            (None, &told, false, soon, "nothing"),
            // Suspended, or too late.
            (failed(), &told, true, soon, "nothing"),
            (None, &announced, true, soon, "nothing"),
            (failed(), &told, false, closed, "nothing"),
            (None, &announced, false, closed, "nothing"),
            // Still at work, well, the scheduled one itself, and one by hand after it.
            (Some(job(before, Some("one"), None)), &told, false, soon, "nothing"),
            (
                Some(job(before, Some("one"), Some("Complete"))),
                &told,
                false,
                soon,
                "nothing",
            ),
            (Some(job(after, None, Some("Failed"))), &told, false, soon, "nothing"),
            (
                Some(job(before, None, Some("Failed"))),
                &announced,
                false,
                soon,
                "nothing",
            ),
            (
                Some(job(after, Some("one"), Some("Failed"))),
                &told,
                false,
                soon,
                "nothing",
            ),
        ] {
            let context = format!("{job:?} {status} {suspend} {now}");
            assert_eq!(step(job, status, suspend, now), expected, "{context}");
        }
        // An archive is or may be stored.
        for state in ["Started", "Completed", "Unknown"] {
            for mut status in [told.clone(), announced.clone()] {
                status["upload"] = json!({"state": state});
                assert_eq!(step(failed(), &status, false, soon), "nothing", "{status}");
                assert_eq!(step(None, &status, false, soon), "nothing", "{status}");
            }
        }
    }
}
