//! How the system is judged while it is hurt.

use crate::Duration;
use crate::duration::is_duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What must hold before, during and after the fault.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SteadyState {
    /// The probes; all must hold. Default: none, and then the verdict is NotEvaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub probes: Vec<Probe>,
    /// Whether a failed probe ends the fault at once. Default: true.
    #[serde(default = "yes")]
    pub stop_on_failure: bool,
    /// How long after the fault's end the probes may take to pass again. Unit: duration. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_timeout: Option<Duration>,
}

/// One probe: what is asked, how often, and how many failures in a row count.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.http), has(self.grpc), has(self.condition), has(self.prometheus)].filter(x, x).size() == 1")
        .message("exactly one of http, grpc, condition and prometheus must be set"),
    validation = Rule::new("!has(self.http) || !has(self.http.expect) || !has(self.http.expect.latencyPercentile) || !has(self.mode) || self.mode != 'Edge'")
        .message("latencyPercentile judges the time of the fault, in which mode Edge does not ask; use Continuous or OnFault").field_path(".http"),
    validation = Rule::new(concat!("!has(self.interval) || ", is_duration!("self.interval"), " && duration(self.interval) >= duration('200ms')"))
        .message("interval must be at least 200ms, for example 500ms or 5s").field_path(".interval")
)]
pub struct Probe {
    /// Name of the probe in status. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Asks a service of the same namespace by HTTP. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Asks a service of the same namespace for its health by gRPC. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// Reads a condition of an object of the same namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionProbe>,
    /// Compares what a query of Prometheus comes to. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusProbe>,
    /// Continuous asks all the time, Edge only before and after the fault, OnFault only while the fault is on. Default: Continuous.
    #[serde(default)]
    pub mode: ProbeMode,
    /// Time between two questions. Unit: duration. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Failures in a row that count as a deviation. Unit: probes. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: Option<u32>,
}

/// When a probe asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProbeMode {
    /// Before, during and after the fault.
    #[default]
    Continuous,
    /// Before and after the fault.
    Edge,
    /// While the fault is on: for what must be seen of it, such as an open circuit.
    OnFault,
    /// A value of a newer version; treated as Continuous.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// An HTTP question to a Service of the experiment's namespace. No redirect is followed and no credential is sent. Header `Valerix-Probe: namespace/experiment/run` tells it from a customer's.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.body) || (has(self.method) && self.method in ['POST', 'PUT', 'PATCH'])")
        .message("body needs method: POST, PUT or PATCH").field_path(".body"),
    validation = Rule::new("!has(self.method) || self.method != 'HEAD' || !has(self.expect) || (!has(self.expect.bodyContains) && (!has(self.expect.json) || size(self.expect.json) == 0))")
        .message("an answer to HEAD has no body that expect could find something in; use method: GET, or expect a status").field_path(".expect")
)]
pub struct HttpProbe {
    /// Name of a Service of the same namespace. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: String,
    /// Port of the Service. Unit: TCP port. Default: 80.
    #[serde(default = "eighty")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path and query, for example `/api/inventory/ps5`. Default: `/`.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// Method. Default: GET.
    #[serde(default)]
    pub method: HttpMethod,
    /// Headers of the request. Those that prove who somebody is are refused: whoever may read the experiment could read them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<ProbeHeader>,
    /// Body of a POST, PUT or PATCH, sent as application/json unless a header says otherwise; what is not a GET or HEAD carries a fresh Idempotency-Key. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub body: Option<String>,
    /// What the answer must be. Default: any 2xx within 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expectation>,
}

/// Methods that a probe may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpMethod {
    /// Reads.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Reads the status only.
    #[serde(rename = "HEAD")]
    Head,
    /// Sends the body.
    #[serde(rename = "POST")]
    Post,
    /// Sends the body.
    #[serde(rename = "PUT")]
    Put,
    /// Sends the body.
    #[serde(rename = "PATCH")]
    Patch,
    /// Deletes.
    #[serde(rename = "DELETE")]
    Delete,
    /// A value of a newer version; the probe cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A question to the health service of gRPC, `grpc.health.v1.Health/Check`, by HTTP/2. It must be answered with SERVING; a server without that service, or without the name that is asked about, is no answer, and makes the verdict Error.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcProbe {
    /// Name of a Service of the same namespace. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: String,
    /// Port of the Service. Unit: TCP port. Required.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Whose health is asked, by its full name in gRPC, for example `shop.v1.Stock`. Default: that of the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub grpc_service: Option<String>,
    /// Whether the connection is encrypted. The server's certificate is not verified, as its pod is asked by address and nothing secret is sent. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// How long the whole answer may take. Unit: duration. Default: 5s, which is also the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1ms') && duration(self) <= duration('5s')")).message("maxLatency must be between 1ms and 5s, for example 300ms"))]
    pub max_latency: Option<Duration>,
}

