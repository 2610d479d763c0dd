//! The environment of a restoring pod, read once. Pure: in are arguments, out is what this run is about.

use crate::settings::S3Arguments;
use std::{path::PathBuf, time::Duration};
use valerix_crds::{
    RestoreSpec, backup_runner,
    restore_runner::{self, SourceArchive},
};

/// The environment of the pod, as the operator writes it. Flags exist for a run at the desk.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "restore",
    version,
    about = "Gives databases of one stored archive back to a server."
)]
pub struct Arguments {
    /// Name of the Restore.
    #[arg(long, env = restore_runner::RESTORE_ENV)]
    pub restore: String,
    /// UID of the Restore.
    #[arg(long, env = restore_runner::RESTORE_UID_ENV)]
    pub restore_uid: String,
    /// The Restore's spec as JSON.
    #[arg(long, env = restore_runner::SPEC_ENV)]
    pub spec: String,
    /// The archive as JSON.
    #[arg(long, env = restore_runner::SOURCE_ENV)]
    pub source: String,
    /// Namespace of the Restore.
    #[arg(long, env = backup_runner::NAMESPACE_ENV)]
    pub namespace: String,
    /// UID of this pod.
    #[arg(long, env = backup_runner::POD_UID_ENV)]
    pub pod_uid: String,
    /// Folder with one folder per mounted Secret.
    #[arg(long, env = "VALERIX_BACKUP_CONNECTIONS_FOLDER", default_value = backup_runner::CONNECTIONS_FOLDER)]
    pub connections_folder: PathBuf,
    /// Folder for the archive and one dump of it.
    #[arg(long, env = "VALERIX_BACKUP_SCRATCH_FOLDER", default_value = backup_runner::SCRATCH_FOLDER)]
    pub scratch_folder: PathBuf,
    /// Where the archive's volume is mounted.
    #[arg(long, env = "VALERIX_BACKUP_DESTINATION_FOLDER", default_value = backup_runner::DESTINATION_FOLDER)]
    pub destination_folder: PathBuf,
    /// Folder with the Secret that opens an encrypted archive.
    #[arg(long, env = "VALERIX_BACKUP_AGE_FOLDER", default_value = backup_runner::AGE_FOLDER)]
    pub age_folder: PathBuf,
    /// How a bucket is reached.
    #[command(flatten)]
    pub s3: S3Arguments,
    /// Folder with one folder per PostgreSQL major version.
    #[arg(long, env = "VALERIX_BACKUP_CLIENT_FOLDER", default_value = "/usr/lib/postgresql")]
    pub client_folder: PathBuf,
    /// Drops what a completed Restore has replaced, and does nothing else.
    #[arg(long)]
    pub drop_previous: bool,
    /// Form of the log: json or text.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: String,
}

/// What this run is about.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The arguments as they came.
    pub arguments: Arguments,
    /// The Restore's spec.
    pub spec: RestoreSpec,
    /// The archive.
    pub source: SourceArchive,
    /// How long the run may take.
    pub deadline: Duration,
    /// How long a replaced database is kept.
    pub keep_previous: Duration,
}

/// The environment is not one that the operator writes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable does not parse.
    #[error("failed to read {variable}")]
    Variable {
        /// Which one.
        variable: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A field is no duration.
    #[error("failed to read {field}")]
    Duration {
        /// Which one.
        field: &'static str,
        /// Why.
        #[source]
        source: valerix_crds::InvalidDuration,
    },
}

impl Settings {
    /// Reads the arguments.
    ///
    /// # Errors
    /// If they are not what the operator writes.
    pub fn new(arguments: Arguments) -> Result<Self, Error> {
        let variable = |variable| move |source| Error::Variable { variable, source };
        let spec: RestoreSpec = serde_json::from_str(&arguments.spec).map_err(variable(restore_runner::SPEC_ENV))?;
        let source = serde_json::from_str(&arguments.source).map_err(variable(restore_runner::SOURCE_ENV))?;
        let duration = |field, given: Option<&valerix_crds::Duration>, default| match given {
            Some(given) => given.value().map_err(|source| Error::Duration { field, source }),
            None => Ok(Duration::from_secs(default)),
        };
        let job = spec.job.as_ref();
        let deadline = duration(
            "job.deadline",
            job.and_then(|job| job.deadline.as_ref()),
            backup_runner::DEFAULT_DEADLINE_SECONDS,
        )?;
        let replace = spec.replace.as_ref();
        let keep_previous = duration(
            "replace.keepPrevious",
            replace.and_then(|replace| replace.keep_previous.as_ref()),
            restore_runner::DEFAULT_KEEP_PREVIOUS_SECONDS,
        )?;
        Ok(Self {
            arguments,
            spec,
            source,
            deadline,
            keep_previous,
        })
    }
}
