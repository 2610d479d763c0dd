//! HTTP in, HTTP out; no SQL.

pub mod charges;

use axum::Router;
use sqlx::PgPool;
use valerix_kit::openapi::Document;

use crate::config::MisbehaviourArgs;

/// What handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The ledger.
    pub pool: PgPool,
    /// What goes wrong on purpose.
    pub misbehaviour: MisbehaviourArgs,
}

/// Every route of the service.
pub fn router(state: AppState) -> Router {
    charges::router().with_state(state)
}

/// The description of every route.
pub fn document() -> Document {
    charges::describe(Document::new(
        "processor",
        "A simulated card processor: one charge per key",
    ))
}
