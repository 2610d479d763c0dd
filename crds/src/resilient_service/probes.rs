//! What the user writes about the kubelet's probes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Probes of the container; each asks the first port unless it names another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probes {
    /// Holds back the other probes until the process has started. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<ProbeSpec>,
    /// Decides whether the pod gets traffic. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ProbeSpec>,
    /// Decides whether the container is restarted. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<ProbeSpec>,
}

/// One probe.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(!has(self.type) || self.type == 'HTTP') == has(self.path)")
        .message("path belongs to type HTTP, which needs it; TCP, GRPC and Exec take none"),
    validation = Rule::new("(has(self.type) && self.type == 'Exec') == has(self.command)")
        .message("command belongs to type Exec, which needs it"),
    validation = Rule::new("!has(self.port) || !has(self.type) || self.type != 'Exec'")
        .message("port does not belong to type Exec, which runs a command in the container"),
    validation = Rule::new("!has(self.httpHeaders) && !has(self.scheme) || !has(self.type) || self.type == 'HTTP'")
        .message("httpHeaders and scheme belong to type HTTP"),
    validation = Rule::new("!has(self.service) || has(self.type) && self.type == 'GRPC'")
        .message("service belongs to type GRPC")
)]
pub struct ProbeSpec {
    /// HTTP: GET answers with 200 to 399. TCP: a connection opens. GRPC: the health service says SERVING. Exec: a command ends with 0. Default: HTTP.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ProbeType>,
    /// Path that is asked, for example `/ready`. Default: none, required for HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: Option<String>,
    /// Name of the port in `ports`. Default: the first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub port: Option<String>,
    /// Headers of an HTTP probe; `Host` sets the name that is asked for. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub http_headers: Vec<HttpHeader>,
    /// HTTP or HTTPS, whose certificate is not checked. Default: HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<ProbeScheme>,
    /// Service that a GRPC probe asks about. Default: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service: Option<String>,
    /// Command of an Exec probe and its arguments; not run in a shell. Default: none, required for Exec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Time from the container's start to the first probe. Unit: seconds. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: Option<i32>,
    /// Time between two probes. Unit: seconds. Default: 1 for startup and readiness, 10 for liveness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: Option<i32>,
    /// Failures in a row that count as down. Unit: probes. Default: 60 for startup, 3 otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: Option<i32>,
    /// How long one probe may take. Unit: seconds. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: Option<i32>,
}

/// What a probe does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ProbeType {
    /// Sends a GET.
    #[default]
    HTTP,
    /// Opens a connection.
    TCP,
    /// Asks the health service of gRPC.
    GRPC,
    /// Runs a command in the container.
    Exec,
    /// A value of a newer version; treated as HTTP.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How an HTTP probe talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ProbeScheme {
    /// In the clear.
    HTTP,
    /// Over TLS.
    HTTPS,
    /// A value of a newer version; treated as HTTP.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A header of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHeader {
    /// Name of the header. Required.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[-A-Za-z0-9]+$"))]
    pub name: String,
    /// Value of the header. Required.
    #[schemars(length(max = 4096))]
    pub value: String,
}
