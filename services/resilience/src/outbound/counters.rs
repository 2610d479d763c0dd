//! The counters of one target, looked up once, so that a call only adds.

use prometheus::IntCounter;

use crate::breaker::Outcome;
use crate::metrics::Metrics;

#[derive(Debug)]
pub(crate) struct Counters {
    success: IntCounter,
    failure: IntCounter,
    ignored: IntCounter,
    pub(super) not_permitted: IntCounter,
    pub(super) shadow_not_permitted: IntCounter,
    pub(super) places_given: IntCounter,
    pub(super) places_refused: IntCounter,
    pub(super) retries_refused: IntCounter,
    pub(super) hedges: IntCounter,
    pub(super) ejections: IntCounter,
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
        }
    }

    pub(super) const fn outcome(&self, outcome: Outcome) -> &IntCounter {
        match outcome {
            Outcome::Success => &self.success,
            Outcome::Failure => &self.failure,
            Outcome::Neutral => &self.ignored,
        }
    }
}
