//! `policy.v1.json` from the specification: defaults merged in, every value within the library's bounds. Pure.
//!
//! Part of the second step: what the library would refuse is a violation of the specification.

mod concurrency;
mod duration;
mod inbound;

use super::tcp::is_tcp;
use crate::runtime::Violation;
use duration::duration;
use inbound::inbound;
use valerix_crds::{self as api, ChaosAdmission, ResilientServiceSpec, TargetDefaults};
use valerix_policy::{
    Admission, Backoff, Balancing, BalancingType, BreakerOverride, BreakerScope, Bulkhead, Chaos, CircuitBreaker,
    Duration, Hedge, HedgeType, Mode, OverrideState, Policy, Retry, RetryBudget, Target, Timeouts, Window,
};

/// The text of the document.
///
/// # Errors
/// Every value that is out of bounds, with its field in the specification.
pub fn render(spec: &ResilientServiceSpec) -> Result<String, Vec<Violation>> {
    let policy = document(spec);
    let violations: Vec<Violation> = policy
        .violations()
        .into_iter()
        .map(|violation| {
            let field = format!("spec.resilience.{}", violation.path);
            Violation::new(field, format!("`{}` cannot be", violation.value), violation.remedy)
        })
        .collect();
    if violations.is_empty() {
        Ok(policy.render())
    } else {
        Err(violations)
    }
}

fn document(spec: &ResilientServiceSpec) -> Policy {
    let resilience = spec.resilience.clone().unwrap_or_default();
    let mut policy = Policy {
        mode: match resilience.mode.unwrap_or_default() {
            api::Mode::Enforce | api::Mode::Unknown => Mode::Enforce,
            api::Mode::Shadow => Mode::Shadow,
            api::Mode::Disabled => Mode::Disabled,
        },
        chaos: Chaos {
            admission: match spec.chaos.as_ref().map(|chaos| chaos.admission).unwrap_or_default() {
                ChaosAdmission::Allowed => Admission::Allowed,
                ChaosAdmission::Denied | ChaosAdmission::Unknown => Admission::Denied,
            },
        },
        inbound: inbound(&resilience.inbound.unwrap_or_default()),
        ..Policy::default()
    };
    let defaults = resilience.defaults.unwrap_or_default();
    policy.targets = resilience.targets.iter().map(|item| target(item, &defaults)).collect();
    policy
}

fn target(item: &api::Target, defaults: &TargetDefaults) -> Target {
    let mut circuit_breaker = circuit_breaker(layers(item.circuit_breaker.as_ref(), defaults.circuit_breaker.as_ref()));
    if is_tcp(item) {
        // Of its addresses nobody knows.
        circuit_breaker.scope = BreakerScope::Target;
    }
    Target {
        // The guard is told by its wiring where it relays to: the document knows HTTP alone.
        url: item.url.clone().filter(|_| !is_tcp(item)),
        timeout: timeouts(layers(item.timeout.as_ref(), defaults.timeout.as_ref())),
        retry: retry(layers(item.retry.as_ref(), defaults.retry.as_ref())),
        circuit_breaker,
        bulkhead: bulkhead(layers(item.bulkhead.as_ref(), defaults.bulkhead.as_ref())),
        idempotent_routes: item.idempotent_routes.clone(),
        hedge: item.hedge.as_ref().map(hedge),
        balancing: balancing(layers(item.balancing.as_ref(), defaults.balancing.as_ref())),
        breaker_override: item.manual_override.as_ref().and_then(|by_hand| {
            let circuit_breaker = match by_hand.circuit_breaker {
                api::OverrideState::ForcedOpen => OverrideState::ForcedOpen,
                api::OverrideState::ForcedClosed => OverrideState::ForcedClosed,
                api::OverrideState::Unknown => return None,
            };
            Some(BreakerOverride {
                circuit_breaker,
                until: by_hand.until,
            })
        }),
        ..Target::named(&item.name)
    }
}

/// What a target says itself, before what holds for all targets: a field that the first leaves out comes from the
/// second.
struct Layers<'a, T> {
    own: Option<&'a T>,
    general: Option<&'a T>,
}

fn layers<'a, T>(own: Option<&'a T>, general: Option<&'a T>) -> Layers<'a, T> {
    Layers { own, general }
}

