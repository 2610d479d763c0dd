//! What the operator saw of a service.

use crate::condition::conditions_schema;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw: every figure is an answer of a running pod or of the API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResilientServiceStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator has seen the object.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// Pods that exist. Unit: pods.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready. Unit: pods.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Which configuration the pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigStatus>,
    /// Per target, in how many pods the breaker is in which state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["target"]))]
    pub circuit_breakers: Vec<CircuitBreakerStatus>,
    /// Faults that pods report as active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub active_faults: Vec<ActiveFault>,
    /// The experiment on this service that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_experiment: Option<LastExperiment>,
    /// Ready-made texts for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<ServiceSummary>,
    /// Conditions: Ready, Available, Progressing, ConfigApplied, CircuitsClosed, ResourcesReady, Warning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Which configuration the pods run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// sha256 of the policy document, lower-case hex.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Ready pods that reported this hash. Unit: pods.
    #[serde(default)]
    pub applied_replicas: i32,
    /// Ready pods that reported an error with it and kept the last good one. Unit: pods.
    #[serde(default)]
    pub rejected_replicas: i32,
    /// When the last ready pod reported this hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_applied_time: Option<DateTime<Utc>>,
}

/// In how many pods a target's breaker is in which state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CircuitBreakerStatus {
    /// Name of the target.
    #[schemars(length(max = 63))]
    pub target: String,
    /// Pods in which it is closed. Unit: pods.
    pub closed: i32,
    /// Pods in which it is open. Unit: pods.
    pub open: i32,
    /// Pods in which it is half-open. Unit: pods.
    #[serde(rename = "halfOpen")]
    pub half_open: i32,
}

/// A fault that pods report as active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveFault {
    /// Run of the experiment that set it.
    #[schemars(length(max = 256))]
    pub run: String,
    /// Kind of the fault, for example Latency.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Pods that report it. Unit: pods.
    pub pods: i32,
}

/// The experiment that ended last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastExperiment {
    /// Name of the ChaosExperiment.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its verdict.
    #[schemars(length(max = 32))]
    pub verdict: String,
    /// When it ended.
    pub time: DateTime<Utc>,
}

/// Ready-made texts: a printer column shows one JSONPath only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSummary {
    /// Ready of desired pods, for example `3/3`.
    #[schemars(length(max = 32))]
    pub replicas: String,
    /// Pods that reported the current hash of ready pods, for example `3/3`.
    #[schemars(length(max = 32))]
    pub config: String,
    /// `closed`, or how many are open, for example `1 open`.
    #[schemars(length(max = 64))]
    pub circuits: String,
    /// The image without its registry, for example `order:1.4.2`.
    #[schemars(length(max = 256))]
    pub image: String,
}

fn unseen() -> i64 {
    -1
}
