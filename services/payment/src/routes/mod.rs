//! HTTP in, HTTP out; no SQL.

pub mod payments;
pub mod reconciliation;

use std::sync::Arc;

use tokio::sync::Notify;
use valerix_kit::api::Api;
use valerix_resilience::Resilience;

use crate::settle::Settlement;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Asks the processor and writes down what it said.
    pub settlement: Settlement,
    /// Tells the sweeper that the processor has to be asked.
    pub wake: Arc<Notify>,
    /// Tells the worker that a comparison with the ledger is asked for.
    pub reconcile: Arc<Notify>,
    /// The policy in force.
    pub resilience: Resilience,
}

/// Every route of the service.
#[must_use]
pub fn api() -> Api<AppState> {
    let description = "Takes the money of an order once. Semantics: README.md of the service.";
    reconciliation::routes(payments::routes(Api::new("payment", description)))
}
