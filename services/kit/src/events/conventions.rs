//! What spans of events are called and what they say: the semantic conventions of OpenTelemetry 1.45 for messaging, which
//! are in development: their names may change.

use opentelemetry::trace::Status;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Event;
use crate::telemetry::export;

/// An event that is handled for a group.
pub(super) fn event(event: &Event, topic: &str, group: &str) -> Span {
    tracing::info_span!(
        parent: None,
        "event",
        otel.kind = "consumer",
        otel.name = format!("process {topic}"),
        trace_id = Empty,
        messaging.system = "redis",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = topic,
        messaging.consumer.group.name = group,
        messaging.message.id = %event.id,
        event_type = event.event_type,
        aggregate = event.aggregate,
    )
}

/// How an event was handled: nothing, or what kind of failure.
pub(super) fn handled(span: &Span, failure: Option<&'static str>) {
    if let Some(failure) = failure.filter(|_| export::is_on()) {
        span.set_attribute("error.type", failure);
        span.set_status(Status::error(""));
    }
}
