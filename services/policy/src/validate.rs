//! The bounds of every field, in one place. In: a document. Out: what is wrong with it, all of it at once. Pure.

use std::collections::HashSet;
use std::fmt::Display;

use crate::duration::Duration;
use crate::error::Violation;
use crate::faults::{Fault, Faults};
use crate::inbound::{Concurrency, ConcurrencyType, Inbound, LimitAlgorithm, LimitKeyType, LimitScope, RateLimitRule};
use crate::policy::Policy;
use crate::priority::{Priorities, RoutePriority};
use crate::route::Route;
use crate::target::{BalancingType, BreakerScope, CircuitBreaker, Hedge, HedgeType, Target, WindowType};

const MAX_TARGETS: usize = 256;
const MAX_RULES: usize = 32;
const MAX_ROUTES: usize = 64;
const MAX_VALUE: u32 = 1_000_000;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A value in a message: never longer than 64 characters.
pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= 64 {
        text.to_owned()
    } else {
        text.chars().take(63).chain(['…']).collect()
    }
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn require(&mut self, good: bool, path: impl Display, value: impl Display, remedy: impl Into<String>) {
        if !good {
            self.0.push(Violation {
                path: path.to_string(),
                value: cut(&value.to_string()),
                remedy: remedy.into(),
            });
        }
    }

    fn number(&mut self, path: impl Display, value: u32, least: u32, most: u32) {
        // The remedy is put in words only where it is needed: a document has thousands of good numbers.
        if !(least..=most).contains(&value) {
            self.require(false, path, value, format!("use a number from {least} to {most}"));
        }
    }

    fn duration(&mut self, path: impl Display, value: Duration, least: Duration, most: Duration) {
        if !(least..=most).contains(&value) {
            self.require(false, path, value, format!("use a duration from {least} to {most}"));
        }
    }

    fn routes(&mut self, path: &str, routes: &[String]) {
        self.require(
            routes.len() <= MAX_ROUTES,
            path,
            routes.len(),
            format!("list at most {MAX_ROUTES} routes"),
        );
        for (index, route) in routes.iter().enumerate() {
            self.route(format!("{path}[{index}]"), route);
        }
    }

    fn route(&mut self, path: impl Display, route: &str) {
        if let Err(error) = route.parse::<Route>() {
            self.require(false, path, format!("{route:?}"), error.to_string());
        }
    }

    fn name(&mut self, path: impl Display, name: &str) {
        let good = !name.is_empty()
            && name.len() <= 63
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        self.require(
            good,
            path,
            format!("{name:?}"),
            "use 1 to 63 lower-case letters, digits and inner dashes",
        );
    }
}

pub(crate) fn policy(policy: &Policy) -> Vec<Violation> {
    let mut findings = Findings::default();
    inbound(&mut findings, &policy.inbound);
    let count = policy.targets.len();
    findings.require(
        count <= MAX_TARGETS,
        "targets",
        count,
        format!("list at most {MAX_TARGETS} targets"),
    );
    let mut names = HashSet::new();
    for (index, item) in policy.targets.iter().enumerate() {
        let path = format!("targets[{index}]");
        findings.name(format!("{path}.name"), &item.name);
        let fresh = names.insert(item.name.as_str());
        findings.require(
            fresh,
            format!("{path}.name"),
            format!("{:?}", item.name),
            "name each target once",
        );
        target(&mut findings, &path, item);
    }
    findings.0
}

