//! The kinds that the console shows, and how the API server calls them. Pure.

use kube::core::{ApiResource, GroupVersionKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use valerix_crds::{GROUP, VERSION};

/// The most objects of one kind that are kept; what is beyond them is not shown, which the page says.
pub const MOST_OBJECTS: usize = 5_000;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A service and how it is protected.
    ResilientService,
    /// A fault and what came of it.
    ChaosExperiment,
    /// What is kept, and when.
    BackupPolicy,
    /// One day's record of a policy.
    Backup,
    /// Databases that are given back.
    Restore,
    /// A pod of a service.
    Pod,
}

impl Kind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 6] = [
        Self::ResilientService,
        Self::ChaosExperiment,
        Self::BackupPolicy,
        Self::Backup,
        Self::Restore,
        Self::Pod,
    ];

    /// Its name in the singular.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResilientService => "ResilientService",
            Self::ChaosExperiment => "ChaosExperiment",
            Self::BackupPolicy => "BackupPolicy",
            Self::Backup => "Backup",
            Self::Restore => "Restore",
            Self::Pod => "Pod",
        }
    }

    /// Its name in paths of the API.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ResilientService => "resilientservices",
            Self::ChaosExperiment => "chaosexperiments",
            Self::BackupPolicy => "backuppolicies",
            Self::Backup => "backups",
            Self::Restore => "restores",
            Self::Pod => "pods",
        }
    }

    /// Its API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Pod => "",
            _ => GROUP,
        }
    }

    /// What a client needs to know of it.
    pub fn resource(self) -> ApiResource {
        let version = if self == Self::Pod { "v1" } else { VERSION };
        let kind = GroupVersionKind::gvk(self.group(), version, self.name());
        ApiResource::from_gvk_with_plural(&kind, self.plural())
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
