//! What a decision asks for.

use chrono::{DateTime, Utc};
use std::time::Duration;
use valerix_crds::ChaosExperimentStatus;

/// How soon to look again while something is under way.
pub const SOON: Duration = Duration::from_millis(500);
/// How soon to look again when a time is being measured.
pub const VERY_SOON: Duration = Duration::from_millis(200);

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing, until the object changes or the time has come.
    Rest {
        /// When to look again without a change.
        until: Option<DateTime<Utc>>,
    },
    /// Nothing yet; look again after this.
    Look(Duration),
    /// Begin to ask the probes' questions.
    StartProbes,
    /// Put the finalizer, if the object is still this version.
    AddFinalizer,
    /// Remove the finalizer, if the object is still this version.
    RemoveFinalizer,
    /// Write the status, if the object is still this version.
    Write(Box<ChaosExperimentStatus>),
    /// Take the target: write this fault document, if it is still the observed version.
    Lock(String),
    /// Give the target back: write this fault document, if it is still the observed version.
    Release(String),
    /// Evict or delete this pod, if it is still this UID. Once.
    Evict {
        /// Name of the pod.
        pod: String,
        /// UID that was recorded.
        uid: String,
        /// Whether it is deleted, which no disruption budget hinders.
        delete: bool,
        /// How long it may take to end, in seconds; none is the pod's own.
        grace_period_seconds: Option<i64>,
    },
}

impl Action {
    /// Whether it changes anything, so that it must rest on what was read at this moment and not on a cache.
    pub fn changes_something(&self) -> bool {
        !matches!(self, Self::Rest { .. } | Self::Look(_) | Self::StartProbes)
    }
}
