//! What a Job's end, a pod that cannot start and a day that passed mean for the records. Pure.
//!
//! The runner writes its own story; this is for the stories that it could not finish. Once a pod was allowed to write,
//! nothing here claims that it did not: such a record becomes Unknown, and only the runner, who can read the
//! destination, settles it.

mod due;
mod found;
mod pruned;
mod still_due;
#[cfg(test)]
mod tests;

pub use due::{in_the_way, wanted};
pub use found::{Rebuild, found, told_patch};
pub use pruned::pruned;
pub use still_due::{Step, StillDue, is_announced, still_due};

use super::{
    dereference::Observed,
    job::{JobState, hindrance, job_condition, job_state, lacks_pod, termination},
    slot::Schedule,
};
use crate::runtime::clock;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, TimeZone, Utc};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{Backup, BackupPhase, UploadState, backup_runner};

/// How often a Job without a pod is asked about again.
pub const ASK_AGAIN: TimeDelta = TimeDelta::seconds(30);
/// How long after its last moment a run may still be on its way into the caches.
const GRACE: TimeDelta = TimeDelta::minutes(2);
/// The longest message that a record takes. Unit: characters.
pub const MAX_MESSAGE: usize = 1024;

/// What a record is to say instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// The record as it was judged; the writing is refused if it has changed since.
    pub record: Arc<Backup>,
    /// The new phase.
    pub phase: BackupPhase,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// What must still hold of the Job when this is written.
    pub evidence: Evidence,
}

/// What a correction rests on beside the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The Job of this name and UID has failed.
    JobFailed {
        /// Name.
        name: String,
        /// UID.
        uid: String,
    },
    /// There is no Job of this name.
    NoJob {
        /// Name.
        name: String,
    },
    /// Only what the record says of itself: nothing ends by it.
    Progress,
}

/// What the records of one policy are to say instead, and when to look again. Without a schedule, because the policy's
/// is wrong, nothing is said of days that no Job stands for.
pub fn corrections(
    policy: &str,
    schedule: Option<&Schedule>,
    deadline_seconds: i64,
    observed: &Observed,
    now: DateTime<Utc>,
) -> (Vec<Correction>, Option<DateTime<Utc>>) {
    let mut corrections = Vec::new();
    let mut look_again: Option<DateTime<Utc>> = None;
    for record in &observed.records {
        let judge = Judge {
            policy,
            schedule,
            deadline_seconds,
            observed,
            record,
            now,
        };
        match judge.judge() {
            Judgement::Correct(correction) => corrections.push(*correction),
            Judgement::Later(at) => look_again = Some(look_again.map_or(at, |earlier| earlier.min(at))),
            Judgement::Fine => {}
        }
    }
    (corrections, look_again)
}

/// What records of policies that are gone are to say: their Jobs and the runners' rights went with the policy.
pub fn of_gone_policies(records: &[Arc<Backup>]) -> Vec<Correction> {
    records
        .iter()
        .filter_map(|record| {
            let status = record.status.clone().unwrap_or_default();
            if is_terminal(status.phase) || status.upload.state == UploadState::Completed {
                return None;
            }
            let phase = match status.phase {
                BackupPhase::Scheduled => BackupPhase::Missed,
                _ => ended(record),
            };
            Some(Correction {
                record: record.clone(),
                phase,
                reason: "PolicyGone".into(),
                message: "the BackupPolicy was deleted before the run ended".into(),
                evidence: Evidence::NoJob {
                    name: backup_runner::job_name(&record.spec.policy_ref.name, record.spec.scheduled_at),
                },
            })
        })
        .collect()
}

/// Whether a phase is an end.
pub fn is_terminal(phase: BackupPhase) -> bool {
    use BackupPhase::{Archiving, Completed, Dumping, Failed, Missed, Scheduled, Unknown, Uploading, Verifying};
    match phase {
        Completed | Failed | Missed | Unknown => true,
        Scheduled | Dumping | Archiving | Verifying | Uploading => false,
    }
}

enum Judgement {
    Fine,
    Later(DateTime<Utc>),
    Correct(Box<Correction>),
}

struct Judge<'a> {
    policy: &'a str,
    schedule: Option<&'a Schedule>,
    deadline_seconds: i64,
    observed: &'a Observed,
    record: &'a Arc<Backup>,
    now: DateTime<Utc>,
}

