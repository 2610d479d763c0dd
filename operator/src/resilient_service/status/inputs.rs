//! What a status is judged from beside the service and what was observed of it.

use crate::{
    resilient_service::{apply::ChildResults, validate::Plan},
    runtime::{Violations, apply::Applied},
};
use chrono::{DateTime, Utc};

/// What this reconcile did about the children.
#[derive(Debug)]
pub enum Work {
    /// They were applied.
    Applied {
        /// What was built.
        plan: Box<Plan>,
        /// What came of it.
        applied: ChildResults,
    },
    /// They were left alone, because the user asked for it.
    Paused,
    /// They were left alone, because the specification cannot be built.
    Invalid(Violations),
}

impl Work {
    /// Whether the Deployment is left as it is until it is this service's turn to roll.
    pub fn awaits_turn(&self) -> bool {
        matches!(self, Self::Applied { applied, .. } if applied.awaits_turn)
    }

    /// Whether the cache shows the Deployment from before our own writing.
    pub fn wrote_deployment(&self) -> bool {
        let Self::Applied { applied, .. } = self else {
            return false;
        };
        [Applied::Created, Applied::Updated, Applied::Repaired, Applied::Adopted]
            .into_iter()
            .flat_map(|outcome| applied.with(outcome))
            .any(|child| child.kind == "Deployment")
    }
}

/// What is remembered of the service beside its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Since when the current configuration has been awaited of a ready pod.
    pub awaited_since: Option<DateTime<Utc>>,
    /// Whether the Deployment's replicas are left to another writer.
    pub yields_replicas: bool,
}
