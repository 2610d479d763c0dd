//! The answers: those of the services behind, and three of the gateway's own.

mod dashboard;
mod documents;
mod forward;
mod instance;

use valerix_kit::api::Api;

use crate::reload::Routes;

pub use self::forward::Forward;

/// What handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The routes in force.
    pub routes: Routes,
    /// The name of this replica.
    pub replica: String,
}

/// Every route of the gateway.
pub fn api() -> Api<AppState> {
    let api = Api::new(
        "gateway",
        "The one entry of the shop; the services behind it describe themselves at /services",
    );
    documents::routes(instance::routes(dashboard::routes(api)))
}
