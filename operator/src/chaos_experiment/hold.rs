//! That a run does not begin at this moment, and why.

use super::report::verdict::Ending;
use chrono::{DateTime, Utc};

/// Why a run does not begin at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It never will.
    Refused(Ending),
    /// Not yet.
    Waiting {
        /// One word on what is awaited.
        reason: &'static str,
        /// A sentence on what is awaited.
        message: String,
        /// When to look again at the latest.
        until: DateTime<Utc>,
    },
}

impl From<Ending> for Hold {
    fn from(ending: Ending) -> Self {
        Self::Refused(ending)
    }
}
