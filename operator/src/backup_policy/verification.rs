//! The trial restore of the newest stored archive: whether one is to be started, and what a Job that ended without a word
//! means. Pure.
//!
//! The verifier writes what it found itself. One Job for an archive: its name is the slot's, and a record that has an
//! answer is never asked again.

use super::{
    dereference::Observed,
    job::{JobState, hindrance, is_ended, job_condition, job_state, termination},
    records::{ASK_AGAIN, MAX_MESSAGE},
    validate::Plan,
};
use crate::runtime::clock;
use chrono::{DateTime, Days, NaiveDate, Utc};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{
    Backup, BackupPhase, BackupStatus, TrialRestore, TrialRestoreState, UploadState,
    backup_runner::verification_job_name,
};

/// A week without a trial restore is due one.
const WEEK: Days = Days::new(7);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Start the Job of this archive.
    Start {
        /// Name of its record.
        record: String,
        /// Its slot.
        slot: NaiveDate,
    },
    /// The Job waits for its pod, and it is known why.
    Hindered {
        /// The record as it was judged; the writing is refused if it has changed since.
        record: Arc<Backup>,
        /// What hinders it.
        message: String,
    },
    /// The Job has ended without an answer: it is not known whether the archive can be restored.
    GiveUp {
        /// The record as it was judged; the writing is refused if it has changed since.
        record: Arc<Backup>,
        /// What is known of the end.
        message: String,
    },
}

/// Decides about the newest stored archive.
pub fn decide(plan: &Plan, observed: &Observed) -> Option<Step> {
    let restore = plan.spec.verification.as_ref().map(|verification| verification.restore);
    let newest = observed.records.iter().rev().find(|record| is_stored(record))?;
    let slot: NaiveDate = newest.spec.slot.parse().ok()?;
    let status = newest.status.clone().unwrap_or_default();
    if is_answered(&status) {
        return None;
    }
    let name = verification_job_name(&plan.name, slot);
    let job = observed.trials.iter().find(|job| job.name_any() == name);
    match (job, restore.unwrap_or_default()) {
        (Some(job), _) if job_state(job) == JobState::Failed => Some(Step::GiveUp {
            record: newest.clone(),
            message: why_failed(
                observed,
                &name,
                job_condition(job, "Failed").and_then(|found| found.message.as_deref()),
                status.verification.and_then(|verification| verification.message),
            ),
        }),
        (Some(job), _) if job_state(job) == JobState::Active => {
            let pods = observed.pods_of(&name).map(|pod| &**pod);
            let found = hindrance(pods, observed.refused.get(&name).map(String::as_str))?;
            let message: String = found.message.chars().take(MAX_MESSAGE).collect();
            let told = status.verification.and_then(|verification| verification.message);
            (told.as_deref() != Some(message.as_str())).then(|| Step::Hindered {
                record: newest.clone(),
                message,
            })
        }
        (Some(_), _) | (None, TrialRestore::Off) => None,
        (None, TrialRestore::Weekly) if has_answer_since(&observed.records, slot - WEEK) => None,
        (None, TrialRestore::Weekly | TrialRestore::EveryRun) => Some(Step::Start {
            record: newest.name_any(),
            slot,
        }),
    }
}

/// When a trial that has no pod is asked about again: nothing of the Job changes while the API server refuses one.
pub fn look_again(observed: &Observed, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let waits = |job: &Arc<Job>| {
        let name = job.name_any();
        job_state(job) == JobState::Active && observed.pods_of(&name).all(|pod| is_ended(pod))
    };
    observed.trials.iter().any(waits).then(|| now + ASK_AGAIN)
}

/// The fields that say what hinders a trial.
pub fn hindered(record: &Backup, message: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"resourceVersion": record.resource_version()},
        "status": {"verification": {"state": TrialRestoreState::Running, "message": message}},
    })
}

