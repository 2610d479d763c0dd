//! Prometheus metrics with prefix `resilience_`. Counters are written where things happen; gauges that show a state
//! are read from that state when the registry is scraped, so that none is stale.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts, Registry};

/// All counters. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    calls: IntCounterVec,
    retries: IntCounterVec,
    retries_refused: IntCounterVec,
    failovers: IntCounterVec,
    hedges: IntCounterVec,
    ejections: IntCounterVec,
    timeouts: IntCounterVec,
    bulkhead: IntCounterVec,
    limits: IntCounterVec,
    limits_locally: IntCounterVec,
    limit_calls: IntCounterVec,
    reloads: IntCounterVec,
    injected: IntCounterVec,
    concurrency: IntCounterVec,
}

/// The names are constants and each label list has no repetition, so building them cannot fail; if it did, the metric
/// would be missing and nothing else.
fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).unwrap_or_else(|error| {
        tracing::error!(name, %error, "failed to build a metric");
        fallback()
    })
}

#[expect(clippy::expect_used, reason = "a constant name without labels is valid")]
fn fallback() -> IntCounterVec {
    IntCounterVec::new(
        Opts::new("resilience_invalid", "A metric that could not be built."),
        &["label"],
    )
    .expect("a constant name is valid")
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Families {
            calls: counter(
                "resilience_calls_total",
                "Attempts by target and outcome.",
                &["target", "outcome"],
            ),
            retries: counter(
                "resilience_retries_total",
                "Repeated attempts by target and reason.",
                &["target", "reason"],
            ),
            retries_refused: counter(
                "resilience_retries_refused_total",
                "Attempts that were not repeated because the budget was spent.",
                &["target"],
            ),
            failovers: counter(
                "resilience_failovers_total",
                "Attempts that went on to another address at once, by target and reason.",
                &["target", "reason"],
            ),
            hedges: counter(
                "resilience_hedges_total",
                "Attempts sent beside a slow one.",
                &["target"],
            ),
            ejections: counter(
                "resilience_ejections_total",
                "Addresses left alone for failing in a row.",
                &["target"],
            ),
            timeouts: counter("resilience_timeouts_total", "Times that ran out, by kind.", &["kind"]),
            bulkhead: counter(
                "resilience_bulkhead_decisions_total",
                "Places asked for, by target.",
                &["target", "decision"],
            ),
            limits: counter(
                "resilience_ratelimit_decisions_total",
                "Requests by rule and decision.",
                &["rule", "decision"],
            ),
            limits_locally: counter(
                "resilience_ratelimit_local_decisions_total",
                "Requests of a shared limit that the local share decided because Redis did not answer, by rule.",
                &["rule"],
            ),
            limit_calls: counter(
                "resilience_ratelimit_redis_calls_total",
                "Times that Redis was asked for shared limits, by result: answered, timed_out, failed, busy.",
                &["result"],
            ),
            reloads: counter(
                "resilience_config_reload_total",
                "Documents read, by document and result.",
                &["document", "result"],
            ),
            injected: counter(
                "resilience_faults_injected_total",
                "Requests that a fault touched, by type.",
                &["type"],
            ),
            concurrency: counter(
                "resilience_concurrency_decisions_total",
                "Requests that asked for a place, by priority and decision.",
                &["priority", "decision"],
            ),
        }))
    }

    /// Registers the counters.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let families = &self.0;
        for family in [
            &families.calls,
            &families.retries,
            &families.retries_refused,
            &families.failovers,
            &families.hedges,
            &families.ejections,
            &families.timeouts,
            &families.bulkhead,
            &families.limits,
            &families.limits_locally,
            &families.limit_calls,
            &families.reloads,
            &families.injected,
            &families.concurrency,
        ] {
            registry.register(Box::new(family.clone()))?;
        }
        Ok(())
    }

    pub(crate) fn calls_of(&self, target: &str, outcome: &str) -> IntCounter {
        self.0.calls.with_label_values(&[target, outcome])
    }

    pub(crate) fn bulkhead_of(&self, target: &str, decision: &str) -> IntCounter {
        self.0.bulkhead.with_label_values(&[target, decision])
    }

    pub(crate) fn retries_refused_of(&self, target: &str) -> IntCounter {
        self.0.retries_refused.with_label_values(&[target])
    }

    pub(crate) fn hedges_of(&self, target: &str) -> IntCounter {
        self.0.hedges.with_label_values(&[target])
    }

    pub(crate) fn ejections_of(&self, target: &str) -> IntCounter {
        self.0.ejections.with_label_values(&[target])
    }

    pub(crate) fn retry(&self, target: &str, reason: &str) {
        self.0.retries.with_label_values(&[target, reason]).inc();
    }

    pub(crate) fn failover(&self, target: &str, reason: &str) {
        self.0.failovers.with_label_values(&[target, reason]).inc();
    }

    pub(crate) fn timeout(&self, kind: &str) {
        self.0.timeouts.with_label_values(&[kind]).inc();
    }

    pub(crate) fn reload(&self, document: &str, result: &str) {
        self.0.reloads.with_label_values(&[document, result]).inc();
    }

    #[cfg(feature = "axum")]
    pub(crate) fn concurrency(&self, priority: valerix_policy::Priority, decision: &str) {
        let labels = [priority.as_str(), decision];
        self.0.concurrency.with_label_values(&labels).inc();
    }

    #[cfg(feature = "axum")]
    pub(crate) fn limit(&self, rule: &str, decision: &str) {
        self.0.limits.with_label_values(&[rule, decision]).inc();
    }

    #[cfg(feature = "axum")]
    pub(crate) fn limit_locally(&self, rule: &str) {
        self.0.limits_locally.with_label_values(&[rule]).inc();
    }

    #[cfg(feature = "redis")]
    pub(crate) fn limit_call(&self, result: &str) {
        self.0.limit_calls.with_label_values(&[result]).inc();
    }

    pub(crate) fn injected(&self, fault: &str) {
        self.0.injected.with_label_values(&[fault]).inc();
    }
}

/// One gauge sample read at scrape time.
pub(crate) struct Sample {
    pub(crate) labels: Vec<String>,
    pub(crate) value: f64,
}

/// A gauge and how to read it.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
    pub(crate) samples: Vec<Sample>,
}

/// Reads gauges when scraped.
pub(crate) struct Scraped<F> {
    desc: Vec<Desc>,
    read: F,
}

impl<F: Fn() -> Vec<Gauge> + Send + Sync> Scraped<F> {
    pub(crate) fn new(read: F) -> Self {
        let desc = read()
            .iter()
            .filter_map(|gauge| vector(gauge).map(|vector| vector.desc().into_iter().cloned().collect::<Vec<_>>()))
            .flatten()
            .collect();
        Self { desc, read }
    }
}

fn vector(gauge: &Gauge) -> Option<GaugeVec> {
    GaugeVec::new(Opts::new(gauge.name, gauge.help), gauge.labels).ok()
}

impl<F: Fn() -> Vec<Gauge> + Send + Sync> Collector for Scraped<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for gauge in (self.read)() {
            let Some(vector) = vector(&gauge) else { continue };
            for sample in &gauge.samples {
                let labels: Vec<&str> = sample.labels.iter().map(String::as_str).collect();
                vector.with_label_values(&labels).set(sample.value);
            }
            families.extend(
                vector
                    .collect()
                    .into_iter()
                    .filter(|family| !family.get_metric().is_empty()),
            );
        }
        families
    }
}
