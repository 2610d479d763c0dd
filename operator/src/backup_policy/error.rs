//! What can go wrong with one policy, and the word for it.

use super::reason::Reason;
use crate::runtime::{Category, Violation, apply, failure};

/// Why a reconcile did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schedule cannot be kept.
    #[error("{source}")]
    Schedule {
        /// Which field, and what to write instead.
        source: Violation,
    },
    /// The specification cannot be carried out.
    #[error("{source}")]
    Invalid {
        /// Which field, and what to write instead.
        source: Violation,
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
    #[error(
        "the Backup {name} belongs to an earlier policy of this name (UID {owner}), for which {state}: the first run of this policy is that of the next day, and nothing is to be done"
    )]
    RecordTaken {
        /// Name of the record.
        name: String,
        /// UID that it names.
        owner: String,
        /// How far that policy's archive of the day is.
        state: &'static str,
    },
    /// The Job's name is taken.
    #[error("the Job {name} exists and does not belong to this policy's CronJob: delete it if nobody needs it")]
    JobTaken {
        /// Name of the Job.
        name: String,
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

impl Error {
    /// Whether no run can start before somebody edits the policy or the operator's settings. What an earlier CronJob would
    /// start meanwhile has no record, and would wait for one until its deadline.
    pub fn stops_runs(&self) -> bool {
        matches!(self, Self::Schedule { .. } | Self::Invalid { .. } | Self::NoImage)
    }

    /// Whether the next run has no record of its own.
    pub fn takes_the_record(&self) -> bool {
        matches!(self, Self::RecordTaken { .. })
    }
}

impl Category for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Schedule { .. } => Reason::InvalidSchedule.as_str(),
            Self::Invalid { .. } => Reason::InvalidSpec.as_str(),
            Self::NoImage => Reason::NoRunnerImage.as_str(),
            Self::Apply { source } => source.category(),
            Self::RecordTaken { .. } => Reason::RecordTaken.as_str(),
            Self::JobTaken { .. } => Reason::JobTaken.as_str(),
            Self::Api { source, .. } => failure::api_category(source),
        }
    }

    fn is_retryable(&self) -> bool {
        !self.stops_runs()
    }
}
