//! What can go wrong with one Restore, and the word for it.

use crate::runtime::{Category, Violation, apply, failure};

/// Why a Restore does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification cannot be carried out; it never changes, so another Restore is needed.
    #[error("{source}")]
    Invalid {
        /// Which field, and what to write instead.
        source: Violation,
    },
    /// No record is of an archive as it is asked for.
    #[error("source: {why}; it is waited for")]
    NoArchive {
        /// What there is.
        why: String,
    },
    /// The archive is in a bucket that nobody says how to reach.
    #[error(
        "source: the archive of {slot} is in bucket {bucket}, which BackupPolicy {policy} does not name (any more); name it in source.archive, with its destination and the key {key}"
    )]
    NoAccess {
        /// The day.
        slot: String,
        /// The bucket.
        bucket: String,
        /// The policy.
        policy: String,
        /// The key.
        key: String,
    },
    /// The operator was not told which image a Job runs.
    #[error("failed to find the image of the backup runner: set backup.image of the chart (BACKUP_IMAGE)")]
    NoImage,
    /// A child does not stand as desired.
    #[error("failed to bring a child into its desired state: {source}")]
    Apply {
        /// Which one, and why.
        source: apply::Error,
    },
    /// The Job's name is taken.
    #[error("the Job {name} exists and does not belong to this Restore: delete it if nobody needs it")]
    JobTaken {
        /// Name of the Job.
        name: String,
    },
    /// What was replaced could not be dropped.
    #[error(
        "the Job {name} was to drop what was replaced and has failed: read its log, drop the database by hand ({databases}), or delete the Job to have it tried again"
    )]
    DropFailed {
        /// Name of the Job.
        name: String,
        /// What is left, by name.
        databases: String,
    },
    /// The API server did not do as asked.
    #[error("failed to {action} {name}: {}", failure::sentence(source))]
    Api {
        /// What was tried.
        action: &'static str,
        /// The object's name.
        name: String,
        /// What the API server answered.
        source: Box<kube::Error>,
    },
}

impl Error {
    pub(super) fn api(action: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Api {
            action,
            name,
            source: Box::new(source),
        }
    }
}

impl Category for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "InvalidSpec",
            Self::NoArchive { .. } => "NoArchive",
            Self::NoAccess { .. } => "NoAccess",
            Self::NoImage => "NoRunnerImage",
            Self::Apply { source } => source.category(),
            Self::JobTaken { .. } => "JobTaken",
            Self::DropFailed { .. } => "DropFailed",
            Self::Api { source, .. } => failure::api_category(source),
        }
    }

    /// What a record or a policy may bring is told by their watches.
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Apply { .. } | Self::JobTaken { .. } | Self::Api { .. })
    }
}
