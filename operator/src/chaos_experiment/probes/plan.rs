//! What a probe is to ask and how it judges.

use std::time::Duration;
use valerix_crds::{Probe, ProbeMode};

/// One probe with its defaults.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// What the user wrote: name and question.
    pub probe: Probe,
    /// When it asks.
    pub mode: ProbeMode,
    /// Time between two questions.
    pub interval: Duration,
    /// Failures in a row that count.
    pub failure_threshold: u32,
    /// How many of a hundred answers must have come within what time while the fault was on.
    pub percentile: Option<(u32, Duration)>,
    /// Whether the fault that it judges lasts: one that is over at once may leave no time for a question.
    pub fault_lasts: bool,
}

impl ProbePlan {
    /// Whether it judges before and after the fault.
    pub fn judges_the_edges(&self) -> bool {
        self.mode != ProbeMode::OnFault
    }

    /// Whether it judges while the fault is on.
    pub fn judges_the_fault(&self) -> bool {
        self.mode != ProbeMode::Edge
    }

    /// The longest time without an answer that still counts as watching.
    pub fn tolerated_gap(&self) -> Duration {
        self.interval * self.failure_threshold
    }
}
