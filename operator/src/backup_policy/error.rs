//! What can go wrong with one policy, and the word for it.

use crate::runtime::{Category, apply, failure};

/// Why a reconcile did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schedule cannot be kept.
    #[error("{source}")]
    Schedule {
        /// Which field, and what to write instead.
        source: super::slot::Invalid,
    },
    /// The specification cannot be carried out.
    #[error("{message}")]
    Invalid {
        /// Which field, and what to write instead.
        message: String,
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
    /// The record's name is taken.
    #[error("the Backup {name} belongs to another policy (UID {owner}): delete it if that policy is gone")]
    RecordTaken {
        /// Name of the record.
        name: String,
        /// UID that it names.
        owner: String,
    },
    /// The Job's name is taken.
    #[error("the Job {name} exists and does not belong to this policy's CronJob: delete it if nobody needs it")]
    JobTaken {
        /// Name of the Job.
        name: String,
    },
    /// The API server did not do as asked.
    #[error("failed to {action} {name}: {source}")]
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
            Self::Schedule { .. } => "InvalidSchedule",
            Self::Invalid { .. } => "InvalidSpec",
            Self::NoImage => "NoRunnerImage",
            Self::Apply { source } => source.category(),
            Self::RecordTaken { .. } => "RecordTaken",
            Self::JobTaken { .. } => "JobTaken",
            Self::Api { source, .. } => failure::api_category(source),
        }
    }

    fn is_retryable(&self) -> bool {
        !matches!(self, Self::Schedule { .. } | Self::Invalid { .. } | Self::NoImage)
    }
}
