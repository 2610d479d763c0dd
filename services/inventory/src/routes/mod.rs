//! HTTP in, HTTP out; no SQL.

pub mod chaos;
pub mod counts;
pub mod items;
pub mod reservations;

use sqlx::PgPool;
use valerix_kit::api::Api;
use valerix_kit::events::relay::Relay;
use valerix_kit::lock::DistributedLock;
use valerix_resilience::Resilience;

use crate::chaos::Chaos;

/// What handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub pool: PgPool,
    /// Publishes what handlers append to the outbox.
    pub relay: Relay,
    /// The lock of the stock: one recounts or restocks in bulk.
    pub lock: DistributedLock,
    /// What goes wrong on purpose.
    pub chaos: Chaos,
    /// How long answers are kept, and which experiments run.
    pub resilience: Resilience,
}

/// Every route of the service.
pub fn api() -> Api<AppState> {
    let description = "Stock of the shop: pieces of items, and which order holds them";
    let api = reservations::routes(Api::new("inventory", description));
    chaos::routes(counts::routes(items::routes(api)))
}
