//! The faults, each with its strength.

use crate::Duration;
use crate::duration::is_duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a route looks like: a method of HTTP and a path without query, of visible ASCII. Whatever passes here is read by
/// the pods too.
const ROUTE: &str = r#"^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT) /[!"$-)+->@-~]*$"#;

/// Evicts or deletes pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodKillFault {
    /// How the pod goes: Evict asks its PodDisruptionBudget, Delete does not and is for what no budget can hinder, such as a node that is lost. Either needs the namespace in the chart's chaos.namespaces. Default: Evict.
    #[serde(default)]
    pub method: KillMethod,
    /// How long the pod may take to end. Unit: seconds. Default: the pod's own terminationGracePeriodSeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_period_seconds: Option<i64>,
}

/// How a pod is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KillMethod {
    /// By an eviction, which respects PodDisruptionBudgets.
    #[default]
    Evict,
    /// By a deletion, which no PodDisruptionBudget hinders.
    Delete,
    /// A value of a newer version; the experiment cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Delays requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new(concat!(is_duration!("self.delay"), " && duration(self.delay) >= duration('1ms') && duration(self.delay) <= duration('5m')"))
        .message("delay must be between 1ms and 5m, for example 1s500ms").field_path(".delay"),
    validation = Rule::new(concat!("!has(self.jitter) || ", is_duration!("self.jitter"), " && (!", is_duration!("self.delay"), " || duration(self.jitter) <= duration(self.delay))"))
        .message("jitter must not be longer than delay, for example 200ms of 1s: a delay cannot be negative").field_path(".jitter")
)]
pub struct LatencyFault {
    /// How long each request is held before it is handled. Unit: duration. Required.
    pub delay: Duration,
    /// Bound of a uniform random part that is added or taken away. Unit: duration. Default: 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// Share of requests that are held. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// Routes that are held, each `METHOD /path`; a segment `{x}` stands for any one segment; there is no query, no `*` and no method for all. Default: all but health, ready, the report and the paths of the service's probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256), regex(pattern = ROUTE)))]
    pub routes: Vec<String>,
}

/// Answers with an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorsFault {
    /// Share of requests that are answered with the error. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// Status of the answer. Unit: HTTP status. Default: 503.
    #[serde(default = "unavailable")]
    #[schemars(range(min = 400, max = 599))]
    pub status: u32,
    /// Routes that fail, each `METHOD /path`; a segment `{x}` stands for any one segment; there is no query, no `*` and no method for all. Default: all but health, ready, the report and the paths of the service's probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256), regex(pattern = ROUTE)))]
    pub routes: Vec<String>,
}

/// Closes the connection of a request without an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AbortFault {
    /// Share of requests that are closed. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// Routes that are closed, each `METHOD /path`; a segment `{x}` stands for any one segment; there is no query, no `*` and no method for all. Default: all but health, ready, the report and the paths of the service's probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256), regex(pattern = ROUTE)))]
    pub routes: Vec<String>,
}

/// Resets every connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefuseFault {}

/// Cuts the pods off from one peer. It is done by the pods themselves, which refuse to call the peer and reset what it asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionFault {
    /// Which way is cut: Ingress is what the peer asks, Egress what the peer is asked. Default: Both.
    #[serde(default)]
    pub direction: PartitionDirection,
    /// The peer, as `name` for a service of the same namespace, a target of `resilience.targets` or a caller of any namespace, or as `namespace/name`. Required.
    #[schemars(
        length(max = 117),
        regex(pattern = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")
    )]
    pub peer: String,
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PartitionDirection {
    /// Requests of the peer are reset.
    Ingress,
    /// Calls to the peer fail before they leave, and those under way are cut.
    Egress,
    /// Both.
    #[default]
    Both,
    /// A value of a newer version; the experiment cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Ends the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrashFault {
    /// How often the process of each pod is ended; each restart after the first is delayed by Kubernetes, 10s and then 20s. Unit: crashes. Default: 1.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 3))]
    pub times: u32,
}

/// Uses up processor time in the process of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuStressFault {
    /// Share of one processor that each worker uses. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub load_percent: u32,
    /// Threads that work. Unit: threads. Default: 1.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: u32,
}

/// Uses up memory in the process of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStressFault {
    /// How much is held, at most 64Gi. Unit: bytes, as a whole number with k, M, G, Ki, Mi or Gi. Required.
    #[schemars(
        length(max = 12),
        regex(
            pattern = r"^([1-9][0-9]{0,9}|[1-9][0-9]{0,6}(k|Ki)|[1-9][0-9]{0,3}(M|Mi)|([1-9]|[1-5][0-9]|6[0-4])(G|Gi))$"
        )
    )]
    pub size: String,
}

fn once() -> u32 {
    1
}

fn hundred() -> u32 {
    100
}

fn unavailable() -> u32 {
    503
}
