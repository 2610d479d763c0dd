//! What can keep an experiment from being looked at. What it finds there is never an error, but a verdict.

use crate::runtime::{Category, failure};

/// A step that did not succeed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster could not be read.
    #[error("failed to read {what}: {source}")]
    Read {
        /// What was asked for.
        what: String,
        /// What the API server or the way to it answered.
        source: Box<kube::Error>,
    },
    /// A write was refused or not answered.
    #[error("failed to write {what}: {source}")]
    Write {
        /// What was to be written.
        what: String,
        /// What the API server or the way to it answered.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// A read that failed.
    pub fn read(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Read {
            what: what.into(),
            source: Box::new(source),
        }
    }

    /// A write that failed.
    pub fn write(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Write {
            what: what.into(),
            source: Box::new(source),
        }
    }
}

impl Category for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => failure::api_category(source),
        }
    }
}
