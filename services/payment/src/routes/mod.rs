//! HTTP in, HTTP out; no SQL.

pub mod payments;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Notify;
use valerix_kit::openapi::Document;
use valerix_resilience::Resilience;

use crate::saga::settle::Settlement;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Asks the processor and writes down what it said.
    pub settlement: Settlement,
    /// Tells the sweeper that the processor has to be asked.
    pub wake: Arc<Notify>,
    /// The policy in force.
    pub resilience: Resilience,
}

/// Every route of the service.
pub fn router(state: AppState) -> Router {
    payments::router().with_state(state)
}

/// The description of every route.
#[must_use]
pub fn document() -> Document {
    payments::describe(Document::new(
        "payment",
        "Takes the money of an order once. Semantics: README.md of the service.",
    ))
}
