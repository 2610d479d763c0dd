//! What is shown of an object: as much as a page needs, never the object itself. Pure.

mod backup;
mod experiment;
mod pod;
mod restore;
mod service;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use backup::{BackupView, PolicyView};
pub use experiment::{ExperimentView, ProbeView, RunView, TargetView};
pub use pod::PodView;
pub use restore::{RestoreView, RestoredView};
pub use service::{BreakerView, FaultView, ServiceView};

use crate::kinds::{Key, Kind};

/// An object as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind")]
#[allow(
    clippy::large_enum_variant,
    reason = "each lies behind a pointer of its own, and there are few"
)]
pub enum Item {
    /// A service.
    ResilientService(ServiceView),
    /// An experiment.
    ChaosExperiment(ExperimentView),
    /// A policy of backups.
    BackupPolicy(PolicyView),
    /// A day's backup.
    Backup(BackupView),
    /// Databases that are given back.
    Restore(RestoreView),
    /// A pod.
    Pod(PodView),
}

impl Item {
    /// Which object it shows.
    pub fn key(&self) -> Key {
        let (kind, namespace, name) = match self {
            Self::ResilientService(view) => (Kind::ResilientService, &view.namespace, &view.name),
            Self::ChaosExperiment(view) => (Kind::ChaosExperiment, &view.namespace, &view.name),
            Self::BackupPolicy(view) => (Kind::BackupPolicy, &view.namespace, &view.name),
            Self::Backup(view) => (Kind::Backup, &view.namespace, &view.name),
            Self::Restore(view) => (Kind::Restore, &view.namespace, &view.name),
            Self::Pod(view) => (Kind::Pod, &view.namespace, &view.name),
        };
        Key {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
        }
    }
}

/// A traffic light.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Light {
    /// All is well.
    Green,
    /// It works, and deserves a look.
    Yellow,
    /// It does not do what it should.
    Red,
    /// Nothing is known.
    Grey,
}

/// A condition of an object's status.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ConditionView {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word on why.
    pub reason: String,
    /// A sentence on why.
    pub message: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
}

/// Namespace and name, empty where an object has none.
fn identity(metadata: &ObjectMeta) -> (String, String) {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn conditions(conditions: &[Condition]) -> Vec<ConditionView> {
    let view = |condition: &Condition| ConditionView {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: moment(&condition.last_transition_time),
    };
    conditions.iter().map(view).collect()
}

/// The same moment as the types of the kinds write it.
fn moment(time: &Time) -> Option<DateTime<Utc>> {
    let nanoseconds = u32::try_from(time.0.subsec_nanosecond()).unwrap_or_default();
    DateTime::from_timestamp(time.0.as_second(), nanoseconds)
}

/// The word that an enum of the kinds stands for in YAML.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
