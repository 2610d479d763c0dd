//! What can go wrong with one service, and the word for it.

use crate::runtime::{Category, Violations, apply, failure};
use std::time::Duration;

/// Why a reconcile did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification contradicts itself in a way that the schema cannot see.
    #[error("failed to validate the specification: {violations}")]
    Invalid {
        /// Fields and remedies.
        violations: Violations,
    },
    /// A child does not stand as desired.
    #[error("failed to bring a child into its desired state: {source}")]
    Apply {
        /// Which one, and why.
        source: apply::Error,
    },
    /// Status could not be written.
    #[error("failed to write the status: {}", failure::sentence(source))]
    Publish {
        /// What the API server answered.
        source: Box<kube::Error>,
    },
}

impl Category for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Invalid { violations } => violations.category(),
            Self::Apply { source } => source.category(),
            Self::Publish { source } => failure::api_category(source),
        }
    }

    fn is_retryable(&self) -> bool {
        !matches!(self, Self::Invalid { .. })
    }
}

/// An error, and when to look again whatever becomes of it: a service that cannot be brought into its desired state is
/// still judged in time.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Failed {
    /// What went wrong.
    pub source: Error,
    /// When to look again for other reasons.
    pub look_again: Option<Duration>,
}

impl Category for Failed {
    fn category(&self) -> &'static str {
        self.source.category()
    }

    fn is_retryable(&self) -> bool {
        self.source.is_retryable()
    }

    fn look_again(&self) -> Option<Duration> {
        self.look_again
    }
}
