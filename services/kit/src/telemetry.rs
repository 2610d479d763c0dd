//! Log lines and the thread that ties them together: one W3C trace id per request, over HTTP and over events.
//!
//! In: `traceparent` and `X-Request-Id` of a request, or the `traceparent` of an event or a row. Out: a tracing span with
//! `trace_id` and `request_id`, the same headers for calls made on its behalf, `X-Request-Id` on the answer; and, where
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector, the spans themselves.

pub(crate) mod conventions;
pub mod export;
mod hex;

use std::future::Future;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tokio::runtime::Runtime;
use tracing::subscriber::Interest;
use tracing::{Instrument, Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, Targets, dynamic_filter_fn};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::export::Export;
use self::hex::Hex;
use crate::args::{LogFormat, ServiceArgs};

/// `X-Request-Id`, taken over from the caller or made here, and sent back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Starts writing log lines to standard output and, where the environment names a collector, sending spans from `runtime`,
/// whose [`Export::end`] is to be called last. A second call changes nothing.
pub fn start(args: &ServiceArgs, runtime: &Runtime) -> Option<Export> {
    // The connection to the collector belongs to the runtime.
    let _inside = runtime.enter();
    let export = Export::start(args).transpose();
    let (export, unusable) = export.map_or_else(|error| (None, Some(error)), |export| (export, None));
    subscribe(args.log_format, &args.log_filter, export.as_ref());
    if let Some(error) = unusable {
        tracing::error!(%error, "no span is exported: give OTEL_EXPORTER_OTLP_ENDPOINT an address such as http://collector:4317");
    }
    export
}

/// An invalid `filter` means `info`; it is about log lines alone.
fn subscribe(format: LogFormat, filter: &str, export: Option<&Export>) {
    let lines = tracing_subscriber::fmt::layer();
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.compact().boxed(),
    };
    // Both filters are asked each time: what one of them has said of a record that nobody wanted would else count for the
    // next span of this thread that needs no asking.
    let wanted = |metadata: &Metadata<'_>, _: &Context<'_, _>| metadata.target() != conventions::CALLS;
    let wanted = dynamic_filter_fn(wanted).with_max_level_hint(Level::TRACE);
    let lines = lines.with_filter(wanted_lines(filter).and(wanted));
    let spans = export.map(|export| {
        tracing_opentelemetry::layer()
            .with_tracer(export.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(
                dynamic_filter_fn(|metadata, _: &Context<'_, _>| is_exported(metadata))
                    .with_max_level_hint(Level::INFO)
                    .with_callsite_filter(|metadata| {
                        if is_exported(metadata) {
                            Interest::sometimes()
                        } else {
                            Interest::never()
                        }
                    }),
            )
    });
    // An error means that a subscriber is set already, which is what tests do.
    let _ = tracing_subscriber::registry().with(lines).with(spans).try_init();
}

/// What a filter says. One that names spans or their fields needs all of `EnvFilter`, which keeps notes of every span; most
/// name targets and levels alone.
fn wanted_lines<S>(filter: &str) -> Box<dyn Filter<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    match filter.parse::<Targets>() {
        Ok(targets) if !filter.trim().is_empty() => Box::new(targets),
        _ => Box::new(EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"))),
    }
}

/// The spans of this project and not those of the libraries below it, which are about connections.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= Level::INFO
        && metadata.target().starts_with("valerix")
        && metadata.name() != conventions::PROBE
}

/// Which request or event the current task works for. Clones are cheap: a request has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(Arc<Ids>);

/// Every request has them: none of it takes memory of its own but the request's id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ids {
    trace_id: Hex<32>,
    span_id: Hex<16>,
    flags: Hex<2>,
    request_id: HeaderValue,
}

impl Ids {
    /// A part of the trace of `parent`, or the start of a new one.
    fn below(parent: Option<Parent>, request_id: Option<HeaderValue>) -> Self {
        Self {
            trace_id: parent.map_or_else(new_trace_id, |parent| parent.trace_id),
            span_id: new_span_id(),
            flags: parent.map_or_else(|| Hex::of(&[1]), |parent| parent.flags),
            request_id: request_id.unwrap_or_else(new_request_id),
        }
    }

