//! A policy of backups, and the record of one of its days.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use valerix_crds::{Backup, BackupPolicy};

use super::{ConditionView, conditions, identity, word};

/// A BackupPolicy.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Time of day and zone, such as `00:00 Europe/Berlin`.
    pub schedule: String,
    /// The databases that are kept.
    pub databases: Vec<String>,
    /// The Secrets by which they are reached, each once.
    pub secrets: Vec<String>,
    /// Whether scheduled runs are suspended.
    pub suspended: bool,
    /// When the next scheduled run starts.
    pub next_run_at: Option<DateTime<Utc>>,
    /// The day whose archive is the newest.
    pub last_success: Option<String>,
    /// Size of the newest archive.
    pub size: String,
    /// What came of the last run by hand.
    pub last_run: Option<String>,
    /// What the operator says.
    pub conditions: Vec<ConditionView>,
}

/// A Backup.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The policy that it belongs to.
    pub policy: String,
    /// The day, `yyyy-mm-dd`.
    pub slot: String,
    /// Where the run stands.
    pub phase: String,
    /// One word on why.
    pub reason: String,
    /// A sentence on why.
    pub message: String,
    /// How far the archive was checked; none before.
    pub verified: Option<String>,
    /// What the newest trial restore found.
    pub trial: Option<String>,
    /// Size of the archive. Unit: bytes.
    pub bytes: Option<i64>,
    /// Size of the archive in words.
    pub size: Option<String>,
    /// sha256 of the archive.
    pub sha256: Option<String>,
    /// When the run is due.
    pub scheduled_at: DateTime<Utc>,
    /// When the runner began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

impl From<&BackupPolicy> for PolicyView {
    fn from(policy: &BackupPolicy) -> Self {
        let (namespace, name) = identity(&policy.metadata);
        let status = policy.status.clone().unwrap_or_default();
        let schedule = &policy.spec.schedule;
        let secrets = (policy.spec.databases.iter()).map(|database| database.connection_secret_ref.name.clone());
        Self {
            schedule: format!("{} {}", schedule.time_of_day, schedule.time_zone),
            databases: policy
                .spec
                .databases
                .iter()
                .map(|database| database.name.clone())
                .collect(),
            secrets: BTreeSet::from_iter(secrets).into_iter().collect(),
            suspended: policy.spec.suspend,
            next_run_at: status.next_run_at,
            last_success: status.last_success.map(|success| success.slot),
            size: status.summary.unwrap_or_default().size,
            last_run: status.last_run.map(|run| run.message),
            conditions: conditions(&status.conditions),
            namespace,
            name,
        }
    }
}

impl From<&Backup> for BackupView {
    fn from(backup: &Backup) -> Self {
        let (namespace, name) = identity(&backup.metadata);
        let status = backup.status.clone().unwrap_or_default();
        Self {
            policy: backup.spec.policy_ref.name.clone(),
            slot: backup.spec.slot.clone(),
            phase: word(&status.phase),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            verified: status.verified,
            trial: status.verification.and_then(|trial| trial.message),
            bytes: status.upload.bytes,
            size: status.size,
            sha256: status.upload.sha256,
            scheduled_at: backup.spec.scheduled_at,
            started_at: status.started_at,
            completed_at: status.completed_at,
            namespace,
            name,
        }
    }
}