/// A header of a probe's request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!(self.name.lowerAscii() in ['authorization', 'cookie', 'proxy-authorization', 'valerix-service-token', 'host', 'content-length', 'transfer-encoding', 'connection', 'idempotency-key', 'valerix-probe', 'traceparent'])")
    .message("a probe sends no credential, and sets Host, length, connection, Idempotency-Key, Valerix-Probe and traceparent itself; remove this header").field_path(".name"))]
pub struct ProbeHeader {
    /// Name of the header. Required.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// Its value, visible ASCII and spaces. Required.
    #[schemars(length(max = 256), regex(pattern = r"^[ -~]*$"))]
    pub value: String,
}

/// What one value of a JSON answer must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonExpectation {
    /// Where the value stands, as a JSON pointer (RFC 6901), for example `/status` or `/items/0/price`; empty is the whole answer. Required.
    #[schemars(length(max = 256), regex(pattern = r"^(/[^/]*)*$"))]
    pub pointer: String,
    /// What it must be: a text as it is, anything else as JSON writes it, for example `3` or `true`. Required.
    #[schemars(length(max = 256))]
    pub value: String,
}

/// What an answer must be.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    /// Status of the answer. Unit: HTTP status. Default: any from 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u32>,
    /// Text that the body must contain, within its first 64 KiB. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub body_contains: Option<String>,
    /// Values that the body, read as JSON, must hold. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub json: Vec<JsonExpectation>,
    /// How long the whole answer may take. Unit: duration. Default: 5s, which is also the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1ms') && duration(self) <= duration('5s')")).message("maxLatency must be between 1ms and 5s, for example 300ms"))]
    pub max_latency: Option<Duration>,
    /// How quick a share of the answers must have been when the fault is over, of those that came while it was on and were as expected otherwise. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_percentile: Option<LatencyPercentile>,
}

/// How quick a share of the answers must be.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyPercentile {
    /// The share, the quickest answers first. Unit: percent. Required.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// The time within which so many were answered. Unit: duration. Required.
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1ms') && duration(self) <= duration('5s')")).message("max must be between 1ms and 5s, for example 300ms"))]
    pub max: Duration,
}

/// A query of Prometheus, asked at the present, that must come to one number; no sample, several samples and NaN are no answer, and make the verdict Error.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.service) != has(self.url)").message("exactly one of service and url must be set"),
    validation = Rule::new("!has(self.port) || has(self.service)")
        .message("port has no meaning with url; write it into the url").field_path(".port")
)]
pub struct PrometheusProbe {
    /// Name of a Service of the same namespace behind which Prometheus is. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: Option<String>,
    /// Port of the Service. Unit: TCP port. Default: 9090.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Address of a Prometheus elsewhere, up to `/api/v1`, for example `http://prometheus.monitoring.svc:9090`. The chart's chaos.probeUrls must list it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/ @?#]+(/[^ ?#]*)?$"))]
    pub url: Option<String>,
    /// The query, in PromQL. Required.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"[^ \t\r\n]"))]
    pub query: String,
    /// How the number and `value` must compare: `<`, `<=`, `>`, `>=`, `==` or `!=`. Required.
    pub comparator: Comparator,
    /// What the number is compared with. Unit: that of the query. Required.
    pub value: f64,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum Comparator {
    /// The number is less.
    #[serde(rename = "<")]
    Less,
    /// The number is less or the same.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// The number is more.
    #[serde(rename = ">")]
    Greater,
    /// The number is more or the same.
    #[serde(rename = ">=")]
    GreaterOrEqual,
    /// The number is the same.
    #[serde(rename = "==")]
    Equal,
    /// The number is another.
    #[serde(rename = "!=")]
    NotEqual,
    /// A value of a newer version; the probe cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A condition of an object of the experiment's namespace that must be True.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConditionProbe {
    /// Kind of the object. Default: ResilientService.
    #[serde(default)]
    pub kind: ConditionKind,
    /// Name of the object. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Type of the condition, for example Ready. Required.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][-A-Za-z0-9_./]*$"))]
    pub condition_type: String,
}

/// Kinds whose conditions can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionKind {
    /// A ResilientService.
    #[default]
    ResilientService,
    /// A Deployment.
    Deployment,
    /// A value of a newer version; the probe cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

fn yes() -> bool {
    true
}

fn eighty() -> i32 {
    80
}

fn root() -> String {
    "/".into()
}
