//! Specifications in, documents out.

use super::super::fixtures;
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
fn of_a_target_that_is_no_http_the_document_holds_what_connections_obey_and_no_address() {
    let spec = json!({"image": "a", "guard": {"mode": "Sidecar"}, "resilience": {
        "defaults": {"circuitBreaker": {"scope": "Host"}},
        "targets": [{
            "name": "cache", "url": "tcp://cache:6379", "timeout": {"connect": "300ms"},
            "circuitBreaker": {"consecutiveFailures": 3}, "bulkhead": {"maxConcurrent": 7}
        }]
    }});
    let target = policy(spec).targets.remove(0);
    assert_eq!(target.url, None);
    assert_eq!(target.timeout.connect, Duration::from_millis(300));
    assert_eq!(target.circuit_breaker.consecutive_failures, Some(3));
    assert_eq!(target.circuit_breaker.scope, BreakerScope::Target);
    assert_eq!(target.bulkhead.max_concurrent, 7);
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
