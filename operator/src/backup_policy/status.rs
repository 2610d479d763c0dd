//! Fifth step: what the policy's status says. Pure.

mod archives;
#[cfg(test)]
mod tests;

use super::{dereference::Observed, error::Error, reason::Reason, records::is_terminal, slot::Slot, validate::Plan};
use crate::runtime::{
    Category, News, clock,
    conditions::{ConditionUpdate, find_condition, set_condition},
};
pub use archives::last_trial;
use archives::{conditional_writes, retention_healthy, verified};
use chrono::{DateTime, TimeDelta, Utc};
use valerix_crds::{
    Backup, BackupPhase, BackupPolicy, BackupPolicyStatus, BackupSummary, ConditionStatus, LastRun, LastSuccess,
    LastUpload, UploadState,
    backup_runner::human_size,
    names::condition::{
        CONDITIONAL_WRITES, LAST_BACKUP_SUCCEEDED, READY, RETENTION_HEALTHY, SCHEDULED, STALE, VERIFIED,
    },
};

/// What events of this kind are about.
const ACTION: &str = "Backup";
/// A day, and two hours for the run itself.
const STALE_AFTER: TimeDelta = TimeDelta::hours(26);

/// What the steps before have found.
pub struct Found<'a> {
    /// The plan, if there is one.
    pub plan: Option<&'a Plan>,
    /// What stands in the way.
    pub error: Option<&'a Error>,
    /// What the caches have.
    pub observed: &'a Observed,
    /// The answer to a run by hand, if it was given just now.
    pub last_run: Option<LastRun>,
}

impl Found<'_> {
    /// Whether the CronJob stands and would start the planned run.
    fn fires(&self, plan: &Plan) -> bool {
        self.observed
            .cron_job
            .as_ref()
            .and_then(|cron_job| cron_job.spec.as_ref())
            .is_some_and(|spec| spec.schedule == plan.schedule.cron() && spec.suspend != Some(true))
    }
}

/// Computes the status, and when it would change by the clock alone.
pub fn status(policy: &BackupPolicy, found: &Found<'_>, now: DateTime<Utc>) -> (BackupPolicyStatus, DateTime<Utc>) {
    let old = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation.unwrap_or_default();
    let last_success = last_success(old.last_success.as_ref(), &found.observed.records);
    let next = found.plan.filter(|plan| !plan.spec.suspend).map(|plan| plan.next);
    let (stale, stale_at) = stale(policy, last_success.as_ref(), now);
    let mut conditions = old.conditions;
    for update in [
        ready(found),
        scheduled(found, next),
        last_backup(&found.observed.records),
        verified(policy, &found.observed.records),
        stale,
    ] {
        set_condition(&mut conditions, update, generation, now);
    }
    match &policy.spec.destination.s3 {
        Some(destination) => {
            let update = conditional_writes(destination, &found.observed.records);
            set_condition(&mut conditions, update, generation, now);
        }
        // It says nothing of a volume, whose link(2) never overwrites.
        None => conditions.retain(|condition| condition.type_ != CONDITIONAL_WRITES),
    }
    if policy.spec.retention.is_some() {
        let update = retention_healthy(&found.observed.records);
        set_condition(&mut conditions, update, generation, now);
    } else {
        conditions.retain(|condition| condition.type_ != RETENTION_HEALTHY);
    }
    let status = BackupPolicyStatus {
        observed_generation: generation,
        next_slot: next.map(|slot| slot.day.to_string()),
        next_run_at: next.map(|slot| slot.at),
        last_run: found.last_run.clone().or(old.last_run),
        summary: Some(BackupSummary {
            schedule: format!(
                "{} {}",
                policy.spec.schedule.time_of_day, policy.spec.schedule.time_zone
            ),
            size: last_success
                .as_ref()
                .map(|success| human_size(success.bytes))
                .unwrap_or_default(),
            verified: last_trial(&found.observed.records)
                .map_or_else(|| "NotRestored".into(), |(_, trial)| format!("{:?}", trial.state)),
        }),
        last_upload: last_upload(old.last_upload, &found.observed.records),
        last_success,
        conditions,
    };
    let look_again = [stale_at, found.plan.map(|plan| plan.next.at)]
        .into_iter()
        .flatten()
        .min();
    (status, look_again.unwrap_or(now + TimeDelta::days(1)))
}

