//! Backup: the record of one day's slot. The operator creates it ahead, the runner reports into it.

use chrono::{DateTime, Utc};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the record stands for; it never changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "resilience.valerix.io",
    version = "v1alpha1",
    kind = "Backup",
    plural = "backups",
    category = "valerix",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    doc = "The record of one day's slot of a BackupPolicy, named <policy>-<yyyymmdd>. It is the fence that lets one archive a day be stored.",
    printcolumn(name = "Slot", type_ = "string", json_path = ".spec.slot"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.verified"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("spec of a Backup never changes: it is the record of what a day's slot stands for"))]
pub struct BackupSpec {
    /// The policy that the slot belongs to. Required.
    pub policy_ref: BackupPolicyReference,
    /// The civil date of the run in the policy's zone, `yyyy-mm-dd`. Required.
    #[schemars(length(max = 10), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub slot: String,
    /// When the slot's run is due. Unit: RFC 3339 time. Required.
    pub scheduled_at: DateTime<Utc>,
}

/// Name and UID of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupPolicyReference {
    /// Name of the BackupPolicy. Required.
    #[schemars(length(min = 1, max = 52))]
    pub name: String,
    /// UID of the BackupPolicy. Required.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What the runner did and saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Where the run stands.
    #[serde(default)]
    pub phase: BackupPhase,
    /// One word on why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// A sentence on why, with the remedy where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When the runner began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the run ended; of an archive that a later run found stored, when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
    /// What each dump holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub databases: Vec<BackupDatabaseStatus>,
    /// The fence before the one write.
    #[serde(default)]
    pub upload: Upload,
    /// How far the archive was checked: Local before it was stored, then how a trial restore ended, Restored or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub verified: Option<String>,
    /// The trial restore of the archive, once one was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<TrialRestoreStatus>,
    /// Which earlier archives were removed once this one was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// What the run found on the destination that no record tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundArchives>,
    /// Uploads in parts that a run has begun, until they are certainly completed or aborted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub open_uploads: Vec<OpenUpload>,
    /// Size of the archive for `kubectl get`, for example `1.2 MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// The slot is known and not begun.
    #[default]
    Scheduled,
    /// Databases are being dumped.
    Dumping,
    /// The archive is being written.
    Archiving,
    /// The archive is being read back and checked.
    Verifying,
    /// The archive is being stored.
    Uploading,
    /// The archive is stored.
    Completed,
    /// Nothing was stored; `message` says why.
    Failed,
    /// The slot's day passed without a run.
    Missed,
    /// It is not known whether the archive was stored.
    #[serde(other)]
    Unknown,
}

/// What became of earlier archives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// Whether everything was done that spec.retention asks for.
    pub healthy: bool,
    /// A sentence on what was done, or why it was not.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Slots whose archives were removed, `yyyy-mm-dd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 10)))]
    pub removed: Vec<String>,
}

/// Archives that lie on the destination and of which no record tells, as after the loss of a cluster. The operator makes a
/// Backup of each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundArchives {
    /// A sentence on what lies there, and on what could not be recorded.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The archives, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub archives: Vec<FoundArchive>,
}

/// One archive, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundArchive {
    /// The day that it stands for, `yyyy-mm-dd`.
    #[schemars(length(max = 10))]
    pub slot: String,
    /// UID of the policy that stored it.
    #[serde(rename = "policyUID")]
    #[schemars(length(min = 1, max = 64))]
    pub policy_uid: String,
    /// When it was made. Unit: RFC 3339 time.
    pub made_at: DateTime<Utc>,
    /// What each dump holds, where the archive was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub databases: Vec<BackupDatabaseStatus>,
    /// Where it lies.
    pub upload: Upload,
}

/// An upload in parts that was begun: its parts cost room until it is completed or aborted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenUpload {
    /// What the store calls it.
    #[schemars(length(min = 1, max = 1024))]
    pub id: String,
    /// Name of the bucket that has it.
    #[schemars(length(max = 63))]
    pub bucket: String,
    /// URL of the object store that has the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub endpoint: Option<String>,
    /// Key of the archive that it was to become.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
}

/// What a trial restore has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrialRestoreStatus {
    /// How it ended.
    #[serde(default)]
    pub state: TrialRestoreState,
    /// The last rung that was reached: Fetch, Restore, Structure, Volume, Semantics, Integrity or Time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub rung: Option<String>,
    /// How long fetching and restoring took. Unit: seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_seconds: Option<i64>,
    /// A sentence on what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// What was not looked at, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub not_run: Vec<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
}

/// How a trial restore ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TrialRestoreState {
    /// It is at work.
    #[default]
    Running,
    /// Everything was restored and every rung holds.
    Restored,
    /// The archive cannot be restored, or what comes out of it is not what went in.
    Failed,
    /// It could not be found out; that is never a pass.
    #[serde(other)]
    Inconclusive,
}

/// What one dump holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupDatabaseStatus {
    /// Name of the database in the policy.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Size of the dump before compression. Unit: bytes.
    pub bytes: i64,
    /// Tables in the dump. Unit: tables.
    pub tables: i64,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub server_version: Option<String>,
    /// Version of pg_dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_version: Option<String>,
    /// How long the dump took. Unit: milliseconds.
    #[serde(default)]
    pub duration_milliseconds: i64,
}

/// The fence before the one write: only the pod that turns None into Started may store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// Where the write stands.
    #[serde(default)]
    pub state: UploadState,
    /// UID of the pod that may write.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
    /// Name of the claim that the archive is on, where it is on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
    /// Name of the bucket that the archive is in, where it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub bucket: Option<String>,
    /// URL of the object store that has the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub endpoint: Option<String>,
    /// What the object store made of the condition not to overwrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<ConditionalWrites>,
    /// Where the archive is, relative to the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub key: Option<String>,
    /// sha256 of the archive, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// Size of the archive. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// When the fence was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
}

/// Where the one write stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UploadState {
    /// Nobody has been allowed to write.
    #[default]
    None,
    /// One pod is allowed to write and may have written.
    Started,
    /// The archive is stored and was read back.
    Completed,
    /// It cannot be found out whether the archive was stored.
    #[serde(other)]
    Unknown,
}

/// What an object store makes of `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionalWrites {
    /// It has refused to overwrite.
    Enforced,
    /// It has overwritten, or refuses the header.
    Ignored,
    /// It was not asked, or its answer was unclear.
    #[serde(other)]
    Unknown,
}
