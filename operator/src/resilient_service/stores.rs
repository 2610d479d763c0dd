//! The caches of this kind: ResilientServices and what belongs to them. Reads watches; writes nothing.

use super::service_monitor::{self, ServiceMonitor};
use crate::runtime::{Cache, Runtime, Triggers, WatchOptions};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::Resource;
use valerix_crds::{
    ResilientService,
    names::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL},
};

/// One cache per kind. All but the first are found by their service with [`Cache::of`].
#[derive(Clone)]
pub struct Stores {
    /// The services themselves.
    pub services: Cache<ResilientService>,
    /// ServiceAccounts that we made.
    pub service_accounts: Cache<ServiceAccount>,
    /// ConfigMaps `<service>-policy`.
    pub config_maps: Cache<ConfigMap>,
    /// Services `<service>` and `<service>-pods`.
    pub kubernetes_services: Cache<Service>,
    /// NetworkPolicies that we made.
    pub network_policies: Cache<NetworkPolicy>,
    /// PodDisruptionBudgets that we made, without their status, which moves with every pod.
    pub disruption_budgets: Cache<PodDisruptionBudget>,
    /// Deployments.
    pub deployments: Cache<Deployment>,
    /// HorizontalPodAutoscalers that we made, without their status, which moves with every measurement.
    pub autoscalers: Cache<HorizontalPodAutoscaler>,
    /// ServiceMonitors that we made, while the cluster knows that kind.
    pub service_monitors: Cache<ServiceMonitor>,
    /// ReplicaSets of the Deployments, without the parts that nobody reads.
    pub replica_sets: Cache<ReplicaSet>,
    /// EndpointSlices of both Services, made by Kubernetes.
    pub endpoint_slices: Cache<EndpointSlice>,
    /// The pods, without the parts that nobody reads.
    pub pods: Cache<Pod>,
}

impl Stores {
    /// Starts the watches. A change of anything that carries a service's label triggers that service.
    pub fn watch(runtime: &Runtime) -> Self {
        let services = runtime.watch::<ResilientService>(WatchOptions::new("resilientservices"));
        let triggers = services.triggers();
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{SERVICE_LABEL}");
        Self {
            service_accounts: runtime.watch(child("serviceaccounts", &ours, triggers)),
            config_maps: runtime.watch(child("configmaps", &ours, triggers)),
            kubernetes_services: runtime.watch(child("services", &ours, triggers)),
            network_policies: runtime.watch(child("networkpolicies", &ours, triggers)),
            disruption_budgets: runtime.watch(
                child("poddisruptionbudgets", &ours, triggers)
                    .trim(|budget: &mut PodDisruptionBudget| budget.status = None),
            ),
            deployments: runtime.watch(child("deployments", &ours, triggers)),
            autoscalers: runtime.watch(
                child("horizontalpodautoscalers", &ours, triggers)
                    .trim(|scaler: &mut HorizontalPodAutoscaler| scaler.status = None),
            ),
            service_monitors: runtime.watch(
                child("servicemonitors", &ours, triggers)
                    .only_while(runtime.watch_definition(service_monitor::DEFINITION)),
            ),
            replica_sets: runtime.watch(child("replicasets", SERVICE_LABEL, triggers).trim(trim_replica_set)),
            endpoint_slices: runtime.watch(child("endpointslices", SERVICE_LABEL, triggers)),
            pods: runtime.watch(child("pods", SERVICE_LABEL, triggers).trim(trim_pod)),
            services,
        }
    }
}

fn child<K: Resource<DynamicType = ()>>(
    name: &'static str,
    selector: &str,
    triggers: &Triggers<ResilientService>,
) -> WatchOptions<K> {
    WatchOptions::children_of(name, selector, SERVICE_LABEL, triggers)
}

/// Keeps metadata: it says which template is the current one.
fn trim_replica_set(set: &mut ReplicaSet) {
    set.spec = None;
    set.status = None;
}

/// Keeps metadata, readiness, addresses and container states: a pod's specification is its largest part, and nobody
/// reads it.
fn trim_pod(pod: &mut Pod) {
    pod.spec = None;
}
