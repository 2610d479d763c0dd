//! What a target shows of itself: its breakers, its bulkhead, its addresses. Reads, changes nothing.

use chrono::{DateTime, Utc};
use valerix_policy::{BreakerScope, CircuitBreakerReport, CircuitState, LimitKind, LimitReport};

use super::target::Target;
use crate::breaker::CircuitBreaker;

/// Breakers of single addresses in a report, over all targets: the report must fit into 64 KiB.
const MAX_HOSTS: usize = 192;

/// How bad a state is for who calls.
const fn badness(state: CircuitState) -> u8 {
    match state {
        CircuitState::Closed | CircuitState::Unknown => 0,
        CircuitState::HalfOpen => 1,
        CircuitState::Open => 2,
    }
}

impl Target {
    /// The breakers in force. One for the target; for scope `Host` one for each address called so far, the worst first,
    /// so many that `targets` targets fit into a report, or one without a host while no address was called.
    pub(crate) fn breaker_reports(&self, now: DateTime<Utc>, targets: usize) -> Vec<CircuitBreakerReport> {
        let most = (MAX_HOSTS / targets.max(1)).max(1);
        let mut reports = Vec::new();
        if self.policy().scope == BreakerScope::Host {
            let hosts = self.hosts.all();
            let called = hosts
                .iter()
                .filter_map(|address| Some((address.socket, address.breaker()?)));
            reports.extend(called.map(|(socket, breaker)| self.report_of(breaker, Some(socket.to_string()), now)));
            // Stable: those of one state stay in the order of their addresses.
            reports.sort_by_key(|report| std::cmp::Reverse(badness(report.state)));
            reports.truncate(most);
        }
        if reports.is_empty() {
            reports.push(self.report_of(&self.breaker, None, now));
        }
        reports
    }

    fn report_of(&self, breaker: &CircuitBreaker, host: Option<String>, now: DateTime<Utc>) -> CircuitBreakerReport {
        let snapshot = breaker.snapshot();
        CircuitBreakerReport {
            target: self.name().to_owned(),
            host,
            state: snapshot.state,
            new_state: None,
            calls: snapshot.calls,
            failures: snapshot.failures,
            slow: snapshot.slow,
            next_probe_at: snapshot
                .next_probe_in
                .and_then(|time| now.checked_add_signed(chrono::TimeDelta::from_std(time).ok()?)),
            override_state: breaker.override_state(),
        }
    }

    /// The state of the target's breaker; for scope `Host` the worst state of any address.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        let own = || self.breaker.snapshot().state;
        if self.policy().scope == BreakerScope::Target {
            return own();
        }
        let hosts = self.hosts.all();
        let states = hosts
            .iter()
            .filter_map(|address| Some(address.breaker()?.snapshot().state));
        states.max_by_key(|state| badness(*state)).unwrap_or_else(own)
    }

    pub(crate) fn limit_report(&self) -> LimitReport {
        LimitReport {
            name: self.name().to_owned(),
            kind: LimitKind::Bulkhead,
            limit: self.bulkhead.limit() as u64,
            in_use: self.bulkhead.in_flight() as u64,
            allowed: self.counters.places_given.get(),
            refused: self.counters.places_refused.get(),
            degraded: false,
        }
    }
}