fn inbound(findings: &mut Findings, inbound: &Inbound) {
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

fn target(findings: &mut Findings, path: &str, target: &Target) {
    let millisecond = Duration::from_millis(1);
    if let Some(url) = &target.url {
        findings.require(
            is_http_url(url),
            format!("{path}.url"),
            format!("{url:?}"),
            "use http://host[:port][/path] or https://..., without query and credentials",
        );
    }
    findings.duration(
        format!("{path}.timeout.request"),
        target.timeout.request,
        millisecond,
        DAY,
    );
    findings.duration(
        format!("{path}.timeout.attempt"),
        target.timeout.attempt,
        millisecond,
        DAY,
    );
    findings.duration(
        format!("{path}.timeout.connect"),
        target.timeout.connect,
        millisecond,
        DAY,
    );
    findings.number(format!("{path}.retry.maxAttempts"), target.retry.max_attempts, 1, 10);
    let backoff = target.retry.backoff;
    findings.duration(format!("{path}.retry.backoff.base"), backoff.base, millisecond, DAY);
    findings.require(
        backoff.max >= backoff.base,
        format!("{path}.retry.backoff.max"),
        backoff.max,
        format!("use at least backoff.base ({})", backoff.base),
    );
    findings.number(
        format!("{path}.retry.budget.percent"),
        target.retry.budget.percent,
        0,
        100,
    );
    findings.number(
        format!("{path}.retry.budget.minPerSecond"),
        target.retry.budget.min_per_second,
        0,
        1_000,
    );
    breaker(findings, &format!("{path}.circuitBreaker"), &target.circuit_breaker);
    findings.number(
        format!("{path}.bulkhead.maxConcurrent"),
        target.bulkhead.max_concurrent,
        1,
        MAX_VALUE,
    );
    findings.duration(
        format!("{path}.bulkhead.maxWait"),
        target.bulkhead.max_wait,
        Duration::ZERO,
        DAY,
    );
    findings.routes(&format!("{path}.idempotentRoutes"), &target.idempotent_routes);
    if let Some(hedge) = &target.hedge {
        hedging(findings, &format!("{path}.hedge"), hedge);
    }
    let known = target.balancing_type() != BalancingType::None;
    findings.require(
        known || target.circuit_breaker.scope != BreakerScope::Host,
        format!("{path}.circuitBreaker.scope"),
        "Host",
        "use Target, or balancing type P2C: without balancing the addresses are not known",
    );
}

fn hedging(findings: &mut Findings, path: &str, hedge: &Hedge) {
    findings.duration(format!("{path}.delay"), hedge.delay, Duration::from_millis(1), DAY);
    findings.number(format!("{path}.maxHedgedAttempts"), hedge.max_hedged_attempts, 1, 3);
    match (hedge.hedge_type, hedge.percentile) {
        (HedgeType::Percentile, _) => findings.number(format!("{path}.percentile"), hedge.percentile(), 50, 99),
        (HedgeType::Fixed, given) => findings.require(
            given.is_none(),
            format!("{path}.percentile"),
            given.unwrap_or_default(),
            "leave it out, or set type to Percentile",
        ),
    }
}

fn breaker(findings: &mut Findings, path: &str, breaker: &CircuitBreaker) {
    if let Some(failures) = breaker.consecutive_failures {
        findings.number(format!("{path}.consecutiveFailures"), failures, 1, 10_000);
    }
    findings.number(format!("{path}.minimumRequests"), breaker.minimum_requests, 1, 10_000);
    match breaker.window.window_type {
        WindowType::Time => {
            let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
            findings.duration(
                format!("{path}.window.duration"),
                breaker.window.duration(),
                second,
                hour,
            );
        }
        WindowType::Count => {
            findings.number(format!("{path}.window.calls"), breaker.window.calls(), 1, 10_000);
            findings.require(
                breaker.minimum_requests <= breaker.window.calls(),
                format!("{path}.minimumRequests"),
                breaker.minimum_requests,
                format!(
                    "use at most window.calls ({}), or the rate is never taken",
                    breaker.window.calls()
                ),
            );
        }
    }
    findings.number(
        format!("{path}.failureRatePercent"),
        breaker.failure_rate_percent,
        1,
        100,
    );
    findings.number(
        format!("{path}.slowCallRatePercent"),
        breaker.slow_call_rate_percent,
        1,
        100,
    );
    findings.duration(
        format!("{path}.slowCallDuration"),
        breaker.slow_call_duration,
        Duration::from_millis(50),
        DAY,
    );
    findings.duration(
        format!("{path}.openDuration"),
        breaker.open_duration,
        Duration::from_millis(10),
        DAY,
    );
    findings.require(
        breaker.max_open_duration >= breaker.open_duration && breaker.max_open_duration <= DAY,
        format!("{path}.maxOpenDuration"),
        breaker.max_open_duration,
        format!("use a duration from openDuration ({}) to {DAY}", breaker.open_duration),
    );
    findings.number(format!("{path}.halfOpenPermits"), breaker.half_open_permits, 1, 1_000);
    findings.duration(
        format!("{path}.halfOpenTimeout"),
        breaker.half_open_timeout,
        Duration::from_millis(10),
        DAY,
    );
}

fn is_http_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    url.len() <= 2_048
        && url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>' | b'\\'))
        && !authority.is_empty()
        && !authority.contains('@')
        && !authority.starts_with(':')
}