impl Judge<'_> {
    fn judge(&self) -> Judgement {
        let status = self.record.status.clone().unwrap_or_default();
        if status.upload.state == UploadState::Completed {
            return Judgement::Fine;
        }
        let Ok(day) = self.record.spec.slot.parse::<NaiveDate>() else {
            return Judgement::Fine;
        };
        let job = self.job(day);
        let mut phase = status.phase;
        if is_terminal(phase) {
            // What a record says of its end stands until a Job that was made after it has something to say.
            let made_since = job.is_some_and(|job| {
                let made = job.creation_timestamp().map(|made| clock::from_time(&made));
                made.is_some() && made > status.completed_at
            });
            if !made_since || status.upload.state != UploadState::None {
                return Judgement::Fine;
            }
            phase = BackupPhase::Scheduled;
        }
        let Some(job) = job else {
            return self.without_job(phase, day);
        };
        match job_state(job) {
            JobState::Failed => self.correct(
                ended(self.record),
                "JobFailed",
                self.why_failed(job),
                Evidence::JobFailed {
                    name: job.name_any(),
                    uid: job.uid().unwrap_or_default(),
                },
            ),
            JobState::Active if status.upload.state == UploadState::None => self.not_started(job, phase),
            JobState::Active | JobState::Complete | JobState::Terminating => Judgement::Fine,
        }
    }

    /// Says why a Job's pod does not start, if anything is known to hinder it: the first one, or one that comes after one
    /// that has ended. How far the run was stays as it is.
    fn not_started(&self, job: &Job, phase: BackupPhase) -> Judgement {
        let name = job.name_any();
        let pods = || self.observed.pods_of(&name).map(|pod| &**pod);
        let told = self.record.status.as_ref().and_then(|status| status.message.as_deref());
        match hindrance(pods(), self.observed.refused.get(&name).map(String::as_str)) {
            Some(found) if told != Some(found.message.as_str()) => {
                self.correct(phase, found.reason.as_str(), found.message, Evidence::Progress)
            }
            _ if (phase == BackupPhase::Scheduled && pods().next().is_none()) || lacks_pod(job, pods(), self.now) => {
                Judgement::Later(self.now + ASK_AGAIN)
            }
            _ => Judgement::Fine,
        }
    }

    /// The newest Job of the day, whenever in the day it was due.
    fn job(&self, day: NaiveDate) -> Option<&Arc<Job>> {
        self.observed
            .jobs
            .iter()
            .filter(|job| {
                backup_runner::scheduled_at(self.policy, &job.name_any()).is_some_and(|at| match self.schedule {
                    Some(schedule) => backup_runner::slot(at, &schedule.zone) == day,
                    None => at == self.record.spec.scheduled_at,
                })
            })
            .max_by_key(|job| job.creation_timestamp())
    }

    fn without_job(&self, phase: BackupPhase, day: NaiveDate) -> Judgement {
        let Some(schedule) = self.schedule else {
            return Judgement::Fine;
        };
        // An edited schedule moves the run within its day; the record keeps the time that it was made with.
        let made_for = self.record.spec.scheduled_at;
        let moved_to = schedule.slot(day).map(|slot| slot.at).filter(|at| *at != made_for);
        let due = moved_to.map_or(made_for, |at| at.max(made_for));
        let evidence = Evidence::NoJob {
            name: backup_runner::job_name(self.policy, due),
        };
        if phase == BackupPhase::Scheduled {
            let closes = schedule.closes(due);
            let after_day = day
                .checked_add_days(Days::new(1))
                .and_then(|next| {
                    schedule
                        .zone
                        .from_local_datetime(&next.and_hms_opt(0, 0, 0)?)
                        .earliest()
                })
                .map_or(closes, |midnight| midnight.to_utc());
            let missed_at = closes.max(after_day) + GRACE;
            if self.now < missed_at {
                return Judgement::Later(missed_at);
            }
            let why = match moved_to {
                Some(at) => format!(
                    "the schedule was changed meanwhile and the day's run moved to {}",
                    at.format("%FT%TZ")
                ),
                None => {
                    "the policy was suspended, or the operator or the cluster's CronJob controller was away".to_owned()
                }
            };
            let message = format!(
                "no run started from {} to {} (schedule.catchUpWindow): {why}",
                due.format("%FT%TZ"),
                closes.format("%FT%TZ"),
            );
            return self.correct(BackupPhase::Missed, "Missed", message, evidence);
        }
        let began = self
            .record
            .status
            .as_ref()
            .and_then(|status| status.started_at)
            .unwrap_or(due);
        let over = began + TimeDelta::seconds(self.deadline_seconds) + GRACE;
        if self.now < over {
            return Judgement::Later(over);
        }
        self.correct(
            ended(self.record),
            "JobGone",
            "the Job is gone and its runner did not say how it ended".into(),
            evidence,
        )
    }

    fn why_failed(&self, job: &Job) -> String {
        let name = job.name_any();
        let mut message = match job_condition(job, "Failed") {
            Some(condition) => format!(
                "the Job {name} failed ({}): {}",
                condition.reason.as_deref().unwrap_or("no reason"),
                condition.message.as_deref().unwrap_or("no message")
            ),
            None => format!("the Job {name} failed"),
        };
        if let Some(how) = self.observed.pods_of(&name).find_map(|pod| termination(pod)) {
            message = format!("{message}; {how}");
        }
        // What hindered the pod, or what the runner said last.
        if let Some(before) = self.record.status.as_ref().and_then(|status| status.message.as_deref()) {
            message = format!("{message}; before that: {before}");
        }
        message
    }

    fn correct(&self, phase: BackupPhase, reason: &str, message: String, evidence: Evidence) -> Judgement {
        Judgement::Correct(Box::new(Correction {
            record: self.record.clone(),
            phase,
            reason: reason.to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
            evidence,
        }))
    }
}

/// Failed, unless a pod was allowed to write.
fn ended(record: &Backup) -> BackupPhase {
    let upload = record
        .status
        .as_ref()
        .map(|status| status.upload.state)
        .unwrap_or_default();
    if upload == UploadState::None {
        BackupPhase::Failed
    } else {
        BackupPhase::Unknown
    }
}

/// The fields that a correction writes.
pub fn correction_patch(correction: &Correction, now: DateTime<Utc>) -> serde_json::Value {
    let mut status = serde_json::json!({
        "phase": correction.phase,
        "reason": correction.reason,
        "message": correction.message,
    });
    if is_terminal(correction.phase)
        && let Some(fields) = status.as_object_mut()
    {
        fields.insert("completedAt".into(), serde_json::json!(clock::whole_seconds(now)));
    }
    serde_json::json!({
        "metadata": {"resourceVersion": correction.record.resource_version()},
        "status": status,
    })
}
