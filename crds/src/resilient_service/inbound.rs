//! What the user writes about requests that the service receives: deadline, limits, idempotency keys.

use super::concurrency::Concurrency;
use crate::Duration;
use crate::duration::is_duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on requests that the service receives.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(concat!(
        "!has(self.idempotency) || !has(self.idempotency.lockTimeout) || !", is_duration!("self.idempotency.lockTimeout"),
        " || duration(self.idempotency.lockTimeout) > duration(has(self.timeout) && ", is_duration!("self.timeout"), " ? self.timeout : '15s')"
    ))
    .message("idempotency.lockTimeout must be longer than timeout (15s unless set), or a request could be taken over while it runs"))]
pub struct Inbound {
    /// Time after which a caller gets 504, counted from the request's head. A shorter Valerix-Timeout-Ms wins. Unit: duration. Default: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Limits of requests per time; a request must pass each that counts its route, or its caller gets 429 with Retry-After. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Limit of requests at a time, per replica. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Idempotency keys of handlers that the service protects with them. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
}

/// Limits of requests per time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateLimit {
    /// The limits. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<RateLimitRule>,
}

/// One limit: so many requests per window.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.burst) || (has(self.algorithm) ? self.algorithm == 'GCRA' : self.requests > 100)")
        .message("burst belongs to algorithm GCRA (the default above 100 requests)"),
    validation = Rule::new("!has(self.key) || !has(self.scope) || self.scope != 'Service'")
        .message("a limit with a key cannot have scope Service, for a share of each key's limit would refuse most callers; use Distributed")
)]
pub struct RateLimitRule {
    /// Name in the RateLimit headers, metrics and reports. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Service: all replicas together, each taking its share of the ready ones (fewer than 20 requests for each replica are warned of: shares so small are not fair). Replica: each alone. Distributed: one limit shared through the Redis that the pods know (REDIS_LIMITS_URL or REDIS_URL); without it each replica takes its share. Default: Replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<LimitScope>,
    /// Routes that it counts, as `METHOD /path`; a segment `{x}` stands for any one. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(max = 273), regex(pattern = r"^[A-Z]{1,16} /[^ ?#]*$"))
    )]
    pub routes: Vec<String>,
    /// Requests per window. Unit: requests. Required.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// Length of the window. Unit: duration, from 100ms to 24h. Required.
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('100ms') && duration(self) <= duration('24h')")).message("window must be between 100ms and 24h"))]
    pub window: Duration,
    /// GCRA only: requests at once. Unit: requests. Default: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// Window: never more than `requests` in any window. GCRA: a steady rate with a burst. Default: Window up to 100 requests, else GCRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<LimitAlgorithm>,
    /// What is counted apart. Default: all requests together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<LimitKey>,
}

/// Whose limit a rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum LimitScope {
    /// All replicas together.
    Service,
    /// Each replica alone.
    #[default]
    Replica,
    /// Shared through Redis.
    Distributed,
    /// A value of a newer version; treated as Replica.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum LimitAlgorithm {
    /// Never more than `requests` in any window.
    Window,
    /// The generic cell rate algorithm: never more than the burst and the rate times the time.
    #[serde(rename = "GCRA")]
    Gcra,
    /// A value of a newer version; treated as not set.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a limit counts apart.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.type == 'ClientIP') != has(self.name)")
    .message("name the header or claim for Header and Claim, and leave name out for ClientIP"))]
pub struct LimitKey {
    /// ClientIP: the client's address. Header: a request header. Claim: a claim of the caller's verified token. Requests without the header are counted together, those without the claim by address. Required.
    #[serde(rename = "type")]
    pub kind: LimitKeyType,
    /// The header or claim. Default: none, required for Header and Claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub name: Option<String>,
}

/// Where a limit's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitKeyType {
    /// The client's address.
    #[serde(rename = "ClientIP")]
    ClientIp,
    /// A request header.
    Header,
    /// A claim of the caller's verified token.
    Claim,
    /// A value of a newer version; treated as ClientIP.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How requests that carry an Idempotency-Key are kept to one effect.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Idempotency {
    /// Routes that answer 400 to a request without Idempotency-Key, as `METHOD /path`; a segment `{x}` stands for any one. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(max = 273), regex(pattern = r"^[A-Z]{1,16} /[^ ?#]*$"))
    )]
    pub required_routes: Vec<String>,
    /// How long an answer is kept for a request that comes again. Unit: duration, from 1m to 2160h. Default: 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1m') && duration(self) <= duration('2160h')")).message("ttl must be between 1m and 2160h"))]
    pub ttl: Option<Duration>,
    /// After this a request that never ended, because its pod died, may be taken over. Unit: duration. Default: 30s, at least `timeout` plus 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<Duration>,
}