/// What is worth an event in the step from one status to the next.
pub fn news(old: &BackupPolicyStatus, new: &BackupPolicyStatus) -> Vec<News> {
    let mut news = Vec::new();
    if let Some(run) = new.last_run.as_ref().filter(|run| old.last_run.as_ref() != Some(*run)) {
        news.push(News::good(
            format!("{:?}", run.result),
            ACTION,
            format!("run {} for {}: {}", run.id, run.slot, run.message),
        ));
    }
    let last = find_condition(&new.conditions, LAST_BACKUP_SUCCEEDED);
    let before = find_condition(&old.conditions, LAST_BACKUP_SUCCEEDED);
    if let Some(last) = last.filter(|last| {
        last.reason != Reason::NoBackupYet.as_str() && before.is_none_or(|before| before.message != last.message)
    }) {
        let reason = format!("Backup{}", last.reason);
        news.push(if last.status == "True" {
            News::good(reason, ACTION, last.message.clone())
        } else {
            News::bad(reason, ACTION, last.message.clone())
        });
    }
    let trial = find_condition(&new.conditions, VERIFIED);
    let before = find_condition(&old.conditions, VERIFIED);
    if let Some(trial) = trial.filter(|trial| {
        [
            Reason::Restored.as_str(),
            Reason::RestoreFailed.as_str(),
            Reason::Inconclusive.as_str(),
        ]
        .contains(&trial.reason.as_str())
            && before.is_none_or(|before| before.message != trial.message)
    }) {
        let reason = format!("Trial{}", trial.reason);
        news.push(if trial.status == "True" {
            News::good(reason, ACTION, trial.message.clone())
        } else {
            News::bad(reason, ACTION, trial.message.clone())
        });
    }
    news
}