/// The fields that giving up writes.
pub fn giving_up(record: &Backup, message: &str, now: DateTime<Utc>) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"resourceVersion": record.resource_version()},
        "status": {"verification": {
            "state": TrialRestoreState::Inconclusive,
            "message": message,
            "completedAt": clock::whole_seconds(now),
        }},
    })
}

/// Whether a trial restore of this record has ended.
pub fn is_answered(status: &BackupStatus) -> bool {
    let state = status.verification.as_ref().map(|verification| verification.state);
    state.is_some_and(|state| state != TrialRestoreState::Running)
}

fn is_stored(record: &Backup) -> bool {
    record
        .status
        .as_ref()
        .is_some_and(|status| status.phase == BackupPhase::Completed && status.upload.state == UploadState::Completed)
}

/// Whether a week has its answer. One that could not be found out is none.
fn has_answer_since(records: &[Arc<Backup>], since: NaiveDate) -> bool {
    let answers = |status: &BackupStatus| {
        let state = status.verification.as_ref().map(|verification| verification.state);
        matches!(state, Some(TrialRestoreState::Restored | TrialRestoreState::Failed))
    };
    records.iter().any(|record| {
        record.spec.slot.parse::<NaiveDate>().is_ok_and(|slot| slot > since)
            && record.status.as_ref().is_some_and(answers)
    })
}

