//! A pod of a service.

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Pod;
use schemars::JsonSchema;
use serde::Serialize;
use valerix_crds::names::SERVICE_LABEL;

use super::{identity, moment};

/// A pod.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The service that it belongs to.
    pub service: String,
    /// `Running`, `Pending` and so on; `Terminating` once it is to go.
    pub phase: String,
    /// Whether requests are sent to it.
    pub ready: bool,
    /// Where it runs.
    pub node: Option<String>,
    /// How often its containers were started anew.
    pub restarts: i32,
    /// Since when it exists.
    pub since: Option<DateTime<Utc>>,
    /// Its address, which is nobody's business but ours.
    #[serde(skip)]
    pub address: Option<std::net::IpAddr>,
}

impl From<&Pod> for PodView {
    fn from(pod: &Pod) -> Self {
        let (namespace, name) = identity(&pod.metadata);
        let status = pod.status.clone().unwrap_or_default();
        let labels = pod.metadata.labels.as_ref();
        let ready = (status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let phase = if leaving {
            Some("Terminating".to_owned())
        } else {
            status.phase
        };
        let containers = status.container_statuses.iter().flatten();
        Self {
            service: labels
                .and_then(|labels| labels.get(SERVICE_LABEL))
                .cloned()
                .unwrap_or_default(),
            phase: phase.unwrap_or_default(),
            ready: ready && !leaving,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            restarts: containers.map(|container| container.restart_count).sum(),
            since: pod.metadata.creation_timestamp.as_ref().and_then(moment),
            address: status.pod_ip.and_then(|address| address.parse().ok()),
            namespace,
            name,
        }
    }
}
