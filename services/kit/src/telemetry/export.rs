//! Spans on their way to a collector, by OTLP over gRPC. In: the standard variables of OpenTelemetry. Out: batches of the
//! spans that were sampled, and counters of what became of them.
//!
//! Without an endpoint nothing of this exists. With one, a request never waits for the collector: a span that finds
//! [`QUEUE`] others waiting is dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus::{IntCounterVec, Opts};

use crate::args::ServiceArgs;

/// Spans that may wait to be sent.
pub const QUEUE: usize = 2048;
/// How long the end of the process waits for the last spans to be sent.
const FLUSH: Duration = Duration::from_secs(5);
/// Any of them turns the export on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

static EXPORTING: AtomicBool = AtomicBool::new(false);
static SPANS: LazyLock<Result<IntCounterVec, prometheus::Error>> = LazyLock::new(|| {
    let what =
        "Spans by what became of them: exported, failed (the collector did not take them), dropped (too many waited)";
    let spans = IntCounterVec::new(Opts::new("trace_spans_total", what), &["outcome"])?;
    for outcome in ["exported", "failed", "dropped"] {
        spans.with_label_values(&[outcome]);
    }
    Ok(spans)
});

/// The counter `trace_spans_total`; one for the process, as the export is.
///
/// # Errors
/// When it is not a valid metric, which is a mistake in this crate.
pub(crate) fn spans() -> Result<IntCounterVec, prometheus::Error> {
    match &*SPANS {
        Ok(spans) => Ok(spans.clone()),
        Err(error) => Err(prometheus::Error::Msg(error.to_string())),
    }
}

fn count(outcome: &str, spans: usize) {
    if let Ok(counter) = &*SPANS {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        counter.with_label_values(&[outcome]).inc_by(spans);
    }
}

/// Whether spans of this process go anywhere.
pub fn is_on() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// The context of the span in which this task is right now, if it will be or could have been exported.
pub(super) fn current() -> Option<SpanContext> {
    if !is_on() {
        return None;
    }
    let context = tracing_opentelemetry::OpenTelemetrySpanExt::context(&tracing::Span::current());
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// The parent that another process has named.
pub(super) fn remote(parent: SpanContext) -> Context {
    Context::new().with_remote_span_context(parent)
}

/// The export of one process.
pub struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// Starts it inside a tokio runtime; nothing where no endpoint is set. Sampling is what `OTEL_TRACES_SAMPLER` and
    /// `OTEL_TRACES_SAMPLER_ARG` say, by default whatever the caller decided, else everything.
    ///
    /// # Errors
    /// When the endpoint can not be used.
    pub fn start(args: &ServiceArgs) -> Option<Result<Self, ExporterBuildError>> {
        let set = |name: &&str| std::env::var(name).is_ok_and(|endpoint| !endpoint.trim().is_empty());
        ENDPOINTS.iter().any(set).then(|| {
            let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
            let provider = SdkTracerProvider::builder()
                .with_resource(resource(args))
                .with_span_processor(Bounded::new(exporter))
                .build();
            EXPORTING.store(true, Ordering::Relaxed);
            Ok(Self { provider })
        })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer(env!("CARGO_PKG_NAME"))
    }

    /// Sends what still waits, for [`FLUSH`] at most. Blocks the thread.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::info!(%error, "the last spans were not sent");
        }
    }
}

/// Who sends. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word.
fn resource(args: &ServiceArgs) -> Resource {
    let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| args.service.clone());
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", name),
            KeyValue::new("service.namespace", args.namespace.clone()),
            KeyValue::new("service.instance.id", args.pod_name.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ])
        .build()
}

/// A batch processor in front of which we count ourselves, so that what is dropped is known.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl Bounded {
    fn new<E: SpanExporter + 'static>(exporter: E) -> Self {
        let waiting = Arc::default();
        let exporter = Counted {
            exporter,
            waiting: Arc::clone(&waiting),
            failing: AtomicBool::new(false),
        };
        // Its own bound, beyond which it drops without a word, is never reached.
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        Self {
            batches: BatchSpanProcessor::builder(exporter).with_batch_config(config).build(),
            waiting,
        }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let place = |waiting: usize| (waiting < QUEUE).then_some(waiting + 1);
        if self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, place)
            .is_ok()
        {
            self.batches.on_end(span);
        } else {
            count("dropped", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        count(if exported.is_ok() { "exported" } else { "failed" }, spans);
        // One line for each time that the collector is lost or found, not one for each batch.
        match (&exported, self.failing.swap(exported.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(%error, "the collector of traces does not take spans"),
            (Ok(()), true) => tracing::info!("the collector of traces takes spans again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Span as _, Tracer as _};

    /// A collector that never answers.
    #[derive(Debug)]
    struct Lost;

    impl SpanExporter for Lost {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            std::future::pending().await
        }
    }

    #[test]
    fn a_lost_collector_costs_spans_and_no_time() {
        let dropped = || spans().unwrap().with_label_values(&["dropped"]).get();
        let before = dropped();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Bounded::new(Lost))
            .build();
        let tracer = provider.tracer("test");
        let begun = std::time::Instant::now();
        for _ in 0..QUEUE + 500 {
            tracer.start("span").end();
        }
        assert_eq!(dropped() - before, 500);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        // Its end would wait for the collector.
        std::mem::forget(provider);
    }
}