impl<'a, T> Layers<'a, T> {
    fn get<V>(&self, field: impl Fn(&'a T) -> Option<V>) -> Option<V> {
        self.own.and_then(&field).or_else(|| self.general.and_then(&field))
    }

    fn inner<V>(&self, field: impl Fn(&'a T) -> Option<&'a V>) -> Layers<'a, V> {
        layers(self.own.and_then(&field), self.general.and_then(&field))
    }
}

fn timeouts(given: Layers<'_, api::Timeouts>) -> Timeouts {
    let defaults = Timeouts::default();
    let request = duration(given.get(|timeouts| timeouts.request.as_ref()), defaults.request);
    // An attempt is a part of the request, and connecting a part of the attempt.
    let attempt = duration(given.get(|timeouts| timeouts.attempt.as_ref()), defaults.attempt).min(request);
    let connect = duration(given.get(|timeouts| timeouts.connect.as_ref()), defaults.connect).min(attempt);
    Timeouts {
        request,
        attempt,
        connect,
    }
}

fn retry(given: Layers<'_, api::Retry>) -> Retry {
    let defaults = Retry::default();
    let backoff = given.inner(|retry| retry.backoff.as_ref());
    let budget = given.inner(|retry| retry.budget.as_ref());
    Retry {
        max_attempts: given.get(|retry| retry.max_attempts).unwrap_or(defaults.max_attempts),
        backoff: Backoff {
            base: duration(backoff.get(|backoff| backoff.base.as_ref()), defaults.backoff.base),
            max: duration(backoff.get(|backoff| backoff.max.as_ref()), defaults.backoff.max),
        },
        budget: RetryBudget {
            percent: budget.get(|budget| budget.percent).unwrap_or(defaults.budget.percent),
            min_per_second: budget
                .get(|budget| budget.min_per_second)
                .unwrap_or(defaults.budget.min_per_second),
        },
    }
}

fn circuit_breaker(given: Layers<'_, api::CircuitBreaker>) -> CircuitBreaker {
    let defaults = CircuitBreaker::default();
    let open_duration = duration(
        given.get(|breaker| breaker.open_duration.as_ref()),
        defaults.open_duration,
    );
    CircuitBreaker {
        consecutive_failures: given.get(|breaker| breaker.consecutive_failures),
        window: given
            .get(|breaker| breaker.window.as_ref())
            .map_or(defaults.window, window),
        minimum_requests: given
            .get(|breaker| breaker.minimum_requests)
            .unwrap_or(defaults.minimum_requests),
        failure_rate_percent: given
            .get(|breaker| breaker.failure_rate_percent)
            .unwrap_or(defaults.failure_rate_percent),
        slow_call_duration: duration(
            given.get(|breaker| breaker.slow_call_duration.as_ref()),
            defaults.slow_call_duration,
        ),
        slow_call_rate_percent: given
            .get(|breaker| breaker.slow_call_rate_percent)
            .unwrap_or(defaults.slow_call_rate_percent),
        open_duration,
        max_open_duration: match given.get(|breaker| breaker.max_open_duration.as_ref()) {
            Some(given) => duration(Some(given), defaults.max_open_duration),
            None => defaults.max_open_duration.max(open_duration),
        },
        half_open_permits: given
            .get(|breaker| breaker.half_open_permits)
            .unwrap_or(defaults.half_open_permits),
        half_open_timeout: duration(
            given.get(|breaker| breaker.half_open_timeout.as_ref()),
            defaults.half_open_timeout,
        ),
        scope: match given.get(|breaker| breaker.scope) {
            Some(api::BreakerScope::Host) => BreakerScope::Host,
            Some(api::BreakerScope::Target | api::BreakerScope::Unknown) | None => BreakerScope::Target,
        },
    }
}

fn hedge(given: &api::Hedge) -> Hedge {
    let least = Hedge::after(Duration::from_millis(1));
    Hedge {
        hedge_type: match given.kind {
            Some(api::HedgeType::Percentile) => HedgeType::Percentile,
            Some(api::HedgeType::Fixed | api::HedgeType::Unknown) | None => HedgeType::Fixed,
        },
        delay: duration(Some(&given.delay), least.delay),
        percentile: given.percentile,
        max_hedged_attempts: given.max_hedged_attempts.unwrap_or(least.max_hedged_attempts),
    }
}

/// Left out where nothing was said, so that the document of a service that does not care stays as it was.
fn balancing(given: Layers<'_, api::Balancing>) -> Option<Balancing> {
    let balancing_type = match given.get(|balancing| balancing.kind)? {
        api::BalancingType::None => BalancingType::None,
        api::BalancingType::P2C | api::BalancingType::Unknown => BalancingType::P2C,
    };
    Some(Balancing { balancing_type })
}

fn window(window: &api::Window) -> Window {
    let defaults = Window::default();
    match window.kind {
        api::WindowType::Time => Window::time(duration(window.duration.as_ref(), defaults.duration())),
        api::WindowType::Count => Window::count(window.calls.unwrap_or(defaults.calls())),
        api::WindowType::Unknown => defaults,
    }
}

fn bulkhead(given: Layers<'_, api::Bulkhead>) -> Bulkhead {
    let defaults = Bulkhead::default();
    Bulkhead {
        max_concurrent: given
            .get(|bulkhead| bulkhead.max_concurrent)
            .unwrap_or(defaults.max_concurrent),
        max_wait: duration(given.get(|bulkhead| bulkhead.max_wait.as_ref()), defaults.max_wait),
    }
}

#[cfg(test)]
mod tests;