pub(crate) fn faults(document: &Faults) -> Vec<Violation> {
    let mut findings = Findings::default();
    findings.require(
        document.faults.len() <= 1,
        "faults",
        document.faults.len(),
        "list at most one fault",
    );
    for (index, entry) in document.faults.iter().enumerate() {
        let path = format!("faults[{index}]");
        findings.require(
            !entry.run.is_empty() && entry.run.len() <= 253 && entry.run.bytes().all(|byte| byte.is_ascii_graphic()),
            format!("{path}.run"),
            format!("{:?}", entry.run),
            "use 1 to 253 visible ASCII characters",
        );
        findings.duration(format!("{path}.duration"), entry.duration, Duration::ZERO, DAY);
        findings.require(
            entry.not_after >= entry.intent_at,
            format!("{path}.notAfter"),
            entry.not_after,
            "use a time after intentAt",
        );
        fault(&mut findings, &format!("{path}.fault"), &entry.fault);
    }
    findings.0
}

fn fault(findings: &mut Findings, path: &str, fault: &Fault) {
    if let Some(latency) = &fault.latency {
        findings.duration(
            format!("{path}.latency.delay"),
            latency.delay,
            Duration::from_millis(1),
            DAY,
        );
        findings.require(
            latency.jitter <= latency.delay,
            format!("{path}.latency.jitter"),
            latency.jitter,
            format!("use at most latency.delay ({})", latency.delay),
        );
        findings.number(format!("{path}.latency.percent"), latency.percent, 1, 100);
        findings.routes(&format!("{path}.latency.routes"), &latency.routes);
    }
    if let Some(errors) = &fault.errors {
        findings.number(format!("{path}.errors.percent"), errors.percent, 1, 100);
        findings.number(format!("{path}.errors.status"), u32::from(errors.status), 400, 599);
        findings.routes(&format!("{path}.errors.routes"), &errors.routes);
    }
    if let Some(abort) = &fault.abort {
        findings.number(format!("{path}.abort.percent"), abort.percent, 1, 100);
        findings.routes(&format!("{path}.abort.routes"), &abort.routes);
    }
    if let Some(crash) = &fault.crash {
        findings.number(format!("{path}.crash.times"), crash.times, 1, 3);
    }
    if let Some(partition) = &fault.partition {
        let good = !partition.peer.is_empty() && partition.peer.len() <= 127;
        findings.require(
            good,
            format!("{path}.partition.peer"),
            format!("{:?}", partition.peer),
            "name the peer",
        );
    }
    if let Some(stress) = &fault.cpu_stress {
        findings.number(format!("{path}.cpuStress.loadPercent"), stress.load_percent, 1, 100);
        findings.number(format!("{path}.cpuStress.workers"), stress.workers, 1, 64);
    }
    if let Some(stress) = &fault.memory_stress {
        let good = stress.bytes().is_some_and(|bytes| bytes > 0 && bytes <= 64 << 30);
        findings.require(
            good,
            format!("{path}.memoryStress.size"),
            format!("{:?}", stress.size),
            "use a quantity up to 64Gi such as 256Mi",
        );
    }
}
