//! One called service at run time: its breaker, bulkhead and budget live as long as the process; settings are swapped.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use chrono::{DateTime, Utc};
use valerix_policy::{CircuitBreakerReport, LimitKind, LimitReport, Mode, Route};

use crate::breaker::CircuitBreaker;
use crate::bulkhead::Bulkhead;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::retry::RetryBudget;

/// What of the document is read per call.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) url: Option<String>,
    pub(crate) timeout: valerix_policy::Timeouts,
    pub(crate) retry: valerix_policy::Retry,
    pub(crate) max_wait: Duration,
    pub(crate) idempotent_routes: Vec<Route>,
    pub(crate) mode: Mode,
}

impl Settings {
    fn new(target: &valerix_policy::Target, mode: Mode) -> Self {
        Self {
            url: target.url.clone(),
            timeout: target.timeout,
            retry: target.retry,
            max_wait: target.bulkhead.max_wait.get(),
            // Validated with the document.
            idempotent_routes: target
                .idempotent_routes
                .iter()
                .filter_map(|route| route.parse().ok())
                .collect(),
            mode,
        }
    }
}

/// One called service.
#[derive(Debug)]
pub struct Target {
    name: String,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) budget: RetryBudget,
    pub(crate) random: Random,
    pub(crate) metrics: Metrics,
    settings: ArcSwap<Settings>,
}

impl Target {
    pub(crate) fn new(target: &valerix_policy::Target, mode: Mode, metrics: Metrics) -> Self {
        let runtime = Self {
            name: target.name.clone(),
            breaker: CircuitBreaker::new(&target.circuit_breaker),
            bulkhead: Bulkhead::new(0),
            budget: RetryBudget::new(),
            random: Random::from_entropy(),
            metrics,
            settings: ArcSwap::from_pointee(Settings::new(target, mode)),
        };
        runtime.reconfigure(target, mode, 1, Utc::now());
        runtime
    }

    /// The name in the document.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The breaker, for listeners and for calls that do not go through the client.
    #[must_use]
    pub const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    pub(crate) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Takes new settings; what was learned about the dependency stays.
    pub(crate) fn reconfigure(&self, target: &valerix_policy::Target, mode: Mode, replicas: u32, now: DateTime<Utc>) {
        self.breaker.reconfigure(&target.circuit_breaker);
        self.breaker.set_mode(mode);
        self.breaker.set_override(target.breaker_override.map(|wanted| {
            // The wall clock is read once; from here on the override runs on the monotonic clock.
            (wanted, (wanted.until - now).to_std().unwrap_or(Duration::ZERO))
        }));
        self.bulkhead
            .resize(usize::try_from(target.bulkhead.max_concurrent).unwrap_or(usize::MAX));
        let budget = target.retry.budget;
        self.budget.configure(budget.percent, budget.min_per_second, replicas);
        self.settings.store(Arc::new(Settings::new(target, mode)));
    }

    pub(crate) fn breaker_report(&self, now: DateTime<Utc>) -> CircuitBreakerReport {
        let snapshot = self.breaker.snapshot();
        CircuitBreakerReport {
            target: self.name.clone(),
            host: None,
            state: snapshot.state,
            calls: snapshot.calls,
            failures: snapshot.failures,
            slow: snapshot.slow,
            next_probe_at: snapshot
                .next_probe_in
                .and_then(|time| now.checked_add_signed(chrono::TimeDelta::from_std(time).ok()?)),
            override_state: self.breaker.override_state(),
        }
    }

    pub(crate) fn limit_report(&self) -> LimitReport {
        let decisions = self.metrics.bulkhead_decisions(&self.name);
        LimitReport {
            name: self.name.clone(),
            kind: LimitKind::Bulkhead,
            limit: self.bulkhead.limit() as u64,
            in_use: self.bulkhead.in_flight() as u64,
            allowed: decisions.0,
            refused: decisions.1,
            degraded: false,
        }
    }
}
