//! What the user writes about breakers, deadlines and retries. The operator renders it into `policy.v1.json`.

use super::inbound::Inbound;
use crate::Duration;
use crate::duration::is_duration;
use chrono::{DateTime, Utc};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the service's library, or the guard beside it, obeys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resilience {
    /// Whether the pods speak the report protocol, by the image or by `guard`. None: nothing is asked of the pods, and only podKill can be injected. Default: Report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ReportProtocol>,
    /// Port of the report. Unit: TCP port. Default: 9090.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub report_port: Option<i32>,
    /// Enforce acts, Shadow only counts what it would have done, Disabled does neither. Default: Enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What holds for requests that the service receives. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,
    /// What holds for every target that does not say otherwise. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<TargetDefaults>,
    /// The services that this one calls. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub targets: Vec<Target>,
}

/// Whether pods report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ReportProtocol {
    /// Pods answer `GET /resilience` on the report port.
    #[default]
    Report,
    /// Pods do not report.
    None,
    /// A value of a newer version; treated as None.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How the policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum Mode {
    /// The policy acts.
    #[default]
    Enforce,
    /// The policy counts what it would have done and lets everything pass.
    Shadow,
    /// The policy neither acts nor counts.
    Disabled,
    /// A value of a newer version; treated as Enforce.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What holds for every target that does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetDefaults {
    /// Time limits of calls. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeouts>,
    /// Retries of failed attempts. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The circuit breaker. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The bound on calls in flight. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Bulkhead>,
    /// How one of a target's addresses is chosen for each attempt. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancing: Option<Balancing>,
}

/// A service that this one calls.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.url) || !self.url.startsWith('tcp://') || !has(self.retry) && !has(self.hedge) && !has(self.idempotentRoutes) && !has(self.balancing)")
        .message("retry, hedge, idempotentRoutes and balancing belong to http:// and https:// targets: a tcp:// target has connections and no requests; remove them"),
    validation = Rule::new("!has(self.url) || !self.url.startsWith('tcp://') || !has(self.circuitBreaker) || !has(self.circuitBreaker.scope) || self.circuitBreaker.scope != 'Host'")
        .message("circuitBreaker.scope Host belongs to http:// and https:// targets, whose addresses are known; remove it"),
    validation = Rule::new("!has(self.tls) || has(self.url) && self.url.startsWith('https://')")
        .message("tls belongs to https:// targets: write https:// in url, or remove tls")
)]
pub struct Target {
    /// Name by which the code asks for the client, and which status shows. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where the target is, for example `http://inventory.shop.svc`; `tcp://host:port` where `guard` relays what is no HTTP. Default: the address that the service itself was given; required with a guard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 1024),
        regex(pattern = r"^(https?://[^/?#@ ]+(/[^?# ]*)?|tcp://[^/?#@ ]+:[0-9]{1,5})$")
    )]
    pub url: Option<String>,
    /// Whom the guard believes that it speaks to an `https://` target. Default: the authorities of the pod, and the host in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
    /// Time limits of calls. Default: `resilience.defaults.timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeouts>,
    /// Retries of failed attempts. Default: `resilience.defaults.retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The circuit breaker. Default: `resilience.defaults.circuitBreaker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The bound on calls in flight. Default: `resilience.defaults.bulkhead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Bulkhead>,
    /// Routes that may be retried although their method is POST or PATCH, when the call carries an Idempotency-Key; `METHOD /path`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 256), regex(pattern = r"^(POST|PATCH) /[^ ]*$"))
    )]
    pub idempotent_routes: Vec<String>,
    /// Further attempts of a GET or HEAD whose answer is slow; the first good answer counts. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// How one of the target's addresses is chosen for each attempt. Default: `resilience.defaults.balancing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancing: Option<Balancing>,
    /// Puts the breaker into a state by hand, for a time. Default: none.
    #[serde(rename = "override", default, skip_serializing_if = "Option::is_none")]
    pub manual_override: Option<TargetOverride>,
}

/// Whom the guard believes that it speaks to a target.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.caBundleRef) || has(self.serverName)")
    .message("tls needs caBundleRef or serverName: write one of them, or remove tls"))]
