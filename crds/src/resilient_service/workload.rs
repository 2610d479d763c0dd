//! What the user writes about the pods as a set: how they are replaced, scaled, spread, protected and reached.

use super::verbatim::Verbatim;
use crate::Duration;
use crate::duration::is_duration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How pods of an earlier template are replaced.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.type) || self.type != 'Recreate' || (!has(self.maxSurge) && !has(self.maxUnavailable))")
    .message("maxSurge and maxUnavailable belong to type RollingUpdate; Recreate ends every pod first"))]
pub struct UpdateStrategy {
    /// RollingUpdate replaces a few at a time; Recreate ends all of them before the first new one starts. Default: RollingUpdate.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<UpdateStrategyType>,
    /// Pods beyond the number asked for while they are replaced. Unit: pods, or percent rounded up. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pods_or_percent")]
    pub max_surge: Option<IntOrString>,
    /// Pods that may be missing meanwhile. Unit: pods, or percent rounded down. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pods_or_percent")]
    pub max_unavailable: Option<IntOrString>,
}

/// How pods are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum UpdateStrategyType {
    /// A few at a time.
    RollingUpdate,
    /// All at once, with a gap.
    Recreate,
    /// A value of a newer version; treated as RollingUpdate.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How the Service is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceExposure {
    /// ClusterIP is reached inside the cluster, NodePort at every node, LoadBalancer at an address of its own. Default: ClusterIP.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceType>,
    /// Annotations of the Service, for whoever makes load balancers. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), schema_with = "super::maps::text_map")]
    pub annotations: BTreeMap<String, String>,
}

/// From where a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ServiceType {
    /// From inside the cluster.
    ClusterIP,
    /// From every node too.
    NodePort,
    /// From a load balancer too.
    LoadBalancer,
    /// A value of a newer version; treated as ClusterIP.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How many pods there are is measured. `replicas` is ignored meanwhile.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas")
    .message("minReplicas (1 when absent) must not exceed maxReplicas; lower it, or raise maxReplicas"))]
pub struct Autoscaling {
    /// Fewest pods. Unit: pods. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<i32>,
    /// Most pods. Unit: pods. Required.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Use of the container's CPU request that is aimed at, over all pods. Unit: percent of `resources.requests.cpu`. Default: 80 where nothing else is aimed at.
    #[serde(
        rename = "targetCPUUtilizationPercentage",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: Option<i32>,
    /// Use of the container's memory request that is aimed at, over all pods. Unit: percent of `resources.requests.memory`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_memory_utilization_percentage: Option<i32>,
    /// Further metrics, as in a HorizontalPodAutoscaler (autoscaling/v2). Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub metrics: Vec<Verbatim>,
    /// How fast pods come and go, as in a HorizontalPodAutoscaler (autoscaling/v2). Default: Kubernetes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Verbatim>,
}

/// How many pods may be evicted at a time, by a drain of a node for example; not counted are those that crash. Evicting pods that are not ready is always allowed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.maxUnavailable) && has(self.minAvailable))")
    .message("maxUnavailable and minAvailable exclude each other; remove one"))]
pub struct Disruption {
    /// Pods that may be missing. Unit: pods, or percent rounded up. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pods_or_percent")]
    pub max_unavailable: Option<IntOrString>,
    /// Pods that must stay. Unit: pods, or percent rounded up. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pods_or_percent")]
    pub min_available: Option<IntOrString>,
}

/// Whether pods keep away from each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologySpread {
    /// Default spreads the pods of a template over zones and nodes where that is possible, None leaves it to the scheduler. Default: `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TopologySpreadMode>,
}

/// Ways of spreading pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum TopologySpreadMode {
    /// Over zones and nodes.
    Default,
    /// As the scheduler likes.
    None,
    /// A value of a newer version; treated as Default.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Who may talk to the pods, and with whom they may.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.mode) || self.mode != 'None' || (!has(self.ingressFrom) && !has(self.egressTo))")
    .message("ingressFrom and egressTo belong to mode Managed; mode None makes no NetworkPolicy"))]
pub struct NetworkPolicy {
    /// Managed makes a NetworkPolicy, None makes none. Default: Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkPolicyMode>,
    /// Who may open connections to the pods, as `from` of a NetworkPolicy; an empty list lets nobody. The operator always reaches the report port, and the namespaces of the operator's setting `monitoring.namespaces` the port with the metrics. Default: every pod of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ingress_from: Option<Vec<Verbatim>>,
    /// To whom the pods may open connections beside DNS and the pods of `resilience.targets`, as `to` of a NetworkPolicy; an empty list adds nobody. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub egress_to: Option<Vec<Verbatim>>,
}

/// Whether there is a NetworkPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum NetworkPolicyMode {
    /// The operator makes one.
    Managed,
    /// There is none.
    None,
    /// A value of a newer version; treated as Managed.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How a new policy reaches the process.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigReload {
    /// Watch: the process reads it again, and no pod is replaced. Rollout: the pods are replaced, for images that read it once. Default: Watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<ReloadStrategy>,
    /// How long ready pods may take to report it before ConfigApplied says DeadlineExceeded. Unit: duration, at least 1s. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1s')")).message("deadline must be at least 1s: pods need a moment to read a file"))]
    pub deadline: Option<Duration>,
}

/// Ways in which a new policy reaches the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ReloadStrategy {
    /// It reads the file again.
    Watch,
    /// It is started anew.
    Rollout,
    /// A value of a newer version; treated as Watch.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

fn pods_or_percent(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 8,
        "x-kubernetes-validations": [{
            "rule": "string(self).matches('^([0-9]{1,4}|([1-9]?[0-9]|100)%)$')",
            "message": "must be a number of pods from 0 to 9999 or a percentage from 0% to 100%",
        }],
    })
}
