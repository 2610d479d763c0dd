//! HTTP in, HTTP out; no SQL.

pub mod summary;

use sqlx::PgPool;
use valerix_kit::api::Api;

/// What handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub pool: PgPool,
}

/// Every route of the service.
pub fn api() -> Api<AppState> {
    summary::routes(Api::new("analytics", "Figures of the shop, minute by minute"))
}
