//! `policy.v1.json` from the specification: defaults merged in, every value within the library's bounds. Pure.

use super::super::validate::Violation;
use super::inbound::inbound;
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
        .map(|violation| Violation {
            field: format!("spec.resilience.{}", violation.path),
            message: format!("{}: {}", violation.value, violation.remedy),
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
    Target {
        url: item.url.clone(),
        timeout: timeouts(layers(item.timeout.as_ref(), defaults.timeout.as_ref())),
        retry: retry(layers(item.retry.as_ref(), defaults.retry.as_ref())),
        circuit_breaker: circuit_breaker(layers(item.circuit_breaker.as_ref(), defaults.circuit_breaker.as_ref())),
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

/// The given duration, or the default. The API server has checked the form, and both types read the same one.
pub(super) fn duration(given: Option<&api::Duration>, default: Duration) -> Duration {
    given.and_then(|given| given.as_str().parse().ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use super::*;
    use serde_json::json;

    fn policy(spec: serde_json::Value) -> Policy {
        let text = render(&fixtures::service("order", spec).spec).unwrap();
        Policy::parse(text.as_bytes()).unwrap().document
    }

    #[test]
    fn a_target_says_it_first_then_the_defaults_then_the_library() {
        let spec = json!({"image": "a", "resilience": {
            "defaults": {"timeout": {"request": "3s"}, "circuitBreaker": {"openDuration": "90s", "minimumRequests": 30}, "retry": {"budget": {"percent": 5}}},
            "targets": [{"name": "b", "timeout": {"connect": "1s"}, "circuitBreaker": {"minimumRequests": 40, "consecutiveFailures": 3}}]
        }});
        let policy = policy(spec);
        let target = &policy.targets[0];
        let seconds = Duration::from_secs;
        assert_eq!(
            (target.timeout.request, target.timeout.attempt, target.timeout.connect),
            (seconds(3), seconds(3), seconds(1))
        );
        let breaker = &target.circuit_breaker;
        assert_eq!((breaker.minimum_requests, breaker.consecutive_failures), (40, Some(3)));
        assert_eq!(
            (breaker.open_duration, breaker.max_open_duration),
            (seconds(90), seconds(90))
        );
        assert_eq!((target.retry.budget.percent, target.retry.max_attempts), (5, 3));
    }

    #[test]
    fn every_field_that_a_user_sets_reaches_the_pods_as_it_is() {
        let given = json!({
            "mode": "Disabled",
            "inbound": {"timeout": "7s", "concurrency": {
                "type": "Adaptive", "max": 90, "min": 11, "initial": 33, "maxQueue": 4, "queueTimeout": "40ms",
                "priorities": {
                    "header": "Trust", "defaultPercent": 95, "sheddablePercent": 60, "bestEffortPercent": 30,
                    "routes": [{"route": "GET /a", "priority": "Sheddable"}, {"route": "GET /b", "priority": "BestEffort"}]
                }
            }},
            "targets": [
                {
                    "name": "a", "url": "http://a.shop.svc", "idempotentRoutes": ["POST /x"],
                    "timeout": {"request": "9s", "attempt": "4s", "connect": "1s"},
                    "retry": {"maxAttempts": 5, "backoff": {"base": "70ms", "max": "3s"}, "budget": {"percent": 15, "minPerSecond": 4}},
                    "circuitBreaker": {
                        "consecutiveFailures": 6, "window": {"type": "Time", "duration": "45s"}, "minimumRequests": 12,
                        "failureRatePercent": 40, "slowCallDuration": "3s", "slowCallRatePercent": 80, "openDuration": "8s",
                        "maxOpenDuration": "50s", "halfOpenPermits": 3, "halfOpenTimeout": "20s", "scope": "Host"
                    },
                    "bulkhead": {"maxConcurrent": 25, "maxWait": "15ms"},
                    "hedge": {"type": "Percentile", "delay": "50ms", "percentile": 90, "maxHedgedAttempts": 2},
                    "balancing": {"type": "P2C"},
                    "override": {"circuitBreaker": "ForcedClosed", "until": "2026-08-21T12:00:00Z"}
                },
                {
                    "name": "b", "circuitBreaker": {"window": {"type": "Count", "calls": 60}},
                    "override": {"circuitBreaker": "ForcedOpen", "until": "2026-08-21T13:00:00Z"}
                }
            ]
        });
        let spec = json!({"image": "a", "resilience": given});
        let text = render(&fixtures::service("order", spec).spec).unwrap();
        let rendered = serde_json::from_str(&text).unwrap();
        assert_eq!(crate::runtime::drift::project(&given, &rendered), given);
    }

    #[test]
    fn half_a_block_leaves_the_other_half_to_the_defaults_and_an_override_of_a_newer_version_is_none() {
        let policy = policy(json!({"image": "a", "resilience": {
            "defaults": {"retry": {"backoff": {"base": "50ms", "max": "9s"}, "budget": {"percent": 5}}},
            "targets": [{"name": "b", "retry": {"backoff": {"base": "80ms"}, "budget": {"minPerSecond": 2}},
                "timeout": {"attempt": "500ms"}, "override": {"circuitBreaker": "Sideways", "until": "2026-08-21T12:00:00Z"}}]
        }}));
        let target = &policy.targets[0];
        let milliseconds = Duration::from_millis;
        assert_eq!(
            (target.retry.backoff.base, target.retry.backoff.max),
            (milliseconds(80), milliseconds(9_000))
        );
        assert_eq!(
            (target.retry.budget.percent, target.retry.budget.min_per_second),
            (5, 2)
        );
        assert_eq!(target.timeout.connect, milliseconds(500));
        assert_eq!(target.breaker_override, None);
    }

    #[test]
    fn scope_hedge_and_balancing_reach_the_pods() {
        let spec = json!({"image": "a", "resilience": {
            "defaults": {"balancing": {"type": "None"}, "circuitBreaker": {"scope": "Host"}},
            "targets": [
                {"name": "a", "balancing": {"type": "P2C"}, "hedge": {"type": "Percentile", "delay": "50ms", "percentile": 90}},
                {"name": "b", "circuitBreaker": {"scope": "Target"}}
            ]
        }});
        let policy = policy(spec);
        let seen: Vec<_> = policy
            .targets
            .iter()
            .map(|target| (target.circuit_breaker.scope, target.balancing_type(), target.hedge))
            .collect();
        let hedge = Hedge::at_percentile(90, Duration::from_millis(50));
        assert_eq!(
            seen,
            [
                (BreakerScope::Host, BalancingType::P2C, Some(hedge)),
                (BreakerScope::Target, BalancingType::None, None)
            ]
        );
        let contradiction = json!({"image": "a", "resilience": {"targets": [
            {"name": "a", "balancing": {"type": "None"}, "circuitBreaker": {"scope": "Host"}}
        ]}});
        let violations = render(&fixtures::service("order", contradiction).spec).unwrap_err();
        assert_eq!(violations[0].field, "spec.resilience.targets[0].circuitBreaker.scope");
    }

    #[test]
    fn requests_at_a_time_reach_the_pods_with_bounds_that_fit_each_other() {
        let concurrency = |spec: serde_json::Value| {
            let policy = policy(json!({"image": "a", "resilience": {"inbound": {"concurrency": spec}}}));
            policy.inbound.concurrency.unwrap()
        };
        assert_eq!(concurrency(json!({})), valerix_policy::Concurrency::default());
        // Less than the other fields' defaults.
        let small = concurrency(json!({"type": "Adaptive", "max": 10}));
        assert_eq!((small.max, small.min, small.initial), (10, 10, 10));
        let large = concurrency(json!({"type": "Adaptive", "min": 50}));
        assert_eq!((large.max, large.min, large.initial), (200, 50, 50));
        let shedding = concurrency(json!({"maxQueue": 7, "queueTimeout": "50ms", "priorities": {
            "header": "Lower", "bestEffortPercent": 10,
            "routes": [{"route": "GET /a", "priority": "Critical"}, {"route": "GET /b", "priority": "Sooner"}]
        }}));
        assert_eq!(
            (shedding.max_queue, shedding.queue_timeout),
            (7, Duration::from_millis(50))
        );
        let priorities = shedding.priorities.unwrap();
        assert_eq!(priorities.header, valerix_policy::PriorityHeader::Lower);
        let found: Vec<_> = priorities.routes.iter().map(|item| item.priority).collect();
        use valerix_policy::Priority;
        assert_eq!(found, [Priority::Critical, Priority::Default]);
        assert_eq!(
            Priority::ALL.map(|priority| priorities.percent(priority)),
            [100, 90, 75, 10]
        );
    }

    #[test]
    fn consent_and_mode_reach_the_pods() {
        let policy = policy(
            json!({"image": "a", "chaos": {"admission": "Allowed"}, "resilience": {"mode": "Shadow", "inbound": {"timeout": "40s"}}}),
        );
        assert_eq!(
            (policy.chaos.admission, policy.mode),
            (Admission::Allowed, Mode::Shadow)
        );
        assert!(policy.inbound.idempotency.lock_timeout > policy.inbound.timeout);
    }
}
