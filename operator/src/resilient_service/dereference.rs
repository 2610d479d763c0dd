//! First step: what the caches know about one service. Reads memory; sends nothing.

use super::{
    reports::{Contact, PodReport, ReportStore},
    service_monitor::ServiceMonitor,
    stores::Stores,
    validate::{GuardPlan, fewest_replicas},
};
use crate::runtime::Hindrance;
use chrono::{DateTime, Utc};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Pod, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::ResourceExt;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use valerix_crds::{
    ResilientService,
    names::{FAULTS_KEY, GUARD_LABEL, POLICY_KEY, RUNTIME_KEY, pods_service},
};
use valerix_policy::{Report, Runtime};

/// Label that Kubernetes puts on an EndpointSlice: the name of its Service.
const SLICE_SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Label that Kubernetes puts on a ReplicaSet and on its pods.
pub const TEMPLATE_LABEL: &str = "pod-template-hash";

/// What was seen of one service and of everything that belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Everything that carries the service's label, whoever owns it.
    pub children: Children,
    /// The ready pods of the headless Service, by UID.
    pub ready_pods: BTreeMap<String, ReadyPod>,
    /// Every pod of the service, ready or not.
    pub pods: Vec<Arc<Pod>>,
    /// The ReplicaSets of its Deployment.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// What a pod that waits for its volumes waits for, where it is known; no cache holds it.
    pub unmounted: Option<Hindrance>,
    /// Targets whose name in the cluster's DNS is that of no Service.
    pub unresolved: Vec<String>,
}

/// Objects with the service's label.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// ServiceAccounts.
    pub service_accounts: Vec<Arc<ServiceAccount>>,
    /// ConfigMaps.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// NetworkPolicies.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// PodDisruptionBudgets.
    pub disruption_budgets: Vec<Arc<PodDisruptionBudget>>,
    /// Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// HorizontalPodAutoscalers.
    pub autoscalers: Vec<Arc<HorizontalPodAutoscaler>>,
    /// ServiceMonitors.
    pub service_monitors: Vec<Arc<ServiceMonitor>>,
}

/// A ready pod and what it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyPod {
    /// Name of the pod.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Hash of the template that it was made from.
    pub template: Option<String>,
    /// Its newest answer.
    pub report: Option<Arc<PodReport>>,
    /// How well it can be reached.
    pub contact: Contact,
}

impl ReadyPod {
    /// What the pod says of itself; none once it has failed to answer for so long that nothing is known any more. Every
    /// condition and count rests on this.
    pub fn evidence(&self, now: DateTime<Utc>) -> Option<&Report> {
        let report = self.report.as_ref()?;
        (!self.is_unreachable(now)).then_some(&report.report)
    }

    /// Whether its newest answer shows other faults than these.
    pub fn shows_other_faults(&self, live: &DocumentHashes) -> bool {
        let report = self.report.as_ref().map(|report| &report.report);
        report.is_some_and(|report| report.faults_hash != live.faults)
    }

    /// Whether it has reported and has failed to answer for too long since.
    pub fn is_unreachable(&self, now: DateTime<Utc>) -> bool {
        self.report.is_some() && self.contact.is_unreachable(now)
    }
}

/// The object of this name.
pub fn named<'a, K: ResourceExt>(objects: &'a [Arc<K>], name: &str) -> Option<&'a K> {
    objects
        .iter()
        .find(|object| object.meta().name.as_deref() == Some(name))
        .map(|object| &**object)
}

impl Observed {
    /// Whether a ready pod has neither answered nor failed to answer yet.
    pub fn has_unasked_pods(&self) -> bool {
        self.ready_pods
            .values()
            .any(|pod| pod.report.is_none() && pod.contact == Contact::default())
    }

    /// The pods that the live Deployment `name` is to have.
    pub fn live_replicas(&self, name: &str) -> Option<i32> {
        named(&self.children.deployments, name)?.spec.as_ref()?.replicas
    }

    /// The pods that a service is to have: by its specification, or by what its autoscaler last decided.
    pub fn asked_replicas(&self, service: &ResilientService) -> i32 {
        let fewest = fewest_replicas(&service.spec);
        match &service.spec.autoscaling {
            Some(_) => self.live_replicas(&service.name_any()).unwrap_or(fewest),
            None => fewest,
        }
    }

    /// Whether a pod stands that was made without a guard, or with one that stands before other ports, while there is to
    /// be this one.
    pub fn has_pods_of_another_shape(&self, guard: Option<&GuardPlan>) -> bool {
        let Some(shape) = guard.map(GuardPlan::shape) else {
            return false;
        };
        self.standing_pods()
            .any(|pod| pod.labels().get(GUARD_LABEL) != Some(&shape))
    }

    /// Every pod that has not run to its end. One that was evicted, or whose node was shut down, stays as an object for
    /// long, and another one is in its place.
    pub fn standing_pods(&self) -> impl Iterator<Item = &Pod> {
        let is_over = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Failed" | "Succeeded"))
        };
        self.pods.iter().map(|pod| &**pod).filter(move |pod| !is_over(pod))
    }

    /// How the Deployment of this name selects its pods, if it stands.
    pub fn standing_selector(&self, deployment: &str) -> Option<LabelSelector> {
        let spec = named(&self.children.deployments, deployment)?.spec.as_ref()?;
        Some(spec.selector.clone())
    }

    /// The live bytes of one key of the ConfigMap.
    pub fn document(&self, config_map: &str, key: &str) -> Option<&str> {
        let data = named(&self.children.config_maps, config_map)?.data.as_ref()?;
        data.get(key).map(String::as_str)
    }

    /// Hashes of the live policy and faults documents, none where there is no such document.
    pub fn document_hashes(&self, config_map: &str) -> DocumentHashes {
        let hash = |key| {
            self.document(config_map, key)
                .map(|text| valerix_policy::hash(text.as_bytes()))
        };
        DocumentHashes {
            policy: hash(POLICY_KEY),
            faults: hash(FAULTS_KEY),
        }
    }

    /// The count of ready pods that the live runtime document names.
    pub fn runtime_replicas(&self, config_map: &str) -> Option<u32> {
        let text = self.document(config_map, RUNTIME_KEY)?;
        Some(Runtime::parse(text.as_bytes()).ok()?.document.ready_replicas)
    }
}

