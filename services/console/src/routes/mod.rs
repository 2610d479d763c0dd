//! The answers: who one is, what there is, and commands.

mod commands;
mod events;
mod names;
mod objects;
mod orders;
mod schemas;
mod session;

use axum::routing::get;
use valerix_kit::api::Api;

use crate::page;
use crate::state::AppState;

/// Every route of the console.
pub fn api() -> Api<AppState> {
    let api = Api::new(
        "console",
        "What the cluster says of services, experiments and backups, and commands",
    );
    let api = session::routes(events::routes(objects::routes(schemas::routes(api))));
    let api = commands::routes(orders::routes(api));
    // Not described: the page.
    api.undescribed("/", get(page::show))
        .undescribed("/{*rest}", get(page::show))
}
