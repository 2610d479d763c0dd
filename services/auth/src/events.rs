//! What auth announces. The shapes are those of the README: ids, never an e-mail or a phone number. Pure.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::Id;
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

/// What an announcement says.
#[derive(Serialize, JsonSchema)]
struct Payload {
    #[schemars(with = "Id")]
    user_id: Uuid,
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
        payload: json!(Payload { user_id: user }),
    }
}

#[cfg(test)]
mod tests {
    use valerix_kit::testing::schemas::EventSchemas;

    use super::*;

    #[test]
    fn what_is_published_is_described_and_older_events_are_still_understood() {
        EventSchemas::new("auth")
            .event::<Payload>(AUTH_EVENTS, "UserChanged")
            .event::<Payload>(AUTH_EVENTS, "UserDeleted")
            .check(env!("CARGO_MANIFEST_DIR"));
    }
}
