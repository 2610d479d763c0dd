//! Counters and gauges. Labels come from closed sets: controller, category, kind; an object's name only where the cache
//! says at each scrape which there are, and no more than so many ([`super::condition_metrics`]).

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

/// The operator's metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles by controller and result (`Success` or the failure's category).
    pub reconciles: IntCounterVec,
    /// Seconds that reconciles took, by controller and result.
    pub reconcile_seconds: HistogramVec,
    /// Objects that wait for a place to be reconciled, by controller.
    pub reconciles_waiting: IntGaugeVec,
    /// Objects that could not be read, seen since the start, by kind.
    pub invalid_objects: IntCounterVec,
    /// Requests that change something, by controller and what they change.
    pub writes: IntCounterVec,
    /// Watch errors by kind.
    pub watch_errors: IntCounterVec,
    /// Objects in the caches by kind.
    pub cached_objects: IntGaugeVec,
    /// 1 while this process leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// The text that Prometheus scrapes.
    pub fn render(&self) -> Vec<u8> {
        let mut buffer = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            tracing::warn!(%error, "failed to render the metrics");
        }
        buffer
    }

    /// The registry, for metrics that only one controller has.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds what only one part has; a name that is taken is logged.
    pub fn add(&self, collector: impl Collector + 'static) {
        if let Err(error) = self.registry.register(Box::new(collector)) {
            tracing::warn!(%error, "failed to register a metric");
        }
    }

    /// Says which version runs, of which `revision` of the sources; call once.
    pub fn build_info(&self, revision: &str) {
        let build = register(
            &self.registry,
            IntGaugeVec::new(
                Opts::new(
                    "valerix_build_info",
                    "Always 1; says which version runs, of which revision of the sources.",
                ),
                &["version", "revision"],
            ),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
    }

    /// A further counter; call once per name.
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        register(&self.registry, counter(name, help, labels))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        if let Err(error) = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())) {
            tracing::warn!(%error, "failed to register the process metrics");
        }
        Self {
            reconciles: register(
                &registry,
                counter(
                    "valerix_reconciles_total",
                    "Reconciles by controller and result.",
                    &["controller", "result"],
                ),
            ),
            reconcile_seconds: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "valerix_reconcile_duration_seconds",
                        "Duration of reconciles by controller and result.",
                    )
                    .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
                    &["controller", "result"],
                ),
            ),
            reconciles_waiting: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "valerix_reconciles_waiting",
                        "Objects that wait for a place to be reconciled, by controller.",
                    ),
                    &["controller"],
                ),
            ),
            invalid_objects: register(
                &registry,
                counter(
                    "valerix_invalid_objects_total",
                    "Objects that could not be read, by kind.",
                    &["kind"],
                ),
            ),
            writes: register(
                &registry,
                counter(
                    "valerix_api_writes_total",
                    "Requests to the API server that change something, by controller and kind of write.",
                    &["controller", "write"],
                ),
            ),
            watch_errors: register(
                &registry,
                counter("valerix_watch_errors_total", "Errors of watches by kind.", &["kind"]),
            ),
            cached_objects: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("valerix_cached_objects", "Objects in the caches by kind."),
                    &["kind"],
                ),
            ),
            leader: register(
                &registry,
                IntGauge::new("valerix_leader", "1 while this process leads, else 0."),
            ),
            registry,
        }
    }
}

fn counter(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

/// Registers a metric. The descriptions are constants of this program: a wrong one fails every test that makes metrics.
#[allow(
    clippy::expect_used,
    reason = "descriptions are constants, so this fails in every test or never"
)]
fn register<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("metric description is valid");
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        tracing::warn!(%error, "failed to register a metric");
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_renders_under_its_prefix() {
        let metrics = Metrics::default();
        metrics.reconciles.with_label_values(&["a", "Success"]).inc();
        metrics.leader.set(1);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(
            text.contains("valerix_reconciles_total{controller=\"a\",result=\"Success\"} 1"),
            "{text}"
        );
        assert!(text.contains("valerix_leader 1"), "{text}");
    }
}
