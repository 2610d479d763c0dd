//! First step: what the caches know about one service. Reads memory; sends nothing.

use super::{
    reports::{Contact, PodReport, ReportStore},
    stores::Stores,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::ResourceExt;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use valerix_crds::{
    ResilientService,
    names::{FAULTS_KEY, POLICY_KEY, RUNTIME_KEY, pods_service},
};
use valerix_policy::Runtime;

/// Label that Kubernetes puts on an EndpointSlice: the name of its Service.
const SLICE_SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What was seen of one service and of everything that belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Everything that carries the service's label, whoever owns it.
    pub children: Children,
    /// The ready pods of the headless Service, by UID.
    pub ready_pods: BTreeMap<String, ReadyPod>,
    /// Every pod of the service, ready or not.
    pub pods: Vec<Arc<Pod>>,
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
    /// Deployments.
    pub deployments: Vec<Arc<Deployment>>,
}

/// A ready pod and what it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyPod {
    /// Name of the pod.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its newest answer.
    pub report: Option<Arc<PodReport>>,
    /// How well it can be reached.
    pub contact: Contact,
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
    let mut ready_pods = ready_pods(&slices, &pods_service(&name));
    for (uid, pod) in &mut ready_pods {
        pod.report = reports.get(uid);
        pod.contact = reports.contact(uid);
    }
    Observed {
        children: Children {
            service_accounts: stores.service_accounts.of(&namespace, &name),
            config_maps: stores.config_maps.of(&namespace, &name),
            services: stores.kubernetes_services.of(&namespace, &name),
            deployments: stores.deployments.of(&namespace, &name),
        },
        ready_pods,
        pods: stores.pods.of(&namespace, &name),
    }
}

/// The ready pods in the slices of one Service. A pod with addresses of two families counts once.
fn ready_pods(slices: &[Arc<EndpointSlice>], service: &str) -> BTreeMap<String, ReadyPod> {
    let mut pods = BTreeMap::new();
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
        let address = endpoint.addresses.iter().find_map(|address| address.parse().ok());
        if let (Some(uid), Some(name), Some(address)) = (&reference.uid, &reference.name, address) {
            pods.entry(uid.clone()).or_insert_with(|| ReadyPod {
                name: name.clone(),
                address,
                report: None,
                contact: Contact::default(),
            });
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_pods_of_the_headless_service_count() {
        let slice = |service: &str, ready: bool, uid: &str| {
            Arc::new(
                serde_json::from_value::<EndpointSlice>(json!({
                    "metadata": {"name": format!("{service}-x"), "labels": {"kubernetes.io/service-name": service}},
                    "addressType": "IPv4",
                    "endpoints": [{
                        "addresses": ["10.0.0.7"],
                        "conditions": {"ready": ready, "serving": true, "terminating": !ready},
                        "targetRef": {"kind": "Pod", "name": "order-1", "uid": uid}
                    }],
                    "ports": []
                }))
                .unwrap(),
            )
        };
        let slices = [
            slice("order-pods", true, "a"),
            slice("order-pods", true, "a"),
            slice("order-pods", false, "b"),
            slice("order", true, "c"),
        ];
        let pods = ready_pods(&slices, "order-pods");
        assert_eq!(pods.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(pods["a"].address.to_string(), "10.0.0.7");
    }
}
