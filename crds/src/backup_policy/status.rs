//! What the operator saw of a policy's backups.

use crate::condition::conditions_schema;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the records of this policy say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicyStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator has seen the object.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// The newest slot with a stored archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<LastSuccess>,
    /// The newest slot for which a run was allowed to write: its archive is stored, or may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_upload: Option<LastUpload>,
    /// The slot of the next scheduled run, `yyyy-mm-dd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub next_slot: Option<String>,
    /// When the next scheduled run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<DateTime<Utc>>,
    /// The run by hand that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// Ready-made texts for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<BackupSummary>,
    /// Conditions: Ready, Scheduled, LastBackupSucceeded, Verified, Stale, with a bucket ConditionalWrites, with retention RetentionHealthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// A slot with a stored archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastSuccess {
    /// The day, `yyyy-mm-dd`.
    #[schemars(length(max = 10))]
    pub slot: String,
    /// Size of the archive. Unit: bytes.
    pub bytes: i64,
    /// sha256 of the archive, lower-case hex.
    #[schemars(length(max = 64))]
    pub sha256: String,
    /// Where the archive is, relative to the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub key: Option<String>,
    /// How far the archive was checked: Local before it was stored, then how a trial restore ended, Restored or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub verified: Option<String>,
    /// When the archive was stored.
    pub time: DateTime<Utc>,
}

/// A slot for which a run was allowed to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastUpload {
    /// The day, `yyyy-mm-dd`.
    #[schemars(length(max = 10))]
    pub slot: String,
}

/// A run by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// Value of the run annotation.
    #[schemars(length(max = 256))]
    pub id: String,
    /// The day that it stands for, `yyyy-mm-dd`.
    #[schemars(length(max = 10))]
    pub slot: String,
    /// What came of it.
    pub result: LastRunResult,
    /// A sentence on why.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What came of a run by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LastRunResult {
    /// A Job was started for today's slot.
    Started,
    /// Today's archive is stored already; nothing was started.
    SlotUsed,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Ready-made texts: a printer column shows one JSONPath only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupSummary {
    /// Time of day and zone, for example `00:00 Europe/Berlin`.
    #[schemars(length(max = 80))]
    pub schedule: String,
    /// Size of the newest archive, for example `1.2 MiB`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub size: String,
    /// How the last trial restore ended: Restored, Failed, Inconclusive; NotRestored before the first.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub verified: String,
}

fn unseen() -> i64 {
    -1
}
