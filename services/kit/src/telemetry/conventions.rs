//! What spans of requests are called and what they say: the semantic conventions of OpenTelemetry 1.45 for HTTP, which
//! are stable. Spans of events are named where events are.
//!
//! Fields of a span are both attributes of the trace and what log lines inside of it carry.

use http::StatusCode;
use opentelemetry::trace::{Status, TraceContextExt};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::export;

/// The name of spans that are not exported: probes of the kubelet.
pub(super) const PROBE: &str = "probe";
/// The target of the library's spans of calls, which are no part of log lines.
pub(super) const CALLS: &str = "valerix_resilience::trace";

/// A request that came in; its trace may be set later.
pub(crate) fn request(method: &'static str, route: &str, trace_id: Option<&str>, request_id: &str) -> Span {
    if matches!(route, "/health" | "/ready") {
        return tracing::info_span!(
            parent: None,
            "probe",
            trace_id,
            request_id,
            http.request.method = method,
            http.route = route,
        );
    }
    tracing::info_span!(
        parent: None,
        "request",
        otel.kind = "server",
        trace_id,
        request_id,
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
