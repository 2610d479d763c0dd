//! The counters of one target, looked up once, so that a call only adds.

use crate::breaker::Outcome;
use crate::metrics::{Counter, Histogram, Metrics};

#[derive(Debug)]
pub(crate) struct Counters {
    success: Counter,
    failure: Counter,
    ignored: Counter,
    pub(super) not_permitted: Counter,
    pub(super) shadow_not_permitted: Counter,
    pub(super) places_given: Counter,
    pub(super) places_refused: Counter,
    pub(super) retries_refused: Counter,
    pub(super) hedges: Counter,
    pub(super) ejections: Counter,
    pub(super) seconds: Histogram,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics, target: &str) -> Self {
        let call = |outcome| metrics.calls_of(target, outcome);
        Self {
            success: call("success"),
            failure: call("failure"),
            ignored: call("ignored"),
            not_permitted: call("not_permitted"),
            shadow_not_permitted: call("shadow_not_permitted"),
            places_given: metrics.bulkhead_of(target, "allowed"),
            places_refused: metrics.bulkhead_of(target, "refused"),
            retries_refused: metrics.retries_refused_of(target),
            hedges: metrics.hedges_of(target),
            ejections: metrics.ejections_of(target),
            seconds: metrics.call_seconds_of(target),
        }
    }

    pub(super) const fn outcome(&self, outcome: Outcome) -> &Counter {
        match outcome {
            Outcome::Success => &self.success,
            Outcome::Failure => &self.failure,
            Outcome::Neutral => &self.ignored,
        }
    }
}
