//! HTTP in, HTTP out; no SQL.

pub mod items;
pub mod reservations;

use axum::Router;
use sqlx::PgPool;
use valerix_kit::events::relay::Relay;
use valerix_kit::openapi::Document;
use valerix_resilience::Resilience;

/// What handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub pool: PgPool,
    /// Publishes what handlers append to the outbox.
    pub relay: Relay,
    /// How long answers are kept.
    pub resilience: Resilience,
}

/// Every route of the service.
pub fn router(state: AppState) -> Router {
    Router::new()
        .merge(reservations::router())
        .merge(items::router())
        .with_state(state)
}

/// The description of every route.
pub fn document() -> Document {
    let document = Document::new(
        "inventory",
        "Stock of the shop: pieces of items, and which order holds them",
    );
    items::describe(reservations::describe(document))
}
