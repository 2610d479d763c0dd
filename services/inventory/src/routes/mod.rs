//! HTTP in, HTTP out; no SQL.

pub mod items;
pub mod reservations;

use sqlx::PgPool;
use valerix_kit::api::Api;
use valerix_kit::events::relay::Relay;
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
pub fn api() -> Api<AppState> {
    let description = "Stock of the shop: pieces of items, and which order holds them";
    items::routes(reservations::routes(Api::new("inventory", description)))
}
