//! What the user writes about the guard: a proxy beside the container that obeys the policy for an image that cannot.

use super::resources::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A proxy in every pod that obeys the policy for the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Guard {
    /// Sidecar: a guard stands beside the container, and requests pass through it in both directions. "Off", in quotes as YAML would take it for false: there is none, and the image obeys the policy itself or nobody does. Either change is a rollout. Default: Off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// Image of the guard. Default: the operator's setting, the chart's `guard.image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[!-~]+$"))]
    pub image: Option<String>,
    /// CPU and memory of the guard. Default: requests of 10m CPU and 16Mi memory, a limit of 64Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// What comes to the container through the guard. Default: see the field inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<GuardInbound>,
    /// What the container calls through the guard. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<GuardOutbound>,
}

/// Whether there is a guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum GuardMode {
    /// None.
    #[default]
    Off,
    /// One in every pod.
    Sidecar,
    /// A value of a newer version; treated as Off.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What comes to the container through the guard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuardInbound {
    /// Ports that are reached through the guard; the others are reached as without one. The kubelet's probes ask the container itself. Default: every port of `ports`, as HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<GuardPort>,
}

/// A port that is reached through the guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuardPort {
    /// Name of the port in `ports`. Required.
    #[schemars(length(min = 1, max = 15))]
    pub name: String,
    /// HTTP: HTTP/1.1, and HTTP/2 of clients that begin with it. H2C: HTTP/2 without TLS on both sides, as gRPC servers speak it. TCP: bytes; limits and faults act on connections. Default: HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<GuardProtocol>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum GuardProtocol {
    /// HTTP of either version.
    #[default]
    HTTP,
    /// HTTP/2 without TLS, known in advance.
    H2C,
    /// Bytes that nobody looks into.
    TCP,
    /// A value of a newer version; treated as HTTP.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What the container calls through the guard.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.unknownHosts) || has(self.httpProxy) && self.httpProxy")
    .message("unknownHosts belongs to httpProxy: true; a listener of a target knows one host alone"))]
pub struct GuardOutbound {
    /// Auto: the guard listens for each target on a port of its own, and the container finds the address in `VALERIX_TARGET_<NAME>_URL` (`VALERIX_TARGET_<NAME>_ADDR`, host and port, for a `tcp://` target). None: it does not. Default: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<GuardTargets>,
    /// Whether the container's environment names the guard as `http_proxy`, for programs that heed it: requests to the host of a target then pass under its policy. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<bool>,
    /// What becomes of proxied requests to hosts of no target: Forward sends them on as they are, Refuse answers 502. Default: Forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_hosts: Option<UnknownHosts>,
}

/// Whether targets have listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum GuardTargets {
    /// One for each.
    #[default]
    Auto,
    /// None.
    None,
    /// A value of a newer version; treated as Auto.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What becomes of requests to hosts of no target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum UnknownHosts {
    /// They are sent on.
    #[default]
    Forward,
    /// They are answered with 502.
    Refuse,
    /// A value of a newer version; treated as Forward.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
