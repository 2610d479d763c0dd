//! What spans are called and what they say: the semantic conventions of OpenTelemetry 1.45, in this module alone. HTTP is
//! stable there; messaging is in development, so its names may change.
//!
//! Fields of a span are both attributes of the trace and what log lines inside of it carry.

use http::StatusCode;
use opentelemetry::trace::{Status, TraceContextExt};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::export;
use crate::events::Event;

/// The name of spans that are not exported: probes of the kubelet.
pub(super) const PROBE: &str = "probe";
/// The target of the library's spans of calls, which are no part of log lines.
pub(super) const CALLS: &str = "valerix_resilience::trace";

/// A request that came in.
pub(crate) fn request(method: &'static str, route: &str) -> Span {
    if matches!(route, "/health" | "/ready") {
        return tracing::info_span!(
            parent: None,
            "probe",
            trace_id = Empty,
            request_id = Empty,
            http.request.method = method,
            http.route = route,
        );
    }
    tracing::info_span!(
        parent: None,
        "request",
        otel.kind = "server",
        trace_id = Empty,
        request_id = Empty,
        http.request.method = method,
        http.route = route,
    )
}

/// How a request was answered, under the route by which it is known in the end.
pub(crate) fn answered(span: &Span, method: &str, route: &str, status: StatusCode) {
    if !export::is_on() {
        return;
    }
    let context = span.context();
    let context = context.span();
    context.update_name(format!("{method} {route}"));
    span.set_attribute("http.route", route.to_owned());
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_attribute("error.type", status.as_str().to_owned());
        context.set_status(Status::error(""));
    }
}

/// An event that is handled for a group.
pub(crate) fn event(event: &Event, topic: &str, group: &str) -> Span {
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
pub(crate) fn handled(span: &Span, failure: Option<&'static str>) {
    if let Some(failure) = failure.filter(|_| export::is_on()) {
        span.set_attribute("error.type", failure);
        span.set_status(Status::error(""));
    }
}
