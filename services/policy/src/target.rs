//! The outbound half of the policy: one called service each. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// How one called service is treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The name by which code asks for its client.
    pub name: String,
    /// Where it is, `http://host[:port][/path]`; left out, the service's own setting counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How long a call may take.
    #[serde(default)]
    pub timeout: Timeouts,
    /// When an attempt is repeated.
    #[serde(default)]
    pub retry: Retry,
    /// When calls are no longer attempted.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// How many calls may run at a time.
    #[serde(default)]
    pub bulkhead: Bulkhead,
    /// Unsafe routes that may be repeated when the request has an `Idempotency-Key`, as `METHOD /path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotent_routes: Vec<String>,
    /// A second attempt for slow reads. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// How one of the target's addresses is chosen for each attempt. Default: `P2C`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancing: Option<Balancing>,
    /// A breaker held open or closed until a time.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub breaker_override: Option<BreakerOverride>,
}

impl Target {
    /// A target with every default.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: None,
            timeout: Timeouts::default(),
            retry: Retry::default(),
            circuit_breaker: CircuitBreaker::default(),
            bulkhead: Bulkhead::default(),
            idempotent_routes: Vec::new(),
            hedge: None,
            balancing: None,
            breaker_override: None,
        }
    }

    /// How an address is chosen, the default filled in.
    #[must_use]
    pub fn balancing_type(&self) -> BalancingType {
        self.balancing.unwrap_or_default().balancing_type
    }
}

/// The longest times of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// All attempts and waits together. Default 30s.
    pub request: Duration,
    /// One attempt, to the response head. Default 10s.
    pub attempt: Duration,
    /// Opening a connection. Default 2s.
    pub connect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            attempt: Duration::from_secs(10),
            connect: Duration::from_secs(2),
        }
    }
}

/// When an attempt is repeated: on a connect error, a reset before the response head, 502, 503 and 504.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Attempts in all; 1 turns retries off. Default 3.
    pub max_attempts: u32,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// The share of repeated attempts.
    pub budget: RetryBudget,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::default(),
            budget: RetryBudget::default(),
        }
    }
}

/// Waits with full jitter: U\[0, min(max, base * 2^(n-1))\] before repetition n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Backoff {
    /// Default 100ms.
    pub base: Duration,
    /// Default 2s.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            max: Duration::from_secs(2),
        }
    }
}

/// The most repetitions: `percent` of first attempts, and never fewer than `minPerSecond` over all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Default 20.
    pub percent: u32,
    /// Default 1, shared over the replicas.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            min_per_second: 1,
        }
    }
}

/// When calls are no longer attempted. Either rule opens it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreaker {
    /// Failures in a row that open it; left out, this rule is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<u32>,
    /// Over what the rates are taken. Default: 30 s of time.
    pub window: Window,
    /// Rates count only from this many calls in the window on. Default 20.
    pub minimum_requests: u32,
    /// The share of failed calls that opens it. Default 50.
    pub failure_rate_percent: u32,
    /// A call that takes longer is slow. Default 5s.
    pub slow_call_duration: Duration,
    /// The share of slow calls that opens it. Default 100.
    pub slow_call_rate_percent: u32,
    /// The first open time; doubles with each opening in a row, and grows by up to half at random. Default 10s.
    pub open_duration: Duration,
    /// The bound of the doubling. Default 60s.
    pub max_open_duration: Duration,
    /// Probes at a time, and successes that close it. Default 5.
    pub half_open_permits: u32,
    /// A probe that takes longer is a failure. Default 30s.
    pub half_open_timeout: Duration,
    /// One breaker for the target or one for each of its addresses. Default `Target`.
    pub scope: BreakerScope,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            window: Window::default(),
            minimum_requests: 20,
            failure_rate_percent: 50,
            slow_call_duration: Duration::from_secs(5),
            slow_call_rate_percent: 100,
            open_duration: Duration::from_secs(10),
            max_open_duration: Duration::from_secs(60),
            half_open_permits: 5,
            half_open_timeout: Duration::from_secs(30),
            scope: BreakerScope::default(),
        }
    }
}

