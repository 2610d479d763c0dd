//! BackupPolicy: one verified archive of several databases, once a day.

mod spec;
mod status;

pub use spec::{
    BackupDatabase, BackupDestination, BackupJob, BackupPolicy, BackupPolicySpec, BackupSchedule, BackupScratch,
    Compression, Minimum, SecretReference, VolumeClaimDestination,
};
pub use status::{BackupPolicyStatus, BackupSummary, LastRun, LastRunResult, LastSuccess};
