//! The bounds of how another service is called.

use std::net::Ipv6Addr;

use super::{DAY, Findings, MAX_VALUE};
use crate::duration::Duration;
use crate::target::{BalancingType, BreakerScope, CircuitBreaker, Hedge, HedgeType, Target, WindowType};

pub(super) fn target(findings: &mut Findings, path: &str, target: &Target) {
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
        && is_authority(authority)
}

/// Whether it is a host that can be called, with a port or without.
fn is_authority(text: &str) -> bool {
    let (host, after) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => (address.parse::<Ipv6Addr>().is_ok(), after),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, after) = text.split_at(end);
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            (!host.is_empty() && host.bytes().all(known), after)
        }
    };
    let port = after.strip_prefix(':').map(|port| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        digits && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    host && port.unwrap_or(after.is_empty())
}
