//! Logs, JSON lines for machines and text for a terminal; and, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector, a span
//! for each reconcile, by OTLP over gRPC.

use kube::{Resource, ResourceExt};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource as Sender,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use std::{sync::OnceLock, time::Duration};
use tracing::{Level, Metadata, Span, Subscriber, field::Empty, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::dynamic_filter_fn,
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// How long the end of the process waits for the last spans to be sent.
const FLUSH: Duration = Duration::from_secs(5);
const RECONCILE: &str = "reconcile";
/// What is logged, once logging has started.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// The export of spans, where there is one.
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends the spans that still wait, for five seconds at most. Blocks the thread.
    pub fn end(self) {
        if let Some(Err(error)) = self.spans.map(|spans| spans.shutdown_with_timeout(FLUSH)) {
            tracing::info!(%error, "the last spans were not sent");
        }
    }
}

/// Starts logging to standard output; `RUST_LOG` chooses what, `info` by default. Starts the export of spans where an
/// endpoint is given; call it inside of a tokio runtime, to which the connection belongs.
pub fn start(format: LogFormat) -> Telemetry {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=error"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer();
    let lines = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let (spans, unusable) = exporter().map_or_else(|error| (None, Some(error)), |spans| (spans, None));
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans.as_ref().map(exported))
        .try_init();
    match started {
        // Nobody else sets it.
        Ok(()) => drop(FILTER.set(handle)),
        Err(error) => tracing::warn!(%error, "logging was started before"),
    }
    if let Some(error) = unusable {
        tracing::error!(%error, "no span is exported: give OTEL_EXPORTER_OTLP_ENDPOINT an address such as http://collector:4317");
    }
    Telemetry { spans }
}

/// The directives of the log filter; none before logging has started.
pub fn directives() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Changes what is logged, in the form of `RUST_LOG`, until the process ends.
///
/// # Errors
/// What is wrong with the directives, as a sentence; the filter of before stays.
pub fn set_directives(directives: &str) -> Result<(), String> {
    if directives.is_empty() {
        return Err("nothing would be logged; write directives such as info,valerix_operator=debug".to_owned());
    }
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        format!("`{directives}` are no directives: {error}; write such as info,valerix_operator=debug")
    })?;
    let handle = FILTER.get().ok_or("nothing is logged here")?;
    handle
        .reload(filter)
        .map_err(|error| format!("failed to change the log filter: {error}"))
}

/// The span of one look at an object.
pub fn reconcile<K: Resource<DynamicType = ()>>(object: &K) -> Span {
    tracing::info_span!(
        parent: None,
        "reconcile",
        otel.name = format!("reconcile {}", K::kind(&())),
        otel.status_code = Empty,
        kind = &*K::kind(&()),
        namespace = object.namespace(),
        name = object.name_any(),
        generation = object.meta().generation,
        outcome = Empty,
    )
}

/// What came of it: the label of the metric.
pub fn reconciled(span: &Span, outcome: &str, is_well: bool) {
    span.record("outcome", outcome);
    if !is_well {
        span.record("otel.status_code", "ERROR");
    }
}

fn exporter() -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
    let set = |name| std::env::var(name).is_ok_and(|endpoint| !endpoint.trim().is_empty());
    if !["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .into_iter()
        .any(set)
    {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(sender())
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

/// Who sends. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word.
fn sender() -> Sender {
    let variable = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    Sender::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", variable("OTEL_SERVICE_NAME", "valerix-operator")),
            KeyValue::new("service.namespace", variable("POD_NAMESPACE", "")),
            KeyValue::new("service.instance.id", variable("POD_NAME", "")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ])
        .build()
}

/// The spans of reconciles and none of the libraries', which are about connections.
fn exported<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // Asked each time, also for what it always wants: what the filter of the log lines has said of a record that nobody
    // wanted would else count for the next span of this thread that needs no asking.
    let wanted = |metadata: &Metadata<'_>, _: &Context<'_, S>| is_exported(metadata);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(
            dynamic_filter_fn(wanted)
                .with_max_level_hint(Level::INFO)
                .with_callsite_filter(|metadata| {
                    if is_exported(metadata) {
                        Interest::sometimes()
                    } else {
                        Interest::never()
                    }
                }),
        )
}

fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == RECONCILE
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SpanData, SpanExporter},
    };
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn a_filter_that_cannot_be_is_refused_with_the_remedy() {
        for directives in ["", "valerix_operator=loud", "a=b=c"] {
            let refused = set_directives(directives).unwrap_err();
            assert!(
                refused.contains("info,valerix_operator=debug"),
                "{directives}: {refused}"
            );
        }
    }

    #[test]
    fn a_reconcile_is_a_span_that_says_of_what_and_how_it_went() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let subscriber = tracing_subscriber::registry().with(exported(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let mut map = ConfigMap::default();
            map.metadata.name = Some("order".into());
            map.metadata.namespace = Some("shop".into());
            map.metadata.generation = Some(3);
            let span = reconcile(&map);
            span.in_scope(|| tracing::info_span!("something else").in_scope(|| ()));
            reconciled(&span, "Conflict", false);
        });
        let spans = kept.0.lock().unwrap();
        let [span] = &spans[..] else {
            panic!("one span and no other: {spans:?}");
        };
        assert_eq!(span.name, "reconcile ConfigMap");
        assert!(matches!(span.status, opentelemetry::trace::Status::Error { .. }));
        let said = |key: &str| {
            let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
            found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
        };
        let said = ["kind", "namespace", "name", "generation", "outcome"].map(said);
        assert_eq!(said, ["ConfigMap", "shop", "order", "3", "Conflict"]);
    }
}