fn ready(found: &Found<'_>) -> ConditionUpdate<'static> {
    match found.error {
        Some(error) => ConditionUpdate {
            kind: READY,
            status: ConditionStatus::False,
            reason: error.category(),
            message: error.to_string(),
        },
        None => ConditionUpdate {
            kind: READY,
            status: ConditionStatus::True,
            reason: Reason::Reconciled.as_str(),
            message: "the CronJob stands and the record of the next slot is made".into(),
        },
    }
}

fn scheduled(found: &Found<'_>, next: Option<Slot>) -> ConditionUpdate<'static> {
    let (status, reason, message) = match (found.plan, next) {
        (None, _) => (
            ConditionStatus::False,
            found.error.map_or(Reason::InvalidSpec.as_str(), Category::category),
            found.error.map_or_else(String::new, |error| {
                format!("no scheduled run starts until this is mended: {error}")
            }),
        ),
        (Some(_), None) => (
            ConditionStatus::False,
            Reason::Suspended.as_str(),
            "spec.suspend is true: no scheduled run starts; a run by hand does (annotation resilience.valerix.io/run, a new value each time)".into(),
        ),
        // Nothing is promised that cannot start: no CronJob that would start it, or no record for it.
        (Some(plan), Some(_)) if found.error.is_some_and(|error| !found.fires(plan) || error.takes_the_record()) => (
            ConditionStatus::False,
            found.error.map_or(Reason::NoCronJob.as_str(), Category::category),
            found.error.map_or_else(String::new, ToString::to_string),
        ),
        (Some(_), Some(next)) => (
            ConditionStatus::True,
            Reason::NextRunKnown.as_str(),
            format!("the run of {} starts at {}", next.day, next.at.format("%FT%TZ")),
        ),
    };
    ConditionUpdate {
        kind: SCHEDULED,
        status,
        reason,
        message,
    }
}

/// The newest slot that has ended.
fn last_backup(records: &[std::sync::Arc<Backup>]) -> ConditionUpdate<'static> {
    let ended = records.iter().rev().find_map(|record| {
        let status = record.status.as_ref()?;
        is_terminal(status.phase).then_some((record, status))
    });
    let update = |status, reason, message| ConditionUpdate {
        kind: LAST_BACKUP_SUCCEEDED,
        status,
        reason,
        message,
    };
    let Some((record, status)) = ended else {
        return update(
            ConditionStatus::Unknown,
            Reason::NoBackupYet.as_str(),
            "no run has ended yet".into(),
        );
    };
    let message = format!(
        "{}: {}",
        record.spec.slot,
        status.message.as_deref().unwrap_or("no message")
    );
    match status.phase {
        BackupPhase::Completed => update(ConditionStatus::True, Reason::Stored.as_str(), message),
        BackupPhase::Missed => update(ConditionStatus::False, Reason::Missed.as_str(), message),
        BackupPhase::Unknown => update(ConditionStatus::Unknown, Reason::UploadUnknown.as_str(), message),
        _ => update(ConditionStatus::False, Reason::Failed.as_str(), message),
    }
}

/// The newest stored slot that anybody remembers: records may have been deleted, the archive has not.
fn last_success(old: Option<&LastSuccess>, records: &[std::sync::Arc<Backup>]) -> Option<LastSuccess> {
    let newest = records.iter().rev().find_map(|record| {
        let status = record.status.as_ref()?;
        if status.phase != BackupPhase::Completed || status.upload.state != UploadState::Completed {
            return None;
        }
        Some(LastSuccess {
            slot: record.spec.slot.clone(),
            bytes: status.upload.bytes.unwrap_or_default(),
            sha256: status.upload.sha256.clone().unwrap_or_default(),
            key: status.upload.key.clone(),
            verified: status.verified.clone(),
            time: clock::whole_seconds(status.completed_at.or(status.upload.started_at)?),
        })
    });
    match (newest, old) {
        (Some(newest), Some(old)) if old.slot > newest.slot => Some(old.clone()),
        (Some(newest), _) => Some(newest),
        (None, old) => old.cloned(),
    }
}

/// The newest slot for which anybody remembers that a run was allowed to write.
fn last_upload(old: Option<LastUpload>, records: &[std::sync::Arc<Backup>]) -> Option<LastUpload> {
    let newest = records.iter().rev().find(|record| {
        let state = record.status.as_ref().map(|status| status.upload.state);
        state.is_some_and(|state| state != UploadState::None)
    });
    let newest = newest.map(|record| LastUpload {
        slot: record.spec.slot.clone(),
    });
    // A record may have been deleted; a hold that was given back is none, and its record is there to say so.
    let remembered = old.filter(|old| !records.iter().any(|record| record.spec.slot == old.slot));
    newest
        .into_iter()
        .chain(remembered)
        .max_by(|left, right| left.slot.cmp(&right.slot))
}

fn stale(
    policy: &BackupPolicy,
    last_success: Option<&LastSuccess>,
    now: DateTime<Utc>,
) -> (ConditionUpdate<'static>, Option<DateTime<Utc>>) {
    let created = policy
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, clock::from_time);
    let since = last_success.map_or(created, |success| success.time);
    let stale_at = since + STALE_AFTER;
    let is_stale = now > stale_at;
    let (reason, message) = match (is_stale, last_success) {
        (true, Some(success)) => (
            Reason::Overdue.as_str(),
            format!("the newest archive is of {}: more than 26 h old", success.slot),
        ),
        (true, None) => (
            Reason::NeverStored.as_str(),
            "no archive was stored in the 26 h since the policy was made".into(),
        ),
        (false, Some(success)) => (
            Reason::Fresh.as_str(),
            format!("the newest archive is of {}", success.slot),
        ),
        (false, None) => (Reason::New.as_str(), "no archive is expected yet".into()),
    };
    let status = if is_stale {
        ConditionStatus::True
    } else {
        ConditionStatus::False
    };
    let update = ConditionUpdate {
        kind: STALE,
        status,
        reason,
        message,
    };
    (update, (!is_stale).then_some(stale_at + TimeDelta::seconds(1)))
}
