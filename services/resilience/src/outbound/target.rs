//! One called service at run time: its breakers, bulkhead and budget live as long as the process; settings are swapped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use chrono::{DateTime, Utc};
use valerix_policy::{BalancingType, BreakerScope, Hedge, Mode, Route};

use super::counters::Counters;
use super::hosts::{Hosts, Listeners};
use super::latencies::Latencies;
use crate::breaker::{CircuitBreaker, Transition};
use crate::bulkhead::Bulkhead;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::retry::RetryBudget;

/// What of the document is read per call.
#[derive(Clone, Debug)]
pub(crate) struct TargetPolicy {
    pub(crate) url: Option<String>,
    pub(crate) timeout: valerix_policy::Timeouts,
    pub(crate) retry: valerix_policy::Retry,
    pub(crate) max_wait: Duration,
    pub(crate) idempotent_routes: Vec<Route>,
    pub(crate) mode: Mode,
    pub(crate) scope: BreakerScope,
    pub(crate) balances: bool,
    /// Whether the document itself asks for it.
    #[cfg(feature = "reqwest")]
    pub(crate) balances_by_choice: bool,
    pub(crate) hedge: Option<Hedge>,
}

impl TargetPolicy {
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
            scope: target.circuit_breaker.scope,
            balances: target.balancing_type() == BalancingType::P2C,
            #[cfg(feature = "reqwest")]
            balances_by_choice: target.balancing.is_some() || target.circuit_breaker.scope == BreakerScope::Host,
            hedge: target.hedge,
        }
    }

    /// The same for a call that waits at least `patience`, whatever the document's own times.
    pub(crate) fn patient(&self, patience: Duration) -> Self {
        let least = valerix_policy::Duration::from_millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let mut patient = self.clone();
        for time in [&mut patient.timeout.request, &mut patient.timeout.attempt] {
            *time = least.max(*time);
        }
        patient
    }

    /// Whether a request may be repeated although its method is not safe, when it has a key.
    pub(crate) fn declares_idempotent(&self, method: &str, path: &str) -> bool {
        self.idempotent_routes.iter().any(|route| route.matches(method, path))
    }
}

/// One called service: what was learned about it, shared by all its clients.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use valerix_resilience::{Outcome, Resilience, policy::CircuitState};
///
/// let resilience = Resilience::builder().start().await?;
/// let cache = resilience.target("cache");
/// // For a call that no HTTP client makes.
/// if let Ok(permit) = cache.breaker().try_acquire() {
///     permit.record(Outcome::Success);
/// }
/// assert_eq!(cache.state(), CircuitState::Closed);
/// # Ok::<(), valerix_resilience::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Target {
    name: String,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) budget: RetryBudget,
    pub(crate) latencies: Latencies,
    pub(crate) random: Random,
    pub(crate) metrics: Metrics,
    pub(crate) counters: Counters,
    policy: ArcSwap<TargetPolicy>,
    listeners: Listeners,
    /// Whether a policy came that does not name it any more, or never did: it goes with the last who holds it.
    outlived: AtomicBool,
}

impl Target {
    pub(crate) fn new(target: &valerix_policy::Target, mode: Mode, metrics: Metrics) -> Self {
        let listeners = Listeners::default();
        let runtime = Self {
            name: target.name.clone(),
            breaker: CircuitBreaker::new(&target.circuit_breaker),
            hosts: Arc::new(Hosts::new(listeners.clone())),
            bulkhead: Bulkhead::new(0),
            budget: RetryBudget::new(),
            latencies: Latencies::default(),
            random: Random::from_entropy(),
            counters: Counters::new(&metrics, &target.name),
            metrics,
            policy: ArcSwap::from_pointee(TargetPolicy::new(target, mode)),
            listeners,
            outlived: AtomicBool::new(false),
        };
        runtime.listeners.follow(&runtime.breaker, None);
        runtime.reconfigure(target, mode, 1, Utc::now());
        runtime
    }

    /// The name in the document.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The target's breaker, for calls that do not go through a client. Not asked by a client where the policy wants one
    /// for each address.
    #[must_use]
    pub const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// Calls `listener` after every transition of the target's breakers, on the thread that caused it. The address is
    /// given for a breaker of scope `Host`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// let payment = resilience.target("payment");
    /// payment.on_transition(|host, transition| println!("{host:?}: {:?}", transition.to));
    /// # });
    /// ```
    pub fn on_transition(&self, listener: impl Fn(Option<SocketAddr>, Transition) + Send + Sync + 'static) {
        self.listeners.add(listener);
    }

    /// The times in force, for who opens connections on his own or sends streams; ask anew for each.
    #[must_use]
    pub fn timeouts(&self) -> valerix_policy::Timeouts {
        self.policy.load().timeout
    }

    /// Where the document says that the target is, for who calls it by a client of his own; ask anew for each call.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.policy.load().url.clone()
    }

    /// Closes the target's circuit by hand, or those of all its addresses, and forgets what they counted.
    pub fn reset(&self) {
        self.breaker.reset();
        for address in self.hosts.all() {
            if let Some(breaker) = address.breaker() {
                breaker.reset();
            }
        }
    }

    pub(crate) fn outlive(&self, outlived: bool) {
        self.outlived.store(outlived, Ordering::Relaxed);
    }

    pub(crate) fn is_outlived(&self) -> bool {
        self.outlived.load(Ordering::Relaxed)
    }

    pub(crate) fn policy(&self) -> Guard<Arc<TargetPolicy>> {
        self.policy.load()
    }

    /// Takes new settings; what was learned about the dependency stays.
    pub(crate) fn reconfigure(&self, target: &valerix_policy::Target, mode: Mode, replicas: u32, now: DateTime<Utc>) {
        let held = target.breaker_override.map(|wanted| {
            // The wall clock is read once; from here on the override runs on the monotonic clock.
            (wanted, (wanted.until - now).to_std().unwrap_or(Duration::ZERO))
        });
        self.breaker.reconfigure(&target.circuit_breaker);
        self.breaker.set_mode(mode);
        self.breaker.set_override(held);
        self.hosts.reconfigure(&target.circuit_breaker, mode, held);
        self.bulkhead
            .resize(usize::try_from(target.bulkhead.max_concurrent).unwrap_or(usize::MAX));
        let budget = target.retry.budget;
        self.budget.configure(budget.percent, budget.min_per_second, replicas);
        self.policy.store(Arc::new(TargetPolicy::new(target, mode)));
    }
}
