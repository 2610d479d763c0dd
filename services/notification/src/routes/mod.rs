//! HTTP in, HTTP out; no SQL.

pub mod notifications;

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
    notifications::routes(Api::new(
        "notification",
        "What customers were told about their orders, by e-mail and SMS",
    ))
}
