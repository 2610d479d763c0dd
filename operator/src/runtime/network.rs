//! The pieces that NetworkPolicies are put together from. Pure.

use k8s_openapi::{
    api::networking::v1::NetworkPolicyPort,
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use std::{collections::BTreeMap, net::IpAddr};

/// Port of DNS servers, wherever they are: on the node itself they have an address of no pod.
pub const DNS_PORT: i32 = 53;
/// Label that Kubernetes puts on a namespace: its name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespace and name of a Service whose host the cluster's DNS resolves: `name`, `name.namespace` or one of the longer
/// forms. An address is none.
pub fn cluster_service(host: &str, own_namespace: &str) -> Option<(String, String)> {
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let mut parts = host.split('.');
    let name = parts.next().filter(|_| !is_address)?;
    let namespace = parts.next().unwrap_or(own_namespace);
    matches!(parts.next(), None | Some("svc")).then(|| (namespace.to_owned(), name.to_owned()))
}

/// Selects by these labels.
pub fn select(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

/// Selects the namespace of this name.
pub fn namespace(name: &str) -> LabelSelector {
    select([(NAMESPACE_LABEL.to_owned(), name.to_owned())].into())
}

/// A port of TCP.
pub fn tcp(number: i32) -> NetworkPolicyPort {
    port("TCP", number)
}

/// A port of UDP.
pub fn udp(number: i32) -> NetworkPolicyPort {
    port("UDP", number)
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        ..NetworkPolicyPort::default()
    }
}
