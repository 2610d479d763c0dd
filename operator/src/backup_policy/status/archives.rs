//! What the records tell of the archives themselves: restored on trial, removed in time, written under a condition. Pure.

use super::super::reason::Reason;
use crate::runtime::conditions::ConditionUpdate;
use std::sync::Arc;
use valerix_crds::{
    Backup, BackupPolicy, ConditionStatus, ConditionalWrites, S3Destination, TrialRestore, TrialRestoreState,
    TrialRestoreStatus,
    names::condition::{CONDITIONAL_WRITES, RETENTION_HEALTHY, VERIFIED},
};

/// The newest trial restore that has ended.
pub fn last_trial(records: &[Arc<Backup>]) -> Option<(&Backup, &TrialRestoreStatus)> {
    records.iter().rev().find_map(|record| {
        let trial = record.status.as_ref()?.verification.as_ref()?;
        (trial.state != TrialRestoreState::Running).then_some((&**record, trial))
    })
}

/// What the newest trial restore has shown.
pub fn verified(policy: &BackupPolicy, records: &[Arc<Backup>]) -> ConditionUpdate<'static> {
    let update = |status, reason, message| ConditionUpdate {
        kind: VERIFIED,
        status,
        reason,
        message,
    };
    let Some((record, trial)) = last_trial(records) else {
        let verification = policy.spec.verification.as_ref();
        let off = verification.is_none_or(|verification| verification.restore == TrialRestore::Off);
        return if off {
            let message = "no archive is restored on trial: set spec.verification.restore";
            update(ConditionStatus::Unknown, Reason::NotConfigured.as_str(), message.into())
        } else {
            let message = "no trial restore has ended yet";
            update(ConditionStatus::Unknown, Reason::NotRestored.as_str(), message.into())
        };
    };
    let message = format!(
        "{}: {}",
        record.spec.slot,
        trial.message.as_deref().unwrap_or("no message")
    );
    match trial.state {
        TrialRestoreState::Restored => update(ConditionStatus::True, Reason::Restored.as_str(), message),
        TrialRestoreState::Failed => update(ConditionStatus::False, Reason::RestoreFailed.as_str(), message),
        TrialRestoreState::Running | TrialRestoreState::Inconclusive => {
            update(ConditionStatus::Unknown, Reason::Inconclusive.as_str(), message)
        }
    }
}

/// What the newest run that has looked at old archives says.
pub fn retention_healthy(records: &[Arc<Backup>]) -> ConditionUpdate<'static> {
    let looked = records.iter().rev().find_map(|record| {
        let retention = record.status.as_ref()?.retention.as_ref()?;
        Some((record, retention))
    });
    let (status, reason, message) = match looked {
        None => (
            ConditionStatus::Unknown,
            Reason::NotYet.as_str(),
            "no run has looked at old archives yet: it does once it has stored one".into(),
        ),
        Some((record, retention)) => (
            if retention.healthy {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            },
            if retention.healthy {
                Reason::Applied.as_str()
            } else {
                Reason::NotApplied.as_str()
            },
            format!("{}: {}", record.spec.slot, retention.message),
        ),
    };
    ConditionUpdate {
        kind: RETENTION_HEALTHY,
        status,
        reason,
        message,
    }
}

/// What the bucket made of `If-None-Match`, as the newest run that saw it says.
pub fn conditional_writes(destination: &S3Destination, records: &[Arc<Backup>]) -> ConditionUpdate<'static> {
    let seen = records.iter().rev().find_map(|record| {
        let upload = &record.status.as_ref()?.upload;
        let here = upload.bucket.as_ref() == Some(&destination.bucket);
        upload.conditional_writes.filter(|_| here)
    });
    let bucket = &destination.bucket;
    let (status, reason, message) = match seen {
        Some(ConditionalWrites::Enforced) => (
            ConditionStatus::True,
            Reason::Enforced.as_str(),
            format!("the store of bucket {bucket} has refused to overwrite"),
        ),
        Some(ConditionalWrites::Ignored) => (
            ConditionStatus::False,
            Reason::Ignored.as_str(),
            format!(
                "the store of bucket {bucket} does not obey If-None-Match: only the record keeps two pods from storing one day twice"
            ),
        ),
        Some(ConditionalWrites::Unknown) | None => (
            ConditionStatus::Unknown,
            Reason::NotAsked.as_str(),
            format!("no run has seen what the store of bucket {bucket} makes of If-None-Match"),
        ),
    };
    ConditionUpdate {
        kind: CONDITIONAL_WRITES,
        status,
        reason,
        message,
    }
}
