//! Restore: databases of one stored archive, given back once.

mod spec;
mod status;

pub use spec::{
    PolicyName, Replace, Restore, RestoreDatabase, RestoreJob, RestoreMode, RestoreRoles, RestoreSelect, RestoreSource,
    RestoreSpec, RestoreTarget, StoredArchive,
};
pub use status::{
    RestoreDatabasePhase, RestoreDatabaseStatus, RestoreJobStatus, RestorePhase, RestoreSourceStatus, RestoreStatus,
};
