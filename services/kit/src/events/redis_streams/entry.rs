//! An event as the fields of a stream's entry; the wire format is in the crate's README. Pure.

use chrono::{DateTime, Utc};
use redis::streams::StreamId;
use uuid::Uuid;

use crate::events::{Event, Malformed};

pub(super) fn encode(event: &Event) -> [(&'static str, String); 7] {
    [
        ("id", event.id.to_string()),
        ("type", event.event_type.clone()),
        ("aggregate", event.aggregate.clone()),
        ("version", event.version.to_string()),
        ("occurred_at", event.occurred_at.to_rfc3339()),
        ("payload", event.payload.to_string()),
        ("traceparent", event.traceparent.clone()),
    ]
}

pub(super) fn decode(topic: &str, id: &StreamId) -> Result<Event, Malformed> {
    let read = || -> Result<Event, String> {
        let text = |name: &str| {
            id.get::<String>(name)
                .ok_or_else(|| format!("failed to find the field {name}"))
        };
        let bad = |name: &str| format!("failed to read the field {name}");
        Ok(Event {
            id: text("id")?.parse::<Uuid>().map_err(|_| bad("id"))?,
            topic: topic.to_owned(),
            event_type: text("type")?,
            aggregate: text("aggregate")?,
            version: text("version")?.parse().map_err(|_| bad("version"))?,
            occurred_at: text("occurred_at")?
                .parse::<DateTime<Utc>>()
                .map_err(|_| bad("occurred_at"))?,
            payload: serde_json::from_str(&text("payload")?).map_err(|_| bad("payload"))?,
            traceparent: text("traceparent").unwrap_or_default(),
        })
    };
    read().map_err(|reason| Malformed {
        reason,
        fields: id
            .map
            .keys()
            .map(|name| {
                (
                    name.clone(),
                    id.get::<String>(name).unwrap_or_else(|| "(not text)".into()),
                )
            })
            .collect(),
    })
}
