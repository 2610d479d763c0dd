//! The caches of this kind: ResilientServices and what belongs to them. Reads watches; writes nothing.

use super::service_monitor::{self, ServiceMonitor};
use crate::runtime::{Cache, Change, Runtime, WatchOptions};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Container, ObjectReference, Pod, PodSpec, Service, ServiceAccount},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{Resource, ResourceExt};
use valerix_crds::{
    ResilientService,
    names::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL, pods_service, policy_config_map},
};

/// One cache per kind. All but the first are found by their service with [`Cache::of`].
#[derive(Clone)]
pub struct Stores {
    /// The services themselves.
    pub services: Cache<ResilientService>,
    /// ServiceAccounts that we made.
    pub service_accounts: Cache<ServiceAccount>,
    /// ConfigMaps `<service>-policy`, without the data that is no text, which is never ours.
    pub config_maps: Cache<ConfigMap>,
    /// Services `<service>` and `<service>-pods`, without their status.
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
    /// EndpointSlices of both Services, made by Kubernetes: which pods are ready, where, and in which zone.
    pub endpoint_slices: Cache<EndpointSlice>,
    /// The pods, without the parts that nobody reads.
    pub pods: Cache<Pod>,
}

impl Stores {
    /// Starts the watches. A change of anything that carries a service's label triggers that service.
    pub fn watch(runtime: &Runtime) -> Self {
        let services = runtime.watch::<ResilientService>(WatchOptions::new("resilientservices"));
        let owners = &services;
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{SERVICE_LABEL}");
        Self {
            service_accounts: runtime.watch(child("serviceaccounts", &ours, owners)),
            config_maps: runtime
                .watch(child("configmaps", &ours, owners).trim(|map: &mut ConfigMap| map.binary_data = None)),
            kubernetes_services: runtime
                .watch(child("services", &ours, owners).trim(|service: &mut Service| service.status = None)),
            network_policies: runtime.watch(child("networkpolicies", &ours, owners)),
            disruption_budgets: runtime.watch(
                child("poddisruptionbudgets", &ours, owners)
                    .trim(|budget: &mut PodDisruptionBudget| budget.status = None),
            ),
            deployments: runtime.watch(child("deployments", &ours, owners)),
            autoscalers: runtime.watch(
                child("horizontalpodautoscalers", &ours, owners)
                    .trim(|scaler: &mut HorizontalPodAutoscaler| scaler.status = None),
            ),
            service_monitors: runtime.watch(
                child("servicemonitors", &ours, owners)
                    .only_while(runtime.watch_definition(service_monitor::DEFINITION)),
            ),
            replica_sets: runtime.watch(child("replicasets", SERVICE_LABEL, owners).trim(trim_replica_set)),
            endpoint_slices: runtime.watch(child("endpointslices", SERVICE_LABEL, owners).trim(trim_slice)),
            pods: runtime.watch(child("pods", SERVICE_LABEL, owners).trim(trim_pod)),
            services,
        }
    }
}

fn child<K: Resource<DynamicType = ()> + 'static>(
    name: &'static str,
    selector: &str,
    owners: &Cache<ResilientService>,
) -> WatchOptions<K> {
    let others = owners.clone();
    WatchOptions::children_of(name, selector, SERVICE_LABEL, owners.triggers()).on_change(
        move |change: Change<'_, K>| {
            // The name is free again: another service, whose child would have it, may wait for that.
            let Change::Deleted(object) = change else { return };
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            for owner in owners_by_name(&name) {
                if others.get(&namespace, owner).is_some() {
                    others.triggers().trigger(&namespace, owner);
                }
            }
        },
    )
}

/// The services that would have a child of this name.
fn owners_by_name(child: &str) -> impl Iterator<Item = &str> {
    let endings = [String::new(), pods_service(""), policy_config_map("")];
    endings
        .into_iter()
        .filter_map(|ending| child.strip_suffix(ending.as_str()))
}

