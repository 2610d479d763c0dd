//! HTTP in, HTTP out; no SQL.

pub mod changes;
pub mod history;
pub mod orders;

use valerix_kit::api::Api;
use valerix_resilience::Resilience;

use self::history::Streams;
use crate::drive::FastPath;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Takes a new order as far as it gets over HTTP.
    pub fast_path: FastPath,
    /// Clients that follow orders.
    pub streams: Streams,
    /// Orders may ask for a gremlin whatever the policy says.
    pub gremlins: bool,
    /// The policy in force.
    pub resilience: Resilience,
}

/// Every route of the service.
#[must_use]
pub fn api() -> Api<AppState> {
    let description = "Takes orders and brings each of them to an end. Semantics: README.md of the service.";
    let api = orders::routes(Api::new("order", description));
    history::routes(changes::routes(api))
}
