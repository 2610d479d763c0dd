//! `inbound` of the policy from the specification. Pure.

use super::concurrency::concurrency;
use super::duration::duration;
use valerix_crds as api;
use valerix_policy::{
    Duration, Idempotency, Inbound, LimitAlgorithm, LimitKey, LimitKeyType, LimitScope, RateLimit, RateLimitRule,
};

/// How much longer than a request may take its key stays locked, unless the user says otherwise.
const LOCKED_BEYOND: u64 = 15_000;

pub(super) fn inbound(given: &api::Inbound) -> Inbound {
    let defaults = Inbound::default();
    let timeout = duration(given.timeout.as_ref(), defaults.timeout);
    let rules = given.rate_limit.iter().flat_map(|limit| &limit.rules);
    Inbound {
        timeout,
        rate_limit: RateLimit {
            rules: rules.map(rule).collect(),
        },
        concurrency: given.concurrency.as_ref().map(concurrency),
        idempotency: idempotency(&given.idempotency.clone().unwrap_or_default(), timeout),
    }
}

fn rule(given: &api::RateLimitRule) -> RateLimitRule {
    RateLimitRule {
        name: given.name.clone(),
        scope: match given.scope.unwrap_or_default() {
            api::LimitScope::Service => LimitScope::Service,
            api::LimitScope::Replica | api::LimitScope::Unknown => LimitScope::Replica,
            api::LimitScope::Distributed => LimitScope::Distributed,
        },
        routes: given.routes.clone(),
        requests: given.requests,
        // The field is required.
        window: duration(Some(&given.window), Duration::from_secs(1)),
        burst: given.burst,
        algorithm: match given.algorithm {
            Some(api::LimitAlgorithm::Window) => Some(LimitAlgorithm::Window),
            Some(api::LimitAlgorithm::Gcra) => Some(LimitAlgorithm::GCRA),
            Some(api::LimitAlgorithm::Unknown) | None => None,
        },
        key: given.key.as_ref().map(key),
    }
}

fn key(given: &api::LimitKey) -> LimitKey {
    LimitKey {
        key_type: match given.kind {
            api::LimitKeyType::ClientIp | api::LimitKeyType::Unknown => LimitKeyType::ClientIp,
            api::LimitKeyType::Header => LimitKeyType::Header,
            api::LimitKeyType::Claim => LimitKeyType::Claim,
        },
        name: given.name.clone(),
    }
}

fn idempotency(given: &api::Idempotency, timeout: Duration) -> Idempotency {
    let defaults = Idempotency::default();
    // A request must not be taken over while it may still run.
    let beyond = Duration::from_millis(timeout.as_millis().saturating_add(LOCKED_BEYOND));
    Idempotency {
        required_routes: given.required_routes.clone(),
        ttl: duration(given.ttl.as_ref(), defaults.ttl),
        lock_timeout: duration(given.lock_timeout.as_ref(), defaults.lock_timeout.max(beyond)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn built(given: serde_json::Value) -> Inbound {
        inbound(&serde_json::from_value(given).unwrap())
    }

    #[test]
    fn who_says_nothing_gets_the_librarys_defaults() {
        assert_eq!(built(json!({})), Inbound::default());
        assert_eq!(built(json!({"rateLimit": {}, "idempotency": {}})), Inbound::default());
    }

    #[test]
    fn every_field_of_a_limit_reaches_the_pods() {
        let inbound = built(json!({"rateLimit": {"rules": [
            {"name": "demo", "scope": "Distributed", "routes": ["POST /api/orders"], "requests": 5, "window": "10s",
             "algorithm": "Window", "key": {"type": "Claim", "name": "sub"}},
            {"name": "all", "scope": "Service", "requests": 1000, "window": "1s", "burst": 50, "algorithm": "GCRA"},
            {"name": "ip", "requests": 7, "window": "1m", "key": {"type": "ClientIP"}},
            {"name": "tenant", "scope": "Replica", "requests": 7, "window": "1m", "key": {"type": "Header", "name": "x-tenant"}},
        ]}}));
        let rule = |name: &str, scope, requests, window| RateLimitRule {
            name: name.to_owned(),
            scope,
            routes: Vec::new(),
            requests,
            window: Duration::from_secs(window),
            burst: None,
            algorithm: None,
            key: None,
        };
        let key = |key_type, name: Option<&str>| {
            Some(LimitKey {
                key_type,
                name: name.map(str::to_owned),
            })
        };
        assert_eq!(
            inbound.rate_limit.rules,
            [
                RateLimitRule {
                    routes: vec!["POST /api/orders".to_owned()],
                    algorithm: Some(LimitAlgorithm::Window),
                    key: key(LimitKeyType::Claim, Some("sub")),
                    ..rule("demo", LimitScope::Distributed, 5, 10)
                },
                RateLimitRule {
                    burst: Some(50),
                    algorithm: Some(LimitAlgorithm::GCRA),
                    ..rule("all", LimitScope::Service, 1_000, 1)
                },
                RateLimitRule {
                    key: key(LimitKeyType::ClientIp, None),
                    ..rule("ip", LimitScope::Replica, 7, 60)
                },
                RateLimitRule {
                    key: key(LimitKeyType::Header, Some("x-tenant")),
                    ..rule("tenant", LimitScope::Replica, 7, 60)
                },
            ]
        );
    }

    #[test]
    fn values_of_a_newer_version_are_read_as_the_schema_says() {
        let inbound = built(json!({"rateLimit": {"rules": [
            {"name": "a", "scope": "Region", "requests": 5, "window": "10s", "algorithm": "Leaky", "key": {"type": "Cookie"}}
        ]}}));
        let rule = &inbound.rate_limit.rules[0];
        assert_eq!((rule.scope, rule.algorithm), (LimitScope::Replica, None));
        assert_eq!(rule.key.as_ref().map(|key| key.key_type), Some(LimitKeyType::ClientIp));
    }

    #[test]
    fn a_key_stays_locked_longer_than_a_request_may_take() {
        let locked = |given| built(given).idempotency.lock_timeout;
        assert_eq!(locked(json!({})), Duration::from_secs(30));
        assert_eq!(locked(json!({"timeout": "5s"})), Duration::from_secs(30));
        assert_eq!(locked(json!({"timeout": "40s"})), Duration::from_secs(55));
        let given = built(json!({"idempotency": {"requiredRoutes": ["POST /a"], "ttl": "2h", "lockTimeout": "16s"}}));
        let expected = Idempotency {
            required_routes: vec!["POST /a".to_owned()],
            ttl: Duration::from_secs(7_200),
            lock_timeout: Duration::from_secs(16),
        };
        assert_eq!(given.idempotency, expected);
    }
}
