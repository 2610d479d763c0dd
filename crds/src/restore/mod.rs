//! Restore: databases of one stored archive, given back once.

#[cfg(test)]
mod rules;
mod spec;
mod status;

pub use spec::{
    PolicyName, Replace, Restore, RestoreDatabase, RestoreMode, RestoreRoles, RestoreSelect, RestoreSource,
    RestoreSpec, RestoreTarget, StoredArchive,
};
pub use status::{
    RestoreDatabasePhase, RestoreDatabaseStatus, RestoreJobStatus, RestorePhase, RestoreSourceStatus, RestoreStatus,
};
