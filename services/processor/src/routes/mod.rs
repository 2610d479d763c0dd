//! HTTP in, HTTP out; no SQL.

pub mod charges;

use sqlx::PgPool;
use valerix_kit::api::Api;

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
pub fn api() -> Api<AppState> {
    charges::routes(Api::new("processor", "A simulated card processor: one charge per key"))
}
