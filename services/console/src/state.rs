//! What handlers, and those that tell a browser, work with.

use valerix_kit::health::{Health, NotReady};

use crate::board::Board;
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
