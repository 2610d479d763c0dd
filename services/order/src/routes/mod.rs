//! HTTP in, HTTP out; no SQL.

pub mod orders;

use axum::Router;
use valerix_kit::openapi::Document;
use valerix_resilience::Resilience;

use crate::saga::drive::FastPath;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Takes a new order as far as it gets over HTTP.
    pub fast_path: FastPath,
    /// The policy in force.
    pub resilience: Resilience,
}

/// Every route of the service.
pub fn router(state: AppState) -> Router {
    orders::router().with_state(state)
}

/// The description of every route.
#[must_use]
pub fn document() -> Document {
    orders::describe(Document::new(
        "order",
        "Takes orders and brings each of them to an end. Semantics: README.md of the service.",
    ))
}
