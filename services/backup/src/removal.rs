//! Old archives go, once the day's is stored.
//!
//! In: the policy's rules. Out: what the day's record is to say of it. Reads the destination and the records, removes
//! archives that say themselves that they are this policy's. What hinders it is told and fails nothing: the archive is
//! stored, and the next run tries again.

use crate::{
    destination::{Destination, Removed},
    discovery::Strangers,
    failure::Failure,
    record::{MAX_MESSAGE, Record},
    retention::{self, Stored},
    settings::Settings,
};
use chrono::NaiveDate;
use valerix_crds::{BackupRetention, BackupStatus, RetentionStatus, TrialRestore, backup_runner::record_name};

/// The most that goes in one run: a mistake in the rules is seen before everything is gone.
const MOST: usize = 31;

/// Removes what the rules do not keep and says so on the record. `strangers` are neither counted nor touched: an archive
/// that tells nothing must not stay in the place of one that is known to be good. Without knowing them, nothing goes.
pub(crate) async fn remove_old(
    settings: &Settings,
    record: &Record,
    destination: &Destination,
    strangers: Result<Strangers, Failure>,
) {
    let Some(rules) = &settings.spec.retention else {
        return;
    };
    let found = match removed(settings, rules, record, destination, strangers).await {
        Ok(found) => found,
        Err(failure) => RetentionStatus {
            healthy: false,
            message: format!("old archives were not looked at: {failure}"),
            removed: Vec::new(),
        },
    };
    tracing::info!(healthy = found.healthy, removed = ?found.removed, message = found.message, "retention");
    let written = record.update(|status| {
        let mut told = found.clone();
        told.message = told.message.chars().take(MAX_MESSAGE).collect();
        Some(BackupStatus {
            retention: Some(told),
            ..status.clone()
        })
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "failed to say on the record which archives were removed");
    }
}

async fn removed(
    settings: &Settings,
    rules: &BackupRetention,
    record: &Record,
    destination: &Destination,
    strangers: Result<Strangers, Failure>,
) -> Result<RetentionStatus, Failure> {
    let strangers = strangers?;
    let verification = settings.spec.verification.as_ref();
    let restores = verification.is_some_and(|verification| verification.restore != TrialRestore::Off);
    let (mut stored, mut left) = (Vec::new(), Vec::new());
    let mut others = 0;
    for slot in destination.slots().await? {
        if strangers.foreign.contains(&slot) {
            others += 1;
            continue;
        }
        if let Some(why) = strangers.silent.get(&slot) {
            left.push(format!("{slot}: {why}"));
            continue;
        }
        if slot > settings.slot {
            left.push(format!("{slot}: it is of a later day than this run"));
            continue;
        }
        let verified = !restores || is_restored(settings, record, slot).await?;
        stored.push(Stored { slot, verified });
    }
    let plan = match retention::plan(&stored, rules, settings.slot) {
        Ok(plan) => plan,
        Err(refusal) => {
            return Ok(RetentionStatus {
                healthy: false,
                message: refusal.to_string(),
                removed: Vec::new(),
            });
        }
    };
    let mut gone = Vec::new();
    for slot in plan.removed.iter().take(MOST) {
        match destination.remove(*slot).await {
            Ok(Removed::Gone) => gone.push(slot.to_string()),
            Ok(Removed::Foreign) => others += 1,
            Ok(Removed::Left { why }) => left.push(format!("{slot}: {why}")),
            Err(failure) => left.push(failure.to_string()),
        }
    }
    let mut message = format!("{} archives removed, {} kept", gone.len(), plan.kept.len());
    if others > 0 {
        message.push_str(&format!("; {others} of other policies are theirs and stay"));
    }
    if !restores {
        message.push_str("; verification.restore is Off, so any archive counts for retention.minVerified");
    }
    if plan.removed.len() > MOST {
        message.push_str(&format!("; {} more go with the next runs", plan.removed.len() - MOST));
    }
    if !left.is_empty() {
        message.push_str(&format!("; left where they are: {}", left.join("; ")));
    }
    Ok(RetentionStatus {
        healthy: left.is_empty(),
        message,
        removed: gone,
    })
}

async fn is_restored(settings: &Settings, record: &Record, slot: NaiveDate) -> Result<bool, Failure> {
    let shared = &settings.arguments.shared;
    let record = record.named(&record_name(&shared.policy, slot));
    let found = record.find().await.map_err(Failure::Record)?;
    Ok(found.is_some_and(|found| {
        found.spec.policy_ref.uid == shared.policy_uid
            && found
                .status
                .is_some_and(|status| status.verified.as_deref() == Some("Restored"))
    }))
}