/// Over what rates are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Window {
    /// Default `Time`.
    #[serde(rename = "type")]
    pub window_type: WindowType,
    /// `Time` only, at least 1s. Default 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// `Count` only: the last calls. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
}

impl Default for Window {
    fn default() -> Self {
        Self::time(Duration::from_secs(30))
    }
}

impl Window {
    /// The calls of the last `duration`.
    #[must_use]
    pub const fn time(duration: Duration) -> Self {
        Self {
            window_type: WindowType::Time,
            duration: Some(duration),
            calls: None,
        }
    }

    /// The last `calls` calls.
    #[must_use]
    pub const fn count(calls: u32) -> Self {
        Self {
            window_type: WindowType::Count,
            duration: None,
            calls: Some(calls),
        }
    }

    /// The length of a `Time` window.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(30))
    }

    /// The size of a `Count` window.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.unwrap_or(100)
    }
}

/// The kind of a [`Window`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WindowType {
    /// The calls of the last seconds.
    #[default]
    Time,
    /// The last calls, however long ago.
    Count,
}

/// What one breaker stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BreakerScope {
    /// The target as a whole.
    #[default]
    Target,
    /// Each of its addresses: a bad one is left out while the others are called. Needs `balancing`.
    Host,
}

/// How many calls may run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Bulkhead {
    /// Default 100.
    pub max_concurrent: u32,
    /// How long a call may wait for its place. Default 0s.
    pub max_wait: Duration,
}

impl Default for Bulkhead {
    fn default() -> Self {
        Self {
            max_concurrent: 100,
            max_wait: Duration::ZERO,
        }
    }
}

/// Further attempts of a GET or HEAD whose answer is slow, each taken from the retry budget; the first good answer counts
/// and the others are cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Hedge {
    /// How the delay is found. Default `Fixed`.
    #[serde(default, rename = "type")]
    pub hedge_type: HedgeType,
    /// How long the attempts under way are waited for before another is sent; for `Percentile`, until 100 answers were
    /// measured.
    pub delay: Duration,
    /// `Percentile` only: the share of answers that is waited for. Unit: percent, 50 to 99. Default 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<u32>,
    /// Attempts of one call beside those that `retry` allows. Default 1.
    #[serde(default = "one")]
    pub max_hedged_attempts: u32,
}

const fn one() -> u32 {
    1
}

impl Hedge {
    /// One further attempt after `delay`.
    #[must_use]
    pub const fn after(delay: Duration) -> Self {
        Self {
            hedge_type: HedgeType::Fixed,
            delay,
            percentile: None,
            max_hedged_attempts: 1,
        }
    }

    /// One further attempt once `percentile` percent of answers would have come; after `delay` while that is not known.
    #[must_use]
    pub const fn at_percentile(percentile: u32, delay: Duration) -> Self {
        Self {
            hedge_type: HedgeType::Percentile,
            delay,
            percentile: Some(percentile),
            max_hedged_attempts: 1,
        }
    }

    /// The percentile of a `Percentile` hedge.
    #[must_use]
    pub fn percentile(&self) -> u32 {
        self.percentile.unwrap_or(95)
    }
}

/// How the delay of a [`Hedge`] is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HedgeType {
    /// It is `delay`.
    #[default]
    Fixed,
    /// It is a percentile of the times that the target's latest answers took.
    Percentile,
}

/// How an address is chosen for each attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Balancing {
    /// Default `P2C`.
    #[serde(rename = "type")]
    pub balancing_type: BalancingType,
}

/// The kind of [`Balancing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BalancingType {
    /// The client does not choose: one connection pool for the host name.
    None,
    /// Of two addresses the one with fewer calls under way; one that fails three times in a row is left alone for 10 s.
    #[default]
    P2C,
}

/// A breaker held in one state. The machine below keeps counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BreakerOverride {
    /// The state to show.
    pub circuit_breaker: OverrideState,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
}

/// The state in which a breaker is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OverrideState {
    /// Every call is refused.
    ForcedOpen,
    /// No call is refused.
    ForcedClosed,
}
