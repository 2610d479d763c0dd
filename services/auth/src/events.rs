//! What auth announces. The shapes are those of the README: ids, never an e-mail or a phone number. Pure.

use serde_json::json;
use uuid::Uuid;
use valerix_kit::events::NewEvent;

/// Announcements of auth.
pub const AUTH_EVENTS: &str = "auth.events";

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Something by which they are reached is another.
    Changed,
    /// They are gone, with all that auth knew.
    Deleted,
}

/// The event that tells everyone; `version` is the one that the user has by it.
#[must_use]
pub fn announced(user: Uuid, version: i64, happened: Happened) -> NewEvent {
    NewEvent {
        topic: AUTH_EVENTS.into(),
        event_type: match happened {
            Happened::Changed => "UserChanged".into(),
            Happened::Deleted => "UserDeleted".into(),
        },
        aggregate: format!("user:{user}"),
        version,
        payload: json!({"user_id": user}),
    }
}
