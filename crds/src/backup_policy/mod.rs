//! BackupPolicy: one verified archive of several databases, once a day.

mod destination;
mod retention;
mod spec;
mod status;
mod verification;

pub use destination::{
    BackupDestination, ChecksumMode, DestinationChoice, S3Destination, SecretReference, VolumeClaimDestination,
};
pub use retention::BackupRetention;
pub use spec::{
    BackupDatabase, BackupEncryption, BackupGlobals, BackupJob, BackupPolicy, BackupPolicySpec, BackupSchedule,
    BackupScratch, Compression, DeletionPolicy, Minimum,
};
pub use status::{BackupPolicyStatus, BackupSummary, LastRun, LastRunResult, LastSuccess, LastUpload};
pub use verification::{BackupVerification, TrialRestore, VerificationQuery};