    fn stand_at(&mut self, span: &SpanContext) {
        self.trace_id = Hex::of(&span.trace_id().to_bytes());
        self.span_id = Hex::of(&span.span_id().to_bytes());
        self.flags = Hex::of(&[span.trace_flags().to_u8()]);
    }

    /// Hangs an exported span at `parent`, and takes over what it is called there.
    fn begin(&mut self, span: &Span, parent: Option<Parent>) {
        if let Some(parent) = parent.and_then(Parent::span_context) {
            // Refused only where the span is not exported.
            let _ = span.set_parent(export::remote(parent));
        }
        let started = span.context();
        let started = started.span();
        if started.span_context().is_valid() {
            self.stand_at(started.span_context());
        }
    }
}

impl TraceContext {
    /// The start of a new trace.
    pub fn fresh() -> Self {
        Self(Arc::new(Ids::below(None, None)))
    }

    /// Goes on where `traceparent` stands, without a span of its own: what is called or written hangs at the span that it
    /// names. A fresh trace when it is absent or malformed.
    pub fn continued(traceparent: &str) -> Self {
        let parent = parse_traceparent(traceparent);
        let mut ids = Ids::below(parent, None);
        if let Some(parent) = parent {
            ids.span_id = parent.span_id;
        }
        Self(Arc::new(ids))
    }

    /// `span` as a part of the trace of `traceparent`, or as the start of a new one. The span's field `trace_id` is set.
    pub fn of(span: &Span, traceparent: &str) -> Self {
        let parent = parse_traceparent(traceparent);
        let mut ids = Ids::below(parent, None);
        if export::is_on() {
            ids.begin(span, parent);
        }
        span.record("trace_id", ids.trace_id.as_str());
        Self(Arc::new(ids))
    }

    /// A span as a part of the trace of a request, whose request id it takes over. `span` makes it of what its fields
    /// `trace_id` and `request_id` are to say: to set one later costs more than all of the span. Only what an exported
    /// span is called is not known before.
    pub fn of_request(headers: &HeaderMap, span: impl FnOnce(Option<&str>, &str) -> Span) -> (Span, Self) {
        let is_good =
            |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
        let request_id = headers.get(REQUEST_ID).filter(is_good).cloned();
        let traceparent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let parent = traceparent.and_then(parse_traceparent);
        let mut ids = Ids::below(parent, request_id);
        let trace_id = (!export::is_on()).then_some(ids.trace_id);
        let span = span(
            trace_id.as_ref().map(Hex::as_str),
            ids.request_id.to_str().unwrap_or_default(),
        );
        if trace_id.is_none() {
            ids.begin(&span, parent);
            span.record("trace_id", ids.trace_id.as_str());
        }
        (span, Self(Arc::new(ids)))
    }

    /// What the current task works for, if anything.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `future` on behalf of this request or event. Not inherited by tasks that it spawns.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Names the trace and the request to whoever the request of these headers is passed on to. For who passes on in the task
    /// of the request, where no span of its own is exported.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
        headers.insert(REQUEST_ID, self.request_id_value());
    }

    /// The header value for what is called or written on behalf of this one.
    pub fn traceparent(&self) -> String {
        let Ids {
            trace_id,
            span_id,
            flags,
            ..
        } = &*self.0;
        ["00", trace_id.as_str(), span_id.as_str(), flags.as_str()].join("-")
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.0.trace_id.as_str()
    }

    /// The caller's `X-Request-Id`, or one made here.
    pub fn request_id(&self) -> &str {
        self.0.request_id.to_str().unwrap_or_default()
    }

    /// The same, for a header.
    pub(crate) fn request_id_value(&self) -> HeaderValue {
        self.0.request_id.clone()
    }
}

/// Runs `work` as `span`, in the trace of `traceparent`.
pub fn traced<F: Future>(span: Span, traceparent: &str, work: F) -> impl Future<Output = F::Output> + use<F> {
    let context = TraceContext::of(&span, traceparent);
    context.scope(work.instrument(span))
}