pub struct TargetTls {
    /// The ConfigMap of the same namespace with the authorities that sign the target's certificate. A changed one is read without a restart. Default: the authorities of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// The name that the target's certificate has. Default: the host in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$")
    )]
    pub server_name: Option<String>,
}

/// Certificates of authorities in a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaBundleRef {
    /// Name of the ConfigMap. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Its key with the certificates, in PEM, one or several. Default: ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// Time limits of calls to a target.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(concat!(
        "!has(self.attempt) || !has(self.request) || !", is_duration!("self.attempt"), " || !", is_duration!("self.request"),
        " || duration(self.attempt) <= duration(self.request)"
    ))
        .message("attempt must not be longer than request: an attempt is a part of the request"),
    validation = Rule::new(concat!(
        "!has(self.connect) || !has(self.attempt) || !", is_duration!("self.connect"), " || !", is_duration!("self.attempt"),
        " || duration(self.connect) <= duration(self.attempt)"
    ))
        .message("connect must not be longer than attempt: connecting is a part of the attempt")
)]
pub struct Timeouts {
    /// Time for a call with all its retries. Unit: duration. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// Time for one attempt, up to the response's head. Unit: duration. Default: 10s, at most `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Duration>,
    /// Time to connect. Unit: duration. Default: 2s, at most `attempt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
}

/// Retries after a connect error, a reset before the head, 502, 503 and 504.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts in all, the first included; 1 turns retries off. Unit: attempts. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: Option<u32>,
    /// Pause before a retry, drawn between zero and a bound that doubles. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How many retries are allowed beside first attempts. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
}

/// Bounds of the pause before a retry.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(concat!(
        "!has(self.base) || !has(self.max) || !", is_duration!("self.base"), " || !", is_duration!("self.max"),
        " || duration(self.base) <= duration(self.max)"
    ))
    .message("base must not be longer than max"))]
pub struct Backoff {
    /// Bound of the first pause. Unit: duration. Default: 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Duration>,
    /// Bound of every pause. Unit: duration. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// Bound on retries, per target and replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries allowed beside first attempts. Unit: percent of first attempts. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// Retries allowed without any budget saved, shared over the replicas. Unit: retries per second. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_per_second: Option<u32>,
}

/// The circuit breaker of a target; either rule opens it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(concat!("!has(self.openDuration) || ", is_duration!("self.openDuration"), " && duration(self.openDuration) >= duration('100ms')"))
        .message("openDuration must be at least 100ms, or the target gets no rest"),
    validation = Rule::new(concat!(
        "!has(self.openDuration) || !has(self.maxOpenDuration) || !", is_duration!("self.openDuration"), " || !", is_duration!("self.maxOpenDuration"),
        " || duration(self.openDuration) <= duration(self.maxOpenDuration)"
    ))
        .message("openDuration must not be longer than maxOpenDuration"),
    validation = Rule::new(concat!("!has(self.halfOpenTimeout) || ", is_duration!("self.halfOpenTimeout"), " && duration(self.halfOpenTimeout) >= duration('100ms')"))
        .message("halfOpenTimeout must be at least 100ms, or no probe can finish"),
    validation = Rule::new("!has(self.window) || !has(self.window.calls) || !has(self.minimumRequests) || self.minimumRequests <= self.window.calls")
        .message("minimumRequests must not exceed window.calls, or the rate is never judged")
)]
pub struct CircuitBreaker {
    /// Failures in a row that open the circuit. Unit: calls. Default: off, only rates open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub consecutive_failures: Option<u32>,
    /// What the failure and slow-call rates are taken over. Default: the last 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Calls in the window before a rate is judged. Unit: calls. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100000))]
    pub minimum_requests: Option<u32>,
    /// Share of failed calls that opens the circuit. Unit: percent. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_rate_percent: Option<u32>,
    /// From when on a call counts as slow. Unit: duration. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_call_duration: Option<Duration>,
    /// Share of slow calls that opens the circuit. Unit: percent. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub slow_call_rate_percent: Option<u32>,
    /// How long the circuit stays open the first time; it doubles with each opening in a row and is lengthened by up to half at random. Unit: duration. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_duration: Option<Duration>,
    /// Bound on the doubling of openDuration. Unit: duration. Default: 60s, at least openDuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_duration: Option<Duration>,
    /// Calls let through to try a half-open circuit; as many successes close it. Unit: calls. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub half_open_permits: Option<u32>,
    /// How long a trial call may hold its permit before it counts as failed. Unit: duration. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_open_timeout: Option<Duration>,
    /// Target: one circuit for the target. Host: one for each of its addresses, so that a bad replica is left out while the others are called; status counts a pod by its worst. Default: Target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<BreakerScope>,
}

