//! What follows when an input was taken in and its transaction has committed: it is counted, published, and told to those
//! who wait for the order.

use valerix_kit::events::relay::Relay;

use crate::metrics::Metrics;
use crate::order::Applied;
use crate::waiters::Waiters;

/// Everyone in this process who has to hear of a committed input; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Moves {
    /// Publishes what the transition wrote.
    pub relay: Relay,
    /// Counts orders that became terminal.
    pub metrics: Metrics,
    /// Requests that wait for their order's end.
    pub waiters: Waiters,
}

impl Moves {
    /// `applied` is committed.
    pub fn committed(&self, applied: &Applied) {
        self.metrics.moved(applied);
        self.relay.wake();
        self.waiters.wake(applied.order.id);
    }
}
