//! The bounds of what protects a service from its callers.

use std::collections::HashSet;

use super::{DAY, Findings, MAX_ROUTES, MAX_VALUE};
use crate::duration::Duration;
use crate::inbound::{Concurrency, ConcurrencyType, Inbound, LimitAlgorithm, LimitKeyType, LimitScope, RateLimitRule};
use crate::priority::{Priorities, RoutePriority};

const MAX_RULES: usize = 32;

pub(super) fn inbound(findings: &mut Findings, inbound: &Inbound) {
    findings.duration("inbound.timeout", inbound.timeout, Duration::from_millis(1), DAY);
    let rules = &inbound.rate_limit.rules;
    findings.require(
        rules.len() <= MAX_RULES,
        "inbound.rateLimit.rules",
        rules.len(),
        format!("list at most {MAX_RULES} rules"),
    );
    let mut names = HashSet::new();
    for (index, item) in rules.iter().enumerate() {
        let path = format!("inbound.rateLimit.rules[{index}]");
        let fresh = names.insert(item.name.as_str());
        findings.require(
            fresh,
            format!("{path}.name"),
            format!("{:?}", item.name),
            "name each rule once",
        );
        rule(findings, &path, item);
    }
    if let Some(limit) = &inbound.concurrency {
        concurrency(findings, limit);
    }
    let idempotency = &inbound.idempotency;
    findings.routes("inbound.idempotency.requiredRoutes", &idempotency.required_routes);
    findings.duration(
        "inbound.idempotency.ttl",
        idempotency.ttl,
        Duration::from_secs(60),
        Duration::from_secs(90 * 24 * 3_600),
    );
    findings.require(
        idempotency.lock_timeout > inbound.timeout,
        "inbound.idempotency.lockTimeout",
        idempotency.lock_timeout,
        format!(
            "use more than inbound.timeout ({}), or a request could be taken over while it runs",
            inbound.timeout
        ),
    );
    findings.require(
        idempotency.ttl > idempotency.lock_timeout,
        "inbound.idempotency.ttl",
        idempotency.ttl,
        format!(
            "use more than inbound.idempotency.lockTimeout ({}), or an answer could be gone before its request counts as dead",
            idempotency.lock_timeout
        ),
    );
}

fn rule(findings: &mut Findings, path: &str, rule: &RateLimitRule) {
    findings.name(format!("{path}.name"), &rule.name);
    findings.routes(&format!("{path}.routes"), &rule.routes);
    findings.number(format!("{path}.requests"), rule.requests, 1, MAX_VALUE);
    findings.duration(format!("{path}.window"), rule.window, Duration::from_millis(100), DAY);
    if let Some(burst) = rule.burst {
        findings.number(format!("{path}.burst"), burst, 1, MAX_VALUE);
        let meaningful = rule.algorithm() == LimitAlgorithm::GCRA;
        findings.require(
            meaningful,
            format!("{path}.burst"),
            burst,
            "leave it out, or set algorithm to GCRA",
        );
    }
    let keyed_service = rule.scope == LimitScope::Service && rule.key.is_some();
    findings.require(
        !keyed_service,
        format!("{path}.scope"),
        "Service",
        "use Distributed for a limit with a key: a share of each key's limit would refuse most callers",
    );
    if let Some(key) = &rule.key {
        let named = key.name.as_deref().is_some_and(|name| {
            !name.is_empty() && name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_graphic())
        });
        match key.key_type {
            LimitKeyType::ClientIp => findings.require(
                key.name.is_none(),
                format!("{path}.key.name"),
                format!("{:?}", key.name.as_deref().unwrap_or_default()),
                "leave it out for ClientIP",
            ),
            LimitKeyType::Header | LimitKeyType::Claim => findings.require(
                named,
                format!("{path}.key.name"),
                format!("{:?}", key.name.as_deref().unwrap_or_default()),
                "name the header or claim in 1 to 128 visible characters",
            ),
        }
    }
}

fn concurrency(findings: &mut Findings, limit: &Concurrency) {
    let path = "inbound.concurrency";
    findings.number(format!("{path}.max"), limit.max, 1, MAX_VALUE);
    findings.number(format!("{path}.maxQueue"), limit.max_queue, 0, MAX_VALUE);
    findings.duration(
        format!("{path}.queueTimeout"),
        limit.queue_timeout,
        Duration::ZERO,
        Duration::from_secs(60),
    );
    if limit.concurrency_type == ConcurrencyType::Adaptive {
        findings.number(format!("{path}.min"), limit.min, 1, limit.max.max(1));
        findings.number(
            format!("{path}.initial"),
            limit.initial,
            limit.min,
            limit.max.max(limit.min),
        );
    }
    if let Some(priorities) = &limit.priorities {
        self::priorities(findings, &format!("{path}.priorities"), priorities);
    }
}

fn priorities(findings: &mut Findings, path: &str, priorities: &Priorities) {
    let routes = &priorities.routes;
    findings.require(
        routes.len() <= MAX_ROUTES,
        format!("{path}.routes"),
        routes.len(),
        format!("list at most {MAX_ROUTES} routes"),
    );
    let mut known = HashSet::new();
    for (index, RoutePriority { route, .. }) in routes.iter().enumerate() {
        let path = format!("{path}.routes[{index}].route");
        findings.route(&path, route);
        findings.require(known.insert(route), path, format!("{route:?}"), "name each route once");
    }
    // A less important request never has the larger share.
    let best_effort = priorities.best_effort_percent;
    let sheddable = priorities.sheddable_percent;
    findings.number(format!("{path}.bestEffortPercent"), best_effort, 1, 100);
    findings.number(
        format!("{path}.sheddablePercent"),
        sheddable,
        best_effort.clamp(1, 100),
        100,
    );
    findings.number(
        format!("{path}.defaultPercent"),
        priorities.default_percent,
        sheddable.clamp(1, 100),
        100,
    );
}
