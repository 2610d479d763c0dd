//! What can go wrong with one service, and the word for it.

use crate::runtime::{Category, Violations, apply, failure};

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