/// Keeps metadata: it says which template is the current one.
fn trim_replica_set(set: &mut ReplicaSet) {
    set.spec = None;
    set.status = None;
}

/// Keeps whose it is and, of each endpoint, the pod's UID, its addresses, whether it is ready and the zone.
fn trim_slice(slice: &mut EndpointSlice) {
    slice.ports = None;
    for endpoint in &mut slice.endpoints {
        *endpoint = Endpoint {
            addresses: std::mem::take(&mut endpoint.addresses),
            conditions: endpoint.conditions.take().map(|conditions| EndpointConditions {
                ready: conditions.ready,
                ..EndpointConditions::default()
            }),
            target_ref: endpoint.target_ref.take().map(|pod| ObjectReference {
                uid: pod.uid,
                ..ObjectReference::default()
            }),
            zone: endpoint.zone.take(),
            ..Endpoint::default()
        };
    }
}

/// Keeps metadata, readiness, addresses, container states and the ports that have a name: the rest of a pod's
/// specification is its largest part, and nobody reads it.
fn trim_pod(pod: &mut Pod) {
    let named_ports = |container: Container| {
        let ports = container.ports.unwrap_or_default();
        let named: Vec<_> = ports.into_iter().filter(|port| port.name.is_some()).collect();
        (!named.is_empty()).then(|| Container {
            ports: Some(named),
            ..Container::default()
        })
    };
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        containers: spec
            .init_containers
            .into_iter()
            .flatten()
            .chain(spec.containers)
            .filter_map(named_ports)
            .collect(),
        ..PodSpec::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As Kubernetes writes it for a pod of a Service, with everything that it says of one.
    fn endpoint(number: u8) -> serde_json::Value {
        json!({
            "addresses": [format!("10.244.1.{number}")],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "hints": {"forZones": [{"name": "eu-central-1a"}]},
            "nodeName": "ip-10-0-17-204.eu-central-1.compute.internal",
            "targetRef": {"kind": "Pod", "name": format!("order-7c9d8f6b5-{number:05}"), "namespace": "shop",
                "uid": format!("6f1f5c1e-5d0b-4c52-9a57-0a9f3c1d2{number:03}")},
            "zone": "eu-central-1a"
        })
    }

    #[test]
    fn of_a_slice_stays_who_is_ready_where_in_half_of_the_bytes() {
        let bytes = |slice: &EndpointSlice| serde_json::to_vec(slice).unwrap().len();
        let mut slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "order-pods-x", "labels": {"kubernetes.io/service-name": "order-pods"}},
            "addressType": "IPv4", "endpoints": (0..100).map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 3001, "protocol": "TCP"}]
        }))
        .unwrap();
        let before = bytes(&slice);
        trim_slice(&mut slice);
        let (pod, after) = (json!(slice.endpoints[7]), bytes(&slice));
        assert_eq!(
            pod,
            json!({"addresses": ["10.244.1.7"], "conditions": {"ready": true}, "zone": "eu-central-1a",
                "targetRef": {"uid": "6f1f5c1e-5d0b-4c52-9a57-0a9f3c1d2007"}})
        );
        println!("an EndpointSlice of 100 pods: {before} bytes of JSON, {after} kept");
        assert!(2 * after < before, "{after} of {before} bytes");
    }

    #[test]
    fn of_a_pods_specification_the_named_ports_stay_those_of_a_guard_too() {
        let container = |name: &str, ports: serde_json::Value| json!({"name": name, "image": "a", "ports": ports});
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "order-1"},
            "spec": {
                "initContainers": [container("valerix-guard", json!([{"name": "http", "containerPort": 15100}]))],
                "containers": [container("order", json!([{"containerPort": 3001}])), {"name": "beside", "image": "a"}]
            },
            "status": {"podIP": "10.0.0.7"}
        }))
        .unwrap();
        trim_pod(&mut pod);
        assert_eq!(
            json!(pod.spec),
            json!({"containers": [{"name": "", "ports": [{"name": "http", "containerPort": 15100}]}]})
        );
        assert!(pod.status.is_some());
    }
}
