//! Databases that are given back: from which archive, how far, and what is kept of what was there.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use valerix_crds::{Restore, RestoreDatabaseStatus};

use super::{ConditionView, conditions, identity, word};

/// A Restore.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Option<DateTime<Utc>>,
    /// The policy whose archive it is; none where the archive is named by its place.
    pub policy: Option<String>,
    /// The day whose archive it is, once that is known.
    pub slot: Option<String>,
    /// Where the archive lies, once that is known.
    pub archive: Option<String>,
    /// `NewDatabase` or `ReplaceDatabase`.
    pub mode: String,
    /// Where it stands.
    pub phase: String,
    /// Whether nothing follows.
    pub over: bool,
    /// One word on why.
    pub reason: String,
    /// A sentence on why.
    pub message: String,
    /// Tables that were restored and compared.
    pub tables: Option<i64>,
    /// When the runner began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// What became of each database.
    pub databases: Vec<RestoredView>,
    /// What the operator says.
    pub conditions: Vec<ConditionView>,
}

/// A database that is given back.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredView {
    /// Its name in the archive.
    pub name: String,
    /// Its name on the server.
    pub target: String,
    /// Where it stands.
    pub phase: String,
    /// Size of its dump. Unit: bytes.
    pub bytes: Option<i64>,
    /// Tables that were restored and compared.
    pub tables: Option<i64>,
    /// How long it took. Unit: seconds.
    pub seconds: Option<i64>,
    /// The database that it replaced, by its present name.
    pub previous: Option<String>,
    /// When that one is dropped; none once it is.
    pub previous_until: Option<DateTime<Utc>>,
    /// What is worth knowing.
    pub note: Option<String>,
}

impl From<&Restore> for RestoreView {
    fn from(restore: &Restore) -> Self {
        let (namespace, name) = identity(&restore.metadata);
        let (spec, status) = (&restore.spec, restore.status.clone().unwrap_or_default());
        let source = status.source;
        let slot = source.as_ref().and_then(|source| source.slot.clone());
        let databases: Vec<RestoredView> = if status.databases.is_empty() {
            // Before the runner has begun: what was asked for.
            let wanted = spec.databases.iter();
            wanted
                .map(|database| RestoredView::asked(&database.name, database.target()))
                .collect()
        } else {
            status.databases.into_iter().map(RestoredView::from).collect()
        };
        Self {
            created_at: restore.metadata.creation_timestamp.as_ref().and_then(super::moment),
            policy: spec.source.policy_ref.as_ref().map(|policy| policy.name.clone()),
            slot: slot.or_else(|| spec.source.slot.clone()),
            archive: source
                .map(|source| source.key)
                .or_else(|| spec.source.archive.as_ref().map(|archive| archive.key.clone())),
            mode: word(&spec.mode),
            phase: word(&status.phase),
            over: status.phase.is_terminal(),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            tables: status.tables,
            started_at: status.started_at,
            completed_at: status.completed_at,
            databases,
            conditions: conditions(&status.conditions),
            namespace,
            name,
        }
    }
}

impl RestoredView {
    fn asked(name: &str, target: &str) -> Self {
        Self::from(RestoreDatabaseStatus {
            name: name.to_owned(),
            target: target.to_owned(),
            ..RestoreDatabaseStatus::default()
        })
    }
}

impl From<RestoreDatabaseStatus> for RestoredView {
    fn from(database: RestoreDatabaseStatus) -> Self {
        Self {
            name: database.name,
            target: database.target,
            phase: word(&database.phase),
            bytes: database.bytes,
            tables: database.tables,
            seconds: database.seconds,
            previous: database.previous.filter(|_| !database.previous_dropped),
            previous_until: database.previous_until.filter(|_| !database.previous_dropped),
            note: database.note,
        }
    }
}
