//! What the user writes to deploy a service.

use super::{
    guard::Guard,
    maps::{label_map, text_map},
    monitoring::Monitoring,
    pod::{SecurityContext, Toleration, VolumeMount},
    policy::Resilience,
    probes::Probes,
    resources::ResourceRequirements,
    status::ResilientServiceStatus,
    verbatim::{Verbatim, named_objects},
    workload::{Autoscaling, ConfigReload, Disruption, NetworkPolicy, ServiceExposure, TopologySpread, UpdateStrategy},
};
use crate::Duration;
use crate::duration::is_duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of most objects of Kubernetes: DNS subdomains.
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Names of environment variables: not `.`, and none that begins with `..`.
const VARIABLE_NAME: &str = r"^([-_a-zA-Z]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$";

/// For how long a pod sleeps before it ends, in seconds, as a rule reads it.
macro_rules! pause {
    () => {
        concat!(
            "(has(self.lifecycle) && has(self.lifecycle.preStopSleep) && ",
            is_duration!("self.lifecycle.preStopSleep"),
            " ? duration(self.lifecycle.preStopSleep).getSeconds() : 5)"
        )
    };
}

/// What the service is and how it must survive.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "resilience.valerix.io",
    version = "v1alpha1",
    kind = "ResilientService",
    plural = "resilientservices",
    shortname = "rsvc",
    category = "valerix",
    namespaced,
    status = "ResilientServiceStatus",
    derive = "PartialEq",
    doc = "A service that is deployed together with its breakers, deadlines and retries, and whose status is what its running pods answered.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.summary.replicas"),
    printcolumn(name = "Config", type_ = "string", json_path = ".status.summary.config"),
    printcolumn(name = "Circuits", type_ = "string", json_path = ".status.summary.circuits"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.summary.image"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,51}[a-z0-9])?$')")
        .message("metadata.name must start with a letter, hold only a-z, 0-9 and '-', and have at most 53 characters: the Service of that name must be able to exist")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.resilience) || !has(self.resilience.reportPort) || !has(self.ports) || self.ports.all(p, p.containerPort != self.resilience.reportPort)")
        .message("resilience.reportPort must differ from every ports[].containerPort: the report has a port of its own"),
    validation = Rule::new(concat!(pause!(), " <= self.terminationGracePeriodSeconds"))
        .message("lifecycle.preStopSleep (5s when absent) must not be longer than terminationGracePeriodSeconds: Kubernetes refuses such a pod; sleep less, or give it more time"),
    validation = Rule::new(concat!(
        "has(self.resilience) && has(self.resilience.protocol) && self.resilience.protocol == 'None' || ",
        "(has(self.resilience) && has(self.resilience.inbound) && has(self.resilience.inbound.timeout) && ",
        is_duration!("self.resilience.inbound.timeout"),
        " ? duration(self.resilience.inbound.timeout).getSeconds() : 15) + ", pause!(), " <= self.terminationGracePeriodSeconds"
    ))
        .message("terminationGracePeriodSeconds must cover resilience.inbound.timeout (15s when absent) plus lifecycle.preStopSleep (5s when absent), or requests in flight are cut when a pod ends"),
    validation = Rule::new("(has(self.minReadySeconds) ? self.minReadySeconds : 0) < (has(self.progressDeadlineSeconds) ? self.progressDeadlineSeconds : 300)")
        .message("progressDeadlineSeconds (300 when absent) must be more than minReadySeconds: a pod cannot count as available before; raise it, or wait less"),
    validation = Rule::new("!has(self.monitoring) || !has(self.monitoring.port) || has(self.ports) && self.ports.exists(p, p.name == self.monitoring.port)")
        .message("monitoring.port must be the name of one of ports: add the port, correct the name, or leave it out for the report's port"),
    validation = Rule::new("!has(self.guard) || !has(self.guard.mode) || self.guard.mode != 'Sidecar' || !has(self.resilience) || !has(self.resilience.protocol) || self.resilience.protocol != 'None'")
        .message("resilience.protocol None contradicts guard.mode Sidecar, which reports for any image: remove protocol, or set guard.mode to Off"),
    validation = Rule::new("!has(self.guard) || !has(self.guard.inbound) || !has(self.guard.inbound.ports) || self.guard.inbound.ports.all(g, has(self.ports) && self.ports.exists(p, p.name == g.name))")
        .message("guard.inbound.ports[].name must be the name of one of ports: add the port, or correct the name"),
    validation = Rule::new("!has(self.guard) || !has(self.guard.mode) || self.guard.mode != 'Sidecar' || !has(self.ports) || self.ports.all(p, p.containerPort != 15001 && (p.containerPort < 15100 || p.containerPort > 15299))")
        .message("ports[].containerPort must not be 15001 or one from 15100 to 15299 with guard.mode Sidecar: the guard listens there; choose another"),
    validation = Rule::new("!has(self.guard) || !has(self.guard.mode) || self.guard.mode != 'Sidecar' || !has(self.resilience) || !has(self.resilience.reportPort) || self.resilience.reportPort != 15001 && (self.resilience.reportPort < 15100 || self.resilience.reportPort > 15299)")
        .message("resilience.reportPort must not be 15001 or one from 15100 to 15299 with guard.mode Sidecar: the guard listens there; choose another"),
    validation = Rule::new("!has(self.resilience) || !has(self.resilience.targets) || has(self.guard) && has(self.guard.mode) && self.guard.mode == 'Sidecar' && !(has(self.guard.outbound) && has(self.guard.outbound.targets) && self.guard.outbound.targets == 'None') || self.resilience.targets.all(t, !has(t.url) || !t.url.startsWith('tcp://'))")
        .message("resilience.targets[].url with tcp:// needs a guard that relays it: set guard.mode to Sidecar and guard.outbound.targets to Auto, or write http:// or https://"),
    validation = Rule::new("!has(self.resilience) || !has(self.resilience.targets) || has(self.guard) && has(self.guard.mode) && self.guard.mode == 'Sidecar' && !(has(self.guard.outbound) && has(self.guard.outbound.targets) && self.guard.outbound.targets == 'None') || self.resilience.targets.all(t, !has(t.tls))")
        .message("resilience.targets[].tls needs a guard that makes TLS: set guard.mode to Sidecar and guard.outbound.targets to Auto, or remove tls"),
    validation = Rule::new("!has(self.guard) || !has(self.guard.mode) || self.guard.mode != 'Sidecar' || has(self.guard.outbound) && has(self.guard.outbound.targets) && self.guard.outbound.targets == 'None' || !has(self.resilience) || !has(self.resilience.targets) || self.resilience.targets.all(t, has(t.url))")
        .message("resilience.targets[].url is required with guard.mode Sidecar: the guard must know where the target is; write it, or set guard.outbound.targets to None")
)]
pub struct ResilientServiceSpec {
    /// Container image. Required.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[!-~]+$"))]
    pub image: String,
    /// When the kubelet pulls the image. Default: Kubernetes' own: Always for the tag `latest` and for an image without a tag or digest, else IfNotPresent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets of the same namespace with credentials for the registry. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalReference>,
    /// Number of pods. Unit: pods. Default: 1; 0 scales to zero and counts as ready. Ignored where `autoscaling` is set. A HorizontalPodAutoscaler of your own targets the ResilientService, not its Deployment.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Entry point instead of the image's own; not run in a shell. Default: the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments of the entry point. Default: the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment variables. Names beginning with `VALERIX_` are the operator's. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys become environment variables. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub env_from: Vec<EnvFrom>,
    /// Ports that the service listens on and its Service offers. Default: none, and then no Service is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<ContainerPort>,
    /// How the Service is reached. Default: ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceExposure>,
    /// Volumes that containers may mount, as in a Pod. The names `policy` and `state` are the operator's. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "volumes")]
    pub volumes: Vec<Verbatim>,
    /// Where the service's container sees volumes. Its policy and its state, `/etc/valerix/policy` and `/var/lib/valerix`, are the operator's; a mount at `/tmp` replaces the empty one that is there else. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub volume_mounts: Vec<VolumeMount>,
    /// Containers that run to their end before the service's own, as in a Pod; with `restartPolicy: Always` one stays beside it. What their securityContext leaves out is as in the service's container. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "init_containers")]
    pub init_containers: Vec<Verbatim>,
    /// As whom the pod runs and what it may do. Default: as the restricted Pod Security profile asks, user 65532, no file of the image may be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// ServiceAccount of the pods, which you keep. Its token is not mounted unless podOverrides says `automountServiceAccountToken: true`. Default: one of the service's name, without rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub service_account_name: Option<String>,
    /// Labels that a node must have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), schema_with = "label_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods put up with. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Nodes and pods that the pods are drawn to or keep away from, as in a Pod. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Verbatim>,
    /// PriorityClass of the pods. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub priority_class_name: Option<String>,
    /// Part of a PodSpec that is merged into the pods last, as `kubectl patch` would: lists by name, and the service's container is named like the service. What has a field of its own here, or is the operator's, is refused. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_overrides: Option<Verbatim>,
    /// CPU and memory of each pod. Default: no requests and no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Probes of the container. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Labels added to each pod. Default: none. Labels under app.kubernetes.io/ and resilience.valerix.io/ are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), schema_with = "label_map")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations added to each pod. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), schema_with = "text_map")]
    pub pod_annotations: BTreeMap<String, String>,
    /// How long a pod may take to end. Unit: seconds. Default: 45.
    #[serde(default = "forty_five")]
    #[schemars(range(min = 1, max = 3600))]
    pub termination_grace_period_seconds: i64,
    /// What happens before a pod is told to end. Default: see the field inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// How pods of an earlier template are replaced. Default: one more at a time, none missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<UpdateStrategy>,
    /// How long a pod must be ready before it counts as available. Unit: seconds. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: Option<i32>,
    /// How long a rollout may stand still before it counts as stalled. Unit: seconds. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub progress_deadline_seconds: Option<i32>,
    /// Lets the measured use decide how many pods there are: a HorizontalPodAutoscaler is made. Default: none, `replicas` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Bounds how many pods may be evicted at a time: a PodDisruptionBudget is made, where there are at least two pods. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// Whether pods are spread over zones and nodes. Default: they are, where possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread: Option<TopologySpread>,
    /// Who may talk to the pods, and with whom they may. Default: none, everybody with everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// How the pods' metrics are found. Default: by a ServiceMonitor, where the cluster knows that kind and the pods report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// How a new policy reaches the process. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_reload: Option<ConfigReload>,
    /// Whether experiments may touch this service. Default: Denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos: Option<Chaos>,
    /// Breakers, deadlines and retries that the service's library, or `guard`, obeys. Default: the built-in values named at each field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resilience: Option<Resilience>,
    /// A proxy beside the container that obeys the policy for an image that cannot. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Stops the operator from changing anything but status, and pods are still told when a fault of theirs ends; experiments
    /// are refused meanwhile. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Name of an object of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LocalReference {
    /// Name of the object. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ImagePullPolicy {
    /// Always asks the registry.
    Always,
    /// Only when the node does not hold it.
    IfNotPresent,
    /// Never; the node must hold it.
    Never,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// One environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.value) && has(self.valueFrom))").message("value and valueFrom exclude each other; remove one"),
    validation = Rule::new("!self.name.startsWith('VALERIX_')").message("names beginning with VALERIX_ are set by the operator; choose another name")
)]
pub struct EnvVar {
    /// Name of the variable. Required.
    #[schemars(length(min = 1, max = 256), regex(pattern = VARIABLE_NAME))]
    pub name: String,
    /// Value; `$(NAME)` is replaced by an earlier variable. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,
    /// Where the value comes from instead. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where a variable's value comes from; exactly one field.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(x, x).size() == 1")
    .message("exactly one of secretKeyRef, configMapKeyRef and fieldRef must be set"))]