/// What one circuit stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum BreakerScope {
    /// The target as a whole.
    Target,
    /// Each of its addresses; needs balancing.
    Host,
    /// A value of a newer version; treated as Target.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What rates are taken over.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.type == 'Count' ? has(self.calls) && !has(self.duration) : has(self.duration) && !has(self.calls)")
    .message("a Time window takes duration and a Count window takes calls, and not the other"))]
pub struct Window {
    /// Time or Count. Required.
    #[serde(rename = "type")]
    pub kind: WindowType,
    /// Length of a Time window. Unit: duration, at least 1s. Default: none, required for Time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1s')")).message("a Time window must be at least 1s long"))]
    pub duration: Option<Duration>,
    /// Length of a Count window. Unit: calls. Default: none, required for Count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10000))]
    pub calls: Option<u32>,
}

/// The kinds of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WindowType {
    /// The calls of the last so many seconds.
    Time,
    /// The last so many calls.
    Count,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Bound on calls in flight to a target, per replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bulkhead {
    /// Calls in flight. Unit: calls. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_concurrent: Option<u32>,
    /// How long a call may wait for its turn. Unit: duration. Default: 0s, refused at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Duration>,
}

/// Further attempts of slow reads, each taken from the retry budget. Those still under way when a good answer comes are cancelled and count neither for nor against the target.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.percentile) || (has(self.type) && self.type == 'Percentile')")
    .message("percentile belongs to type Percentile"))]
pub struct Hedge {
    /// Fixed: after delay. Percentile: once so many percent of the latest answers would have come. Default: Fixed.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<HedgeType>,
    /// How long the attempts under way are waited for; for Percentile, until 100 answers were measured. Unit: duration, at least 1ms. Required.
    pub delay: Duration,
    /// Share of answers that a Percentile hedge waits for. Unit: percent. Default: 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 99))]
    pub percentile: Option<u32>,
    /// Attempts of one call beside those that `retry` allows. Unit: attempts. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub max_hedged_attempts: Option<u32>,
}

/// How the delay of a hedge is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum HedgeType {
    /// It is `delay`.
    Fixed,
    /// It is a percentile of the times that the target's latest answers took.
    Percentile,
    /// A value of a newer version; treated as Fixed.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How one of a target's addresses is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Balancing {
    /// P2C: of two addresses (of the pods, where the URL names a Service whose port is called http or https) the one with fewer calls under way, and one that fails three times in a row is left alone for 10s. None: the client connects to the URL's host. Default: P2C.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<BalancingType>,
}

/// The kinds of balancing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum BalancingType {
    /// The client connects to the URL's host.
    None,
    /// Power of two choices by calls under way.
    P2C,
    /// A value of a newer version; treated as P2C.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A breaker's state set by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetOverride {
    /// State that calls see while the breaker goes on counting underneath. Required.
    pub circuit_breaker: OverrideState,
    /// When it ends by itself. Unit: RFC 3339 time. Required.
    #[schemars(schema_with = "time")]
    pub until: DateTime<Utc>,
}

/// The states that can be set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OverrideState {
    /// Every call is refused.
    ForcedOpen,
    /// Every call passes.
    ForcedClosed,
    /// A value of a newer version; ignored.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// The format alone lets offsets pass that no clock has, and the object could not be read any more.
fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "format": "date-time",
        "maxLength": 64,
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    })
}
