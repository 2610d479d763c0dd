//! What became of a Restore. The operator writes where the archive is, its Jobs and the conditions, the runner the rest;
//! neither sends a field of the other but to end the story of a runner that cannot.

use crate::condition::conditions_schema;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far the restore is, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator has seen the object.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// Where the restore stands.
    #[serde(default)]
    pub phase: RestorePhase,
    /// One word on why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// A sentence on why, with the remedy where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The archive that was chosen; it does not change any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RestoreSourceStatus>,
    /// The Job that restores: there is never a second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<RestoreJobStatus>,
    /// UID of the pod that is at work; another one that was at work before it does nothing more.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
    /// What became of each database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub databases: Vec<RestoreDatabaseStatus>,
    /// Tables that were restored and compared, of all databases. Unit: tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<i64>,
    /// When the runner began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the restore ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
    /// Conditions: Ready, Completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Where a restore stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// No runner has begun.
    #[default]
    Pending,
    /// The archive is being copied to scratch.
    Fetching,
    /// The archive is held against its manifest, and the target against the plan.
    Checking,
    /// Dumps are restored into databases of their own and compared.
    Restoring,
    /// The restored databases get their names.
    Swapping,
    /// Everything is in its place.
    Completed,
    /// Nothing was changed, or everything was put back; `message` says why.
    Failed,
}

impl RestorePhase {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// The archive that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSourceStatus {
    /// The day that it stands for, `yyyy-mm-dd`; of an archive by its place, once it has been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub slot: Option<String>,
    /// Where it is, relative to the destination.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// sha256 that it must have, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// Name of the claim that it is on, where it is on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
}

/// A Job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreJobStatus {
    /// Name of the Job.
    #[schemars(length(max = 63))]
    pub name: String,
    /// UID of the Job.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// What became of one database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDatabaseStatus {
    /// Its name in the archive.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its name on the server.
    #[serde(rename = "as")]
    #[schemars(length(max = 63))]
    pub target: String,
    /// Where it stands.
    #[serde(default)]
    pub phase: RestoreDatabasePhase,
    /// Name under which it is restored, until it gets its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub staged: Option<String>,
    /// OID of the restored database, by which a runner knows it under whatever name. Unit: OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<i64>,
    /// Size of its dump. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Tables that were restored and compared. Unit: tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<i64>,
    /// How long it took. Unit: seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// The database that it replaced, by its present name. It accepts no connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub previous: Option<String>,
    /// OID of the replaced database. Unit: OID.
    #[serde(rename = "previousOid", default, skip_serializing_if = "Option::is_none")]
    pub previous_oid: Option<i64>,
    /// When the replaced database is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<DateTime<Utc>>,
    /// Whether the replaced database was dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub previous_dropped: bool,
    /// What is worth knowing, for example that everything belongs to another role than it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub note: Option<String>,
}

/// Where one database stands; a later one is a further step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestoreDatabasePhase {
    /// Nothing was done for it.
    #[default]
    Pending,
    /// A database under its staged name is or was about to be made.
    Restoring,
    /// It holds what the manifest says, under its staged name.
    Restored,
    /// It is about to get its name; a replaced one is closed.
    Swapping,
    /// It has its name.
    Completed,
}

fn unseen() -> i64 {
    -1
}