/// Hashes of the documents that pods read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentHashes {
    /// Of `policy.v1.json`.
    pub policy: Option<String>,
    /// Of `faults.json`.
    pub faults: Option<String>,
}

/// Looks everything up.
pub fn dereference(service: &ResilientService, stores: &Stores, reports: &ReportStore) -> Observed {
    let namespace = service.namespace().unwrap_or_default();
    let name = service.name_any();
    let slices = stores.endpoint_slices.of(&namespace, &name);
    let pods = stores.pods.of(&namespace, &name);
    let mut ready_pods = ready_pods(&slices, &pods_service(&name), &pods);
    for (uid, pod) in &mut ready_pods {
        pod.report = reports.get(uid);
        pod.contact = reports.contact(uid);
    }
    Observed {
        children: Children {
            service_accounts: stores.service_accounts.of(&namespace, &name),
            config_maps: stores.config_maps.of(&namespace, &name),
            services: stores.kubernetes_services.of(&namespace, &name),
            network_policies: stores.network_policies.of(&namespace, &name),
            disruption_budgets: stores.disruption_budgets.of(&namespace, &name),
            deployments: stores.deployments.of(&namespace, &name),
            autoscalers: stores.autoscalers.of(&namespace, &name),
            service_monitors: stores.service_monitors.of(&namespace, &name),
        },
        ready_pods,
        pods,
        replica_sets: stores.replica_sets.of(&namespace, &name),
        unmounted: None,
        unresolved: Vec::new(),
    }
}

/// The ready pods in the slices of one Service. A pod with addresses of two families counts once.
///
/// Whoever may write an EndpointSlice could send requests of ours to any address: one counts only if a pod of this
/// service has that UID and that address.
fn ready_pods(slices: &[Arc<EndpointSlice>], service: &str, pods: &[Arc<Pod>]) -> BTreeMap<String, ReadyPod> {
    let mut ready_pods = BTreeMap::new();
    let ours = slices.iter().filter(|slice| {
        slice
            .labels()
            .get(SLICE_SERVICE_LABEL)
            .is_some_and(|name| name == service)
    });
    for endpoint in ours.flat_map(|slice| slice.endpoints.iter()) {
        let ready = endpoint
            .conditions
            .as_ref()
            .is_some_and(|conditions| conditions.ready == Some(true));
        let Some(reference) = endpoint.target_ref.as_ref().filter(|_| ready) else {
            continue;
        };
        let Some(pod) = pods.iter().find(|pod| pod.uid() == reference.uid) else {
            continue;
        };
        let own = addresses(pod);
        let address = endpoint
            .addresses
            .iter()
            .filter_map(|address| address.parse().ok())
            .find(|address| own.contains(address));
        if let (Some(uid), Some(address)) = (&reference.uid, address) {
            ready_pods.entry(uid.clone()).or_insert_with(|| ReadyPod {
                name: pod.name_any(),
                address,
                template: pod.labels().get(TEMPLATE_LABEL).cloned(),
                report: None,
                contact: Contact::default(),
            });
        }
    }
    ready_pods
}

/// The addresses that the kubelet gave the pod.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_ref());
    let first = status.and_then(|status| status.pod_ip.as_ref());
    all.into_iter()
        .flatten()
        .map(|address| &address.ip)
        .chain(first)
        .filter_map(|address| address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_pods_of_the_headless_service_count_at_their_own_address() {
        let pod = |uid: &str| -> Arc<Pod> {
            let metadata = json!({"name": format!("order-{uid}"), "uid": uid, "labels": {"pod-template-hash": "t"}});
            let status = json!({"podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}]});
            Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap())
        };
        let pods = ["a", "b", "c", "elsewhere"].map(pod);
        let slice = |service: &str, ready: bool, uid: &str, address: &str| {
            Arc::new(
                serde_json::from_value::<EndpointSlice>(json!({
                    "metadata": {"name": format!("{service}-x"), "labels": {"kubernetes.io/service-name": service}},
                    "addressType": "IPv4",
                    "endpoints": [{
                        "addresses": [address],
                        "conditions": {"ready": ready, "serving": true, "terminating": !ready},
                        "targetRef": {"kind": "Pod", "name": "order-1", "uid": uid}
                    }],
                    "ports": []
                }))
                .unwrap(),
            )
        };
        let slices = [
            slice("order-pods", true, "a", "10.0.0.7"),
            slice("order-pods", true, "a", "fd00::7"),
            slice("order-pods", false, "b", "10.0.0.7"),
            slice("order", true, "c", "10.0.0.7"),
            // Written by hand: of nobody, and of a pod that is elsewhere.
            slice("order-pods", true, "nobody", "10.0.0.7"),
            slice("order-pods", true, "elsewhere", "169.254.169.254"),
        ];
        let ready = ready_pods(&slices, "order-pods", &pods);
        assert_eq!(ready.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(ready["a"].address.to_string(), "10.0.0.7");
        assert_eq!(
            (ready["a"].name.as_str(), ready["a"].template.as_deref()),
            ("order-a", Some("t"))
        );
    }
}
