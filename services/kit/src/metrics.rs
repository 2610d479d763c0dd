//! The metrics that every service has, and the registry that its own are added to.

use std::time::Duration;

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Where the answers of one method, route and status are counted and measured.
#[derive(Clone)]
pub(crate) struct RouteMetrics {
    requests: IntCounter,
    seconds: Histogram,
}

impl RouteMetrics {
    pub(crate) fn answered(&self, elapsed: Duration) {
        self.requests.inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub(crate) requests: IntCounterVec,
    pub(crate) request_seconds: HistogramVec,
    pub(crate) consumer_lag: IntGaugeVec,
    pub(crate) events_handled: IntCounterVec,
    pub(crate) events_published: IntCounterVec,
    pub(crate) event_bus_up: IntGauge,
    pub(crate) stream_entries: IntGaugeVec,
    pub(crate) stream_group_lost: IntCounterVec,
    pub(crate) dead_letters: IntGaugeVec,
    pub(crate) outbox_unpublished: IntGauge,
    pub(crate) outbox_oldest_seconds: Gauge,
    pub(crate) task_restarts: IntCounterVec,
}

impl Metrics {
    /// A registry of its own, so that several services can run in one process (tests do).
    ///
    /// # Errors
    /// When a metric is invalid or registered twice, which is a mistake in this crate.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("http_requests_total", "Requests answered, by method, route and status"),
                &["method", "route", "status"],
            )?,
            request_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "http_request_duration_seconds",
                    "Time from a request's head to its answer's head",
                )
                .buckets(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0,
                ]),
                &["method", "route"],
            )?,
            consumer_lag: IntGaugeVec::new(
                Opts::new(
                    "consumer_lag",
                    "Events of a stream that a group has not finished: not delivered or pending",
                ),
                &["stream", "group"],
            )?,
            events_handled: IntCounterVec::new(
                Opts::new(
                    "events_handled_total",
                    "Events by outcome: handled, failed, unavailable, dead",
                ),
                &["stream", "group", "outcome"],
            )?,
            events_published: IntCounterVec::new(
                Opts::new(
                    "events_published_total",
                    "Outbox rows by outcome: published, failed, republished (the bus had lost it)",
                ),
                &["outcome"],
            )?,
            event_bus_up: IntGauge::new(
                "event_bus_up",
                "1 while Redis answers the consumers of this service, else 0",
            )?,
            stream_entries: IntGaugeVec::new(
                Opts::new(
                    "event_stream_entries",
                    "Entries that a stream holds, finished ones included",
                ),
                &["stream"],
            )?,
            stream_group_lost: IntCounterVec::new(
                Opts::new(
                    "stream_group_lost_total",
                    "Times that a group lost events of a stream which were then published again: cut, gone, new, restored",
                ),
                &["stream", "group", "reason"],
            )?,
            dead_letters: IntGaugeVec::new(
                Opts::new("event_dead_letters", "Dead letters of a stream, of all groups"),
                &["stream"],
            )?,
            outbox_unpublished: IntGauge::new("outbox_unpublished_events", "Events that are true and not published")?,
            outbox_oldest_seconds: Gauge::new(
                "outbox_oldest_unpublished_seconds",
                "Age of the oldest event that is not published, else 0",
            )?,
            task_restarts: IntCounterVec::new(
                Opts::new(
                    "background_task_restarts_total",
                    "Background tasks that were started again: they panicked, or waited for a database that was gone",
                ),
                &["task"],
            )?,
            registry,
        };
        metrics.register(metrics.requests.clone())?;
        metrics.register(metrics.request_seconds.clone())?;
        metrics.register(metrics.consumer_lag.clone())?;
        metrics.register(metrics.events_handled.clone())?;
        metrics.register(metrics.events_published.clone())?;
        metrics.register(metrics.event_bus_up.clone())?;
        metrics.register(metrics.stream_entries.clone())?;
        metrics.register(metrics.stream_group_lost.clone())?;
        metrics.register(metrics.dead_letters.clone())?;
        metrics.register(metrics.outbox_unpublished.clone())?;
        metrics.register(metrics.outbox_oldest_seconds.clone())?;
        metrics.register(metrics.task_restarts.clone())?;
        metrics.register(crate::telemetry::export::spans()?)?;
        let build = IntGaugeVec::new(
            Opts::new("service_build_info", "Always 1; says which version runs"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register(build)?;
        #[cfg(target_os = "linux")]
        metrics.register(prometheus::process_collector::ProcessCollector::for_self())?;
        Ok(metrics)
    }

    /// Where answers of this kind are counted and measured.
    pub(crate) fn answered(&self, method: &str, route: &str, status: StatusCode) -> RouteMetrics {
        RouteMetrics {
            requests: self.requests.with_label_values(&[method, route, status.as_str()]),
            seconds: self.request_seconds.with_label_values(&[method, route]),
        }
    }

    /// Adds a service's own metric.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(&self, collector: impl Collector + 'static) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(collector))
    }

    /// The registry, for libraries that register by themselves.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric can not be written as text.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
