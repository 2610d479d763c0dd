//! The inbound half of the policy: deadline, rate limits, concurrency, idempotency. Pure.

use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::priority::Priorities;

/// What protects a service from its callers.
///
/// ```
/// use valerix_policy::{
///     Concurrency, ConcurrencyType, Duration, Idempotency, Inbound, LimitAlgorithm, LimitKey, LimitKeyType, LimitScope,
///     Policy, RateLimit, RateLimitRule,
/// };
///
/// let per_customer = RateLimitRule {
///     name: "orders".into(),
///     scope: LimitScope::Distributed,
///     routes: vec!["POST /api/orders".into()],
///     requests: 5,
///     window: Duration::from_secs(10),
///     burst: None,
///     algorithm: None,
///     key: Some(LimitKey { key_type: LimitKeyType::Claim, name: Some("sub".into()) }),
/// };
/// assert_eq!(per_customer.algorithm(), LimitAlgorithm::Window, "few requests are counted exactly");
/// let inbound = Inbound {
///     timeout: Duration::from_secs(10),
///     rate_limit: RateLimit { rules: vec![per_customer] },
///     concurrency: Some(Concurrency { concurrency_type: ConcurrencyType::Adaptive, ..Concurrency::default() }),
///     idempotency: Idempotency { required_routes: vec!["POST /api/orders".into()], ..Idempotency::default() },
/// };
/// assert_eq!(Policy { inbound, ..Policy::default() }.violations(), []);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Inbound {
    /// The longest that a request may take; a caller's shorter deadline wins. Default 15s.
    pub timeout: Duration,
    /// Limits of requests per time. Default none.
    #[serde(skip_serializing_if = "RateLimit::is_empty")]
    pub rate_limit: RateLimit,
    /// Limit of requests at a time. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Idempotency keys.
    pub idempotency: Idempotency,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            rate_limit: RateLimit::default(),
            concurrency: None,
            idempotency: Idempotency::default(),
        }
    }
}

/// A list of rate limits, each of which a request must pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimit {
    /// At most 32 rules.
    pub rules: Vec<RateLimitRule>,
}

impl RateLimit {
    fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// One limit: `requests` per `window`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRule {
    /// The name in headers, metrics and reports.
    pub name: String,
    /// Whose limit it is. Default `Replica`.
    #[serde(default)]
    pub scope: LimitScope,
    /// The routes it counts, as `METHOD /path`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Requests per window, at least 1.
    pub requests: u32,
    /// The window.
    pub window: Duration,
    /// Requests at once for `GCRA`. Default: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Default: `Window` up to 100 requests, else `GCRA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<LimitAlgorithm>,
    /// What is counted apart. Default: all requests together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<LimitKey>,
}

impl RateLimitRule {
    /// The algorithm in force.
    #[must_use]
    pub fn algorithm(&self) -> LimitAlgorithm {
        self.algorithm.unwrap_or(if self.requests <= 100 {
            LimitAlgorithm::Window
        } else {
            LimitAlgorithm::GCRA
        })
    }

    /// The burst in force.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests)
    }
}

/// Whose limit a rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitScope {
    /// The limit of all replicas together, each taking its share by the number of ready ones.
    Service,
    /// The limit of each replica alone.
    #[default]
    Replica,
    /// One limit shared through Redis; without Redis each replica takes its share.
    Distributed,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitAlgorithm {
    /// Never more than `requests` in any window.
    Window,
    /// Never more than burst + rate * time.
    #[serde(rename = "GCRA")]
    GCRA,
}

/// What a limit counts apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LimitKey {
    /// Where the key comes from.
    #[serde(rename = "type")]
    pub key_type: LimitKeyType,
    /// The header or claim; left out for `ClientIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Where a limit's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitKeyType {
    /// The client's address, across trusted proxies.
    #[serde(rename = "ClientIP")]
    ClientIp,
    /// A request header.
    Header,
    /// A claim of the caller's verified token.
    Claim,
}

/// A limit of requests at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Concurrency {
    /// Default `Fixed`.
    #[serde(rename = "type")]
    pub concurrency_type: ConcurrencyType,
    /// The most requests at a time. Default 200.
    pub max: u32,
    /// `Adaptive` only: never fewer than this. Default 20.
    pub min: u32,
    /// `Adaptive` only: where it starts. Default 20.
    pub initial: u32,
    /// Requests that may wait. Default 0.
    pub max_queue: u32,
    /// The longest wait; while the queue stays full, CoDel shortens it. Default 0s.
    pub queue_timeout: Duration,
    /// Which requests are refused first as the limit fills. Default: all are alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priorities: Option<Priorities>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            concurrency_type: ConcurrencyType::default(),
            max: 200,
            min: 20,
            initial: 20,
            max_queue: 0,
            queue_timeout: Duration::ZERO,
            priorities: None,
        }
    }
}

/// Who sets a concurrency limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConcurrencyType {
    /// Always `max`.
    #[default]
    Fixed,
    /// Found between `min` and `max` by measuring (AIMD).
    Adaptive,
}

/// Idempotency keys of handlers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Idempotency {
    /// Routes that answer 400 to a request without `Idempotency-Key`, as `METHOD /path`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_routes: Vec<String>,
    /// How long an answer is kept, from the moment it was given; longer than `lockTimeout`. Default 24h.
    pub ttl: Duration,
    /// After this a request that never ended may be taken over; longer than `inbound.timeout`. Default 30s.
    pub lock_timeout: Duration,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self {
            required_routes: Vec::new(),
            ttl: Duration::from_secs(24 * 3_600),
            lock_timeout: Duration::from_secs(30),
        }
    }
}
