//! The span of an attempt, for whoever collects traces; names as in the semantic conventions of OpenTelemetry 1.45.
//!
//! It has a target of its own, so that a program decides apart from its log lines whether anybody is to see it. Where
//! nobody is, it costs nothing. What [`decorate`](super::ClientBuilder::decorate) adds is made inside of it.

use http::Method;
use tracing::Span;
use tracing::field::Empty;

use crate::outbound::AttemptError;

/// The target of these spans.
const TARGET: &str = "valerix_resilience::trace";

/// The attempt to call `target` by `method`.
pub(super) fn attempt(method: &Method, target: &str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "call",
        otel.kind = "client",
        otel.name = format_args!("{method} {target}"),
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.response.status_code = Empty,
        server.address = target,
        error.type = Empty,
    )
}

/// What became of it.
pub(super) fn ended(span: &Span, answer: Result<http::StatusCode, &AttemptError>) {
    let failure = match answer {
        Ok(status) => {
            span.record("http.response.status_code", i64::from(status.as_u16()));
            (status.as_u16() >= 400).then(|| status.as_str().to_owned())
        }
        Err(error) => Some(kind(error).to_owned()),
    };
    if let Some(failure) = failure {
        span.record("error.type", failure);
        span.record("otel.status_code", "ERROR");
    }
}

fn kind(error: &AttemptError) -> &'static str {
    match error {
        AttemptError::Connect(_) => "connect",
        AttemptError::Reset(_) => "reset",
        AttemptError::Cut { .. } => "cut",
        AttemptError::Request { .. } => "request",
    }
}
