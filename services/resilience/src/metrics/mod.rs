//! Metrics with prefix `resilience_`: counters and times, written where things happen. With the feature `metrics` a
//! Prometheus registry shows them, and the state as gauges.

mod instruments;
#[cfg(feature = "metrics")]
mod scrape;

use std::sync::Arc;
#[cfg(feature = "axum")]
use std::sync::OnceLock;
#[cfg(feature = "axum")]
use std::time::Duration;

pub(crate) use self::instruments::{Counter, Histogram};
use self::instruments::{CounterVec, HistogramVec, counter, histogram};
#[cfg(feature = "metrics")]
pub(crate) use self::scrape::{Gauge, Sample, Scraped};

/// All counters. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Families>);

#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "who counts is a feature of its own, and nobody shows it")
)]
#[derive(Debug)]
struct Families {
    calls: CounterVec,
    retries: CounterVec,
    retries_refused: CounterVec,
    failovers: CounterVec,
    hedges: CounterVec,
    ejections: CounterVec,
    timeouts: CounterVec,
    bulkhead: CounterVec,
    limits: CounterVec,
    limits_locally: CounterVec,
    limit_calls: CounterVec,
    reloads: CounterVec,
    injected: CounterVec,
    concurrency: CounterVec,
    call_seconds: HistogramVec,
    request_seconds: HistogramVec,
    /// Those of `request_seconds` by the first digit of the status less one, each since it was needed first.
    #[cfg(feature = "axum")]
    of_class: [OnceLock<Histogram>; 5],
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
            call_seconds: histogram(
                "resilience_call_duration_seconds",
                "Time of an attempt to the head of its answer, or to its end without one, by target.",
                &["target"],
            ),
            request_seconds: histogram(
                "resilience_request_duration_seconds",
                "Time from a request's arrival to the head of its answer, by the first digit of its status.",
                &["class"],
            ),
            #[cfg(feature = "axum")]
            of_class: Default::default(),
        }))
    }

    /// Registers all of them.
    #[cfg(feature = "metrics")]
    pub(crate) fn register(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
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
        registry.register(Box::new(families.call_seconds.clone()))?;
        registry.register(Box::new(families.request_seconds.clone()))
    }

    /// Shows nothing more of a target that is called no longer.
    pub(crate) fn forget(&self, target: &str) {
        let families = &self.0;
        for family in [
            &families.calls,
            &families.retries,
            &families.retries_refused,
            &families.failovers,
            &families.hedges,
            &families.ejections,
            &families.bulkhead,
        ] {
            instruments::forget(family, target);
        }
        instruments::forget(&families.call_seconds, target);
    }

    /// The time of a request that was answered with `status`.
    #[cfg(feature = "axum")]
    pub(crate) fn request(&self, status: http::StatusCode, time: Duration) {
        let (place, class) = match status.as_u16() / 100 {
            1 => (0, "1xx"),
            2 => (1, "2xx"),
            3 => (2, "3xx"),
            4 => (3, "4xx"),
            _ => (4, "5xx"),
        };
        let Families {
            request_seconds,
            of_class,
            ..
        } = &*self.0;
        of_class[place]
            .get_or_init(|| request_seconds.with_label_values(&[class]))
            .observe(time.as_secs_f64());
    }

    pub(crate) fn calls_of(&self, target: &str, outcome: &str) -> Counter {
        self.0.calls.with_label_values(&[target, outcome])
    }

    pub(crate) fn call_seconds_of(&self, target: &str) -> Histogram {
        self.0.call_seconds.with_label_values(&[target])
    }

    pub(crate) fn bulkhead_of(&self, target: &str, decision: &str) -> Counter {
        self.0.bulkhead.with_label_values(&[target, decision])
    }

    pub(crate) fn retries_refused_of(&self, target: &str) -> Counter {
        self.0.retries_refused.with_label_values(&[target])
    }

    pub(crate) fn hedges_of(&self, target: &str) -> Counter {
        self.0.hedges.with_label_values(&[target])
    }

    pub(crate) fn ejections_of(&self, target: &str) -> Counter {
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

    /// Where a decision of a rule is counted.
    #[cfg(feature = "axum")]
    pub(crate) fn limit_of(&self, rule: &str, decision: &str) -> Counter {
        self.0.limits.with_label_values(&[rule, decision])
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