pub struct EnvVarSource {
    /// A key of a Secret of the same namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// A key of a ConfigMap of the same namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
    /// A field of the pod itself. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldReference>,
}

/// A key of a Secret or ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyReference {
    /// Name of the Secret or ConfigMap. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key in the Secret or ConfigMap. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
    /// Whether a pod may start without it. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A field of the pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldReference {
    /// Path of the field, for example `metadata.name`, `metadata.labels['x']` or `status.podIP`. Required.
    #[schemars(
        length(min = 1, max = 256),
        regex(
            pattern = r"^(metadata\.(name|namespace|uid|(labels|annotations)\['([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?'\])|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?))$"
        )
    )]
    pub field_path: String,
}

/// A ConfigMap or Secret whose keys become variables; exactly one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapRef) != has(self.secretRef)").message("exactly one of configMapRef and secretRef must be set"))]
pub struct EnvFrom {
    /// A ConfigMap of the same namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalReference>,
    /// A Secret of the same namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// Text put before each key. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = VARIABLE_NAME))]
    pub prefix: Option<String>,
}

/// A port of the container and of the Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name of the port, for example `http`: a-z, 0-9 and single '-', with a letter. Required.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^([0-9]+-)*[0-9]*[a-z](-?[a-z0-9])*$"))]
    pub name: String,
    /// Port that the process listens on. Unit: TCP port. Required.
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: i32,
    /// Port that the Service offers. Unit: TCP port. Default: containerPort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub service_port: Option<i32>,
}

/// What happens around a pod's end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Pause before a pod is told to end, so that no new request reaches it. Unit: duration. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop_sleep: Option<Duration>,
}

/// Consent to experiments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chaos {
    /// Whether a ChaosExperiment of the same namespace may target this service. Default: Denied.
    #[serde(default)]
    pub admission: ChaosAdmission,
}

/// Whether experiments are welcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChaosAdmission {
    /// No experiment may touch the service.
    #[default]
    Denied,
    /// Experiments may target the service.
    Allowed,
    /// A value of a newer version; treated as Denied.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

fn volumes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    named_objects(32)
}

fn init_containers(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    named_objects(16)
}

fn one() -> i32 {
    1
}

fn forty_five() -> i64 {
    45
}