/// `traceparent` and `X-Request-Id` for a call made by the current task: from the innermost span that is exported, else
/// from what the task works for. Empty outside of both.
pub fn outbound_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let task = TraceContext::current();
    let mut context = task.clone();
    if let Some(span) = export::current() {
        let context = context.get_or_insert_with(TraceContext::fresh);
        Arc::make_mut(&mut context.0).stand_at(&span);
    }
    if let Some(value) = context.and_then(|context| HeaderValue::try_from(context.traceparent()).ok()) {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(context) = task {
        headers.insert(REQUEST_ID, context.request_id_value());
    }
    headers
}

// Of the thread's generator: the system's own would be a call of the kernel for each.
fn new_trace_id() -> Hex<32> {
    Hex::of(&rand::random::<u128>().max(1).to_be_bytes())
}

/// A UUID of version 7.
fn new_request_id() -> HeaderValue {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    // Digits and hyphens: a header can have it.
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn new_span_id() -> Hex<16> {
    Hex::of(&rand::random::<u64>().max(1).to_be_bytes())
}

/// What `version-traceid-spanid-flags` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace_id: Hex<32>,
    span_id: Hex<16>,
    flags: Hex<2>,
}

impl Parent {
    fn span_context(self) -> Option<SpanContext> {
        let flags = TraceFlags::new(u8::from_str_radix(self.flags.as_str(), 16).ok()?) & TraceFlags::SAMPLED;
        let (trace_id, span_id) = (
            TraceId::from_hex(self.trace_id.as_str()),
            SpanId::from_hex(self.span_id.as_str()),
        );
        Some(SpanContext::new(
            trace_id.ok()?,
            span_id.ok()?,
            flags,
            true,
            TraceState::default(),
        ))
    }
}

fn parse_traceparent(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let version = Hex::<2>::read(parts.next()?)?;
    let (trace_id, span_id) = (Hex::read(parts.next()?)?, Hex::read(parts.next()?)?);
    let flags = Hex::read(parts.next()?)?;
    let known = version.as_str() != "ff" && (version.as_str() != "00" || parts.next().is_none());
    let parent = Parent {
        trace_id,
        span_id,
        flags,
    };
    (known && !trace_id.is_zero() && !span_id.is_zero()).then_some(parent)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whichever_reads_a_filter_says_the_same() {
        // With one subscriber alone, what it says of a line that others of this process come by first would count for it.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let written = |filter: &str| {
            let log = Log::default();
            let writer = log.clone();
            let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
            let lines = tracing_subscriber::registry().with(lines.with_filter(wanted_lines(filter)));
            tracing::subscriber::with_default(lines, || {
                tracing::info_span!("work", number = 7).in_scope(|| {
                    tracing::debug!("little");
                    tracing::info!("some");
                    tracing::error!("much");
                });
            });
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            ["little", "some", "much"].map(|word| text.contains(word))
        };
        for (filter, expected) in [
            ("info", [false, true, true]),
            ("DEBUG", [true, true, true]),
            ("off", [false, false, false]),
            ("error,valerix_kit=debug", [true, true, true]),
            ("debug,valerix_kit=error", [false, false, true]),
            ("error,other=debug", [false, false, true]),
            ("valerix_kit::telemetry=info", [false, true, true]),
            ("error,[work{number=7}]=debug", [true, true, true]),
            ("error,[work{number=8}]=debug", [false, false, true]),
            ("what is this=?", [false, true, true]),
        ] {
            assert_eq!(written(filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_span_has_an_id_of_its_own_and_what_has_none_stands_at_its_parent() {
        let parent = parse_traceparent(VALID).unwrap();
        assert_eq!(TraceContext::continued(VALID).traceparent(), VALID);
        let own = TraceContext::of(&Span::none(), VALID).traceparent();
        let own = parse_traceparent(&own).unwrap();
        assert_eq!((own.trace_id, own.flags), (parent.trace_id, parent.flags));
        assert_ne!(own.span_id, parent.span_id);
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
        let (_, context) = TraceContext::of_request(&headers, |trace_id, request_id| {
            assert_eq!(request_id, "abc");
            assert_eq!(trace_id, Some("4bf92f3577b34da6a3ce929d0e0e4736"));
            Span::none()
        });
        let sent = context.scope(async { outbound_headers() }).await;
        assert_eq!(sent[&REQUEST_ID], "abc");
        assert!(
            sent[&TRACEPARENT]
                .to_str()
                .unwrap()
                .starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
        );
    }
}
