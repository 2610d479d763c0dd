//! The state of a running library as gauges.

use std::sync::Arc;

use prometheus::Registry;

use super::Inner;
use crate::metrics::{Gauge, Sample, Scraped};
use crate::outbound::Target;

impl Inner {
    pub(super) fn register(self: &Arc<Self>, registry: &Registry) -> prometheus::Result<()> {
        self.metrics.register(registry)?;
        let inner = Arc::downgrade(self);
        registry.register(Box::new(Scraped::new(move || gauges(inner.upgrade().as_deref()))))
    }

    /// What the report says of rate limits.
    fn rate_limits(&self) -> Vec<valerix_policy::LimitReport> {
        #[cfg(feature = "axum")]
        return self.rules.load().report().collect();
        #[cfg(not(feature = "axum"))]
        Vec::new()
    }
}

/// The state as gauges; without a library (it was dropped) only their names.
fn gauges(inner: Option<&Inner>) -> Vec<Gauge> {
    let targets = inner.map_or_else(Vec::new, Inner::known_targets);
    let sample = |labels: &[&str], value: f64| Sample {
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        value,
    };
    let per_target = |value: fn(&Target) -> f64| {
        targets
            .iter()
            .map(|target| sample(&[target.name()], value(target)))
            .collect::<Vec<_>>()
    };
    let states = [
        valerix_policy::CircuitState::Closed,
        valerix_policy::CircuitState::Open,
        valerix_policy::CircuitState::HalfOpen,
    ];
    let circuit = targets.iter().flat_map(|target| {
        let current = target.state();
        states.map(|state| sample(&[target.name(), state.as_str()], f64::from(u8::from(state == current))))
    });
    let faults = inner.map_or_else(Vec::new, |inner| inner.faults.report());
    let active = faults
        .iter()
        .filter(|fault| fault.state == valerix_policy::FaultState::Active);
    let limits = inner.map_or_else(Vec::new, Inner::rate_limits);
    let degraded = limits
        .iter()
        .map(|limit| sample(&[&limit.name], f64::from(u8::from(limit.degraded))))
        .collect();
    let config = inner.map(|inner| {
        let in_force = inner.in_force.load();
        let error = if in_force.report.error.is_some() {
            "true"
        } else {
            "false"
        };
        sample(&[in_force.report.hash.as_deref().unwrap_or_default(), error], 1.0)
    });
    [
        Gauge {
            name: "resilience_circuit_state",
            help: "1 for the state of a target's circuit.",
            labels: &["target", "state"],
            samples: circuit.collect(),
        },
        Gauge {
            name: "resilience_bulkhead_inflight",
            help: "Calls under way.",
            labels: &["target"],
            samples: per_target(|target| target.bulkhead.in_flight() as f64),
        },
        Gauge {
            name: "resilience_bulkhead_limit",
            help: "Calls allowed at a time.",
            labels: &["target"],
            samples: per_target(|target| target.bulkhead.limit() as f64),
        },
        Gauge {
            name: "resilience_retry_budget_remaining",
            help: "Repetitions left.",
            labels: &["target"],
            samples: per_target(|target| target.budget.remaining() as f64),
        },
        Gauge {
            name: "resilience_fault_active",
            help: "1 while a fault is in force.",
            labels: &["run", "type"],
            samples: active
                .map(|fault| sample(&[&fault.run, fault.fault_type.as_str()], 1.0))
                .collect(),
        },
        Gauge {
            name: "resilience_ratelimit_degraded",
            help: "1 while the local share decides for a shared limit, because Redis does not answer.",
            labels: &["rule"],
            samples: degraded,
        },
        Gauge {
            name: "resilience_config_info",
            help: "1 for the hash of the policy in force.",
            labels: &["hash", "error"],
            samples: config.into_iter().collect(),
        },
    ]
    .into_iter()
    .chain(crate::concurrency::gauges(inner.and_then(|inner| inner.gate.levels())))
    .collect()
}