/// `before` is what hindered its pod.
fn why_failed(observed: &Observed, job: &str, said: Option<&str>, before: Option<String>) -> String {
    let ended = observed.pods_of(job).find_map(|pod| termination(pod));
    let said = said.map(str::to_owned);
    let why = ended.or(said).unwrap_or_else(|| "it has not said why".into());
    let before = before
        .map(|before| format!("; before that: {before}"))
        .unwrap_or_default();
    let message = format!("the trial restore ended without an answer: {why}; see the log of Job {job}{before}");
    message.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{fixtures, validate::validate};
    use super::*;
    use serde_json::{Value, json};

    fn record(slot: &str, phase: &str, verification: Value) -> Arc<Backup> {
        let state = if phase == "Completed" { "Completed" } else { "None" };
        let record = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
            "metadata": {"name": format!("shop-{}", slot.replace('-', ""))},
            "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": format!("{slot}T02:15:00Z")},
            "status": {"phase": phase, "upload": {"state": state}, "verification": verification},
        });
        Arc::new(serde_json::from_value(record).unwrap())
    }

    fn job(slot: &str, condition: Option<&str>) -> Arc<Job> {
        let conditions: Vec<_> = condition
            .map(|kind| json!({"type": kind, "status": "True", "message": "too slow"}))
            .into_iter()
            .collect();
        let job = json!({"metadata": {"name": format!("shop-v{slot}")}, "status": {"conditions": conditions}});
        Arc::new(serde_json::from_value(job).unwrap())
    }

    #[test]
    fn the_newest_stored_archive_is_restored_once() {
        let stored = |slot: &str| record(slot, "Completed", Value::Null);
        let answered = |slot: &str, state: &str| record(slot, "Completed", json!({"state": state}));
        let failed = |slot: &str| record(slot, "Failed", Value::Null);
        let (none, one) = (Vec::new, |job| vec![job]);
        for (restore, records, trials, expected) in [
            ("Off", vec![stored("2026-08-21")], none(), None),
            ("EveryRun", vec![], none(), None),
            (
                "EveryRun",
                vec![stored("2026-08-20"), stored("2026-08-21")],
                none(),
                Some("start 2026-08-21"),
            ),
            // A day without an archive hides none.
            (
                "EveryRun",
                vec![stored("2026-08-20"), failed("2026-08-21")],
                none(),
                Some("start 2026-08-20"),
            ),
            ("EveryRun", vec![stored("2026-08-21")], one(job("20260821", None)), None),
            (
                "EveryRun",
                vec![stored("2026-08-21")],
                one(job("20260820", None)),
                Some("start 2026-08-21"),
            ),
            ("EveryRun", vec![answered("2026-08-21", "Failed")], none(), None),
            ("EveryRun", vec![answered("2026-08-21", "Inconclusive")], none(), None),
            // Somebody has deleted the Job at work.
            (
                "EveryRun",
                vec![answered("2026-08-21", "Running")],
                none(),
                Some("start 2026-08-21"),
            ),
            (
                "EveryRun",
                vec![answered("2026-08-21", "Running")],
                one(job("20260821", Some("Complete"))),
                None,
            ),
            (
                "EveryRun",
                vec![answered("2026-08-21", "Running")],
                one(job("20260821", Some("Failed"))),
                Some("give up"),
            ),
            // What was begun is ended, also when nothing new is to be begun.
            (
                "Off",
                vec![stored("2026-08-21")],
                one(job("20260821", Some("Failed"))),
                Some("give up"),
            ),
            ("Weekly", vec![stored("2026-08-21")], none(), Some("start 2026-08-21")),
            (
                "Weekly",
                vec![answered("2026-08-20", "Inconclusive"), stored("2026-08-21")],
                none(),
                Some("start 2026-08-21"),
            ),
            (
                "Weekly",
                vec![answered("2026-08-15", "Restored"), stored("2026-08-21")],
                none(),
                None,
            ),
            (
                "Weekly",
                vec![answered("2026-08-14", "Restored"), stored("2026-08-21")],
                none(),
                Some("start 2026-08-21"),
            ),
        ] {
            let mut policy = fixtures::policy();
            policy.spec.verification = serde_json::from_value(json!({"restore": restore})).unwrap();
            let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
            let observed = Observed {
                records,
                trials,
                ..Observed::default()
            };
            let found = decide(&plan, &observed).map(|step| match step {
                Step::Start { slot, .. } => format!("start {slot}"),
                Step::Hindered { message, .. } => message,
                Step::GiveUp { message, .. } => {
                    assert!(message.contains("too slow"), "{message}");
                    "give up".to_owned()
                }
            });
            assert_eq!(found.as_deref(), expected, "{restore} {observed:?}");
        }
    }

    #[test]
    fn a_trial_whose_pod_is_refused_says_so_once_and_is_asked_about_again() {
        let mut policy = fixtures::policy();
        policy.spec.verification = serde_json::from_value(json!({"restore": "EveryRun"})).unwrap();
        let now = fixtures::now();
        let plan = validate(&policy, &fixtures::runner(), now).unwrap();
        let observed = |verification: Value, condition| Observed {
            records: vec![record("2026-08-21", "Completed", verification)],
            trials: vec![job("20260821", condition)],
            refused: [(
                "shop-v20260821".to_owned(),
                "Error creating: exceeded quota: q".to_owned(),
            )]
            .into(),
            ..Observed::default()
        };
        let waiting = observed(Value::Null, None);
        assert_eq!(look_again(&waiting, now), Some(now + ASK_AGAIN));
        let Some(Step::Hindered { record, message }) = decide(&plan, &waiting) else {
            panic!("{:?}", decide(&plan, &waiting));
        };
        assert!(message.contains("exceeded quota: q"), "{message}");
        assert_eq!(
            hindered(&record, &message)["status"]["verification"]["state"],
            "Running"
        );
        let told = json!({"state": "Running", "message": message});
        assert_eq!(decide(&plan, &observed(told.clone(), None)), None, "said once");
        // Its end remembers it.
        let ended = observed(told, Some("Failed"));
        assert_eq!(look_again(&ended, now), None);
        let Some(Step::GiveUp { message, .. }) = decide(&plan, &ended) else {
            panic!("{:?}", decide(&plan, &ended));
        };
        assert!(
            message.contains("too slow") && message.contains("exceeded quota: q"),
            "{message}"
        );
    }
}
