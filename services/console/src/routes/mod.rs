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
use valerix_kit::health::{Health, NotReady};

use crate::board::Board;
use crate::page;
use crate::people::{Clients, Sessions};
use crate::places::Places;

/// What handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// What is known.
    pub board: Board,
    /// The clients of the API server.
    pub clients: Clients,
    /// Who has signed in.
    pub sessions: Sessions,
    /// Whether others may read.
    pub anonymous_read: bool,
    /// Where orders are placed.
    pub gateway: Option<reqwest::Url>,
    /// For pods and the gateway.
    pub http: reqwest::Client,
    /// Whether this process is about to end.
    pub health: Health,
    /// Places of pages that follow.
    pub places: Places,
}

impl AppState {
    /// Whether this process is about to end.
    pub fn is_draining(&self) -> bool {
        matches!(self.health.ready(), Err(NotReady::Draining))
    }
}

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
