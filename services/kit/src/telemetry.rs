//! Log lines and the thread that ties them together: one W3C trace id per request, over HTTP and over events.
//!
//! In: `traceparent` and `X-Request-Id` of a request, or the `traceparent` of an event. Out: a tracing span with
//! `trace_id` and `request_id`, the same headers for calls made on its behalf, `X-Request-Id` on the answer.

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// `X-Request-Id`, taken over from the caller or made here, and sent back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Starts writing log lines to standard output. A second call changes nothing. An invalid `filter` means `info`.
pub fn init(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // An error means that a subscriber is set already, which is what tests do.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Text => builder.compact().try_init(),
    };
}

/// Which request or event the current task works for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: String,
    span_id: String,
    flags: String,
    request_id: String,
}

impl TraceContext {
    /// The start of a new trace.
    pub fn fresh() -> Self {
        let trace_id = uuid::Uuid::new_v4().simple().to_string();
        Self {
            span_id: new_span_id(),
            flags: "01".into(),
            request_id: uuid::Uuid::now_v7().to_string(),
            trace_id,
        }
    }

    /// Continues the trace of `traceparent` with a span of its own; a fresh trace when it is absent or malformed.
    pub fn continued(traceparent: &str) -> Self {
        let mut context = Self::fresh();
        if let Some((trace_id, flags)) = parse_traceparent(traceparent) {
            context.trace_id = trace_id.to_owned();
            context.flags = flags.to_owned();
        }
        context
    }

    /// Continues the trace and the request id of a request.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let mut context = Self::continued(text(&TRACEPARENT).unwrap_or_default());
        if let Some(request_id) = text(&REQUEST_ID)
            && (1..=128).contains(&request_id.len())
            && request_id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            context.request_id = request_id.to_owned();
        }
        context
    }

    /// What the current task works for, if anything.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `future` on behalf of this request or event. Not inherited by tasks that it spawns.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// The header value for what is called or written on behalf of this one.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{}", self.trace_id, self.span_id, self.flags)
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The caller's `X-Request-Id`, or one made here.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }
}

/// `traceparent` and `X-Request-Id` for a call made by the current task; empty outside of a request or event.
pub fn outbound_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(context) = TraceContext::current() {
        if let Ok(value) = HeaderValue::try_from(context.traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Ok(value) = HeaderValue::try_from(context.request_id()) {
            headers.insert(REQUEST_ID, value);
        }
    }
    headers
}

fn new_span_id() -> String {
    format!("{:016x}", rand::random::<u64>().max(1))
}

/// Trace id and flags of `version-traceid-spanid-flags`.
fn parse_traceparent(text: &str) -> Option<(&str, &str)> {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let nonzero = |part: &str| part.bytes().any(|byte| byte != b'0');
    (known && hex(trace_id, 32) && nonzero(trace_id) && hex(span_id, 16) && nonzero(span_id) && hex(flags, 2))
        .then_some((trace_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_continued_with_a_span_of_its_own() {
        let context = TraceContext::continued(VALID);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(context.span_id, "00f067aa0ba902b7");
        assert_eq!(
            parse_traceparent(&context.traceparent()),
            Some(("4bf92f3577b34da6a3ce929d0e0e4736", "01"))
        );
    }

    #[test]
    fn a_malformed_traceparent_starts_a_new_trace() {
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn calls_carry_the_trace_and_the_request_id() {
        assert!(outbound_headers().is_empty());
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(VALID));
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc"));
        let sent = TraceContext::from_headers(&headers)
            .scope(async { outbound_headers() })
            .await;
        assert_eq!(sent[&REQUEST_ID], "abc");
        assert!(
            sent[&TRACEPARENT]
                .to_str()
                .unwrap()
                .starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
        );
    }
}
