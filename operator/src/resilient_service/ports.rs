//! Where the pods of a service listen, by the names of their ports. Pure.

use super::{
    dereference::{Observed, named},
    ready_ports::ReadyPorts,
};
use k8s_openapi::{
    api::core::v1::{ContainerPort, Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};

impl Observed {
    /// The numbers at which the pods that stand have each named port: more than one while another number, or a guard,
    /// rolls out.
    pub fn standing_ports(&self) -> BTreeMap<String, BTreeSet<i32>> {
        let mut numbers: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for port in self.standing_pods().flat_map(ports) {
            if let Some(name) = &port.name {
                numbers.entry(name.clone()).or_default().insert(port.container_port);
            }
        }
        numbers
    }

    /// The same of those that are ready.
    pub fn ready_ports(&self) -> ReadyPorts {
        let mut ready = ReadyPorts::default();
        for pod in &self.pods {
            if !pod.uid().is_some_and(|uid| self.ready_pods.contains_key(&uid)) {
                continue;
            }
            ready.pods += usize::from(ports(pod).next().is_some());
            for port in ports(pod) {
                if let Some(name) = &port.name {
                    *ready.at.entry((name.clone(), port.container_port)).or_default() += 1;
                }
            }
        }
        ready
    }

    /// Where each port of the live Service of this name leads.
    pub fn standing_targets(&self, service: &str) -> BTreeMap<i32, IntOrString> {
        let spec = named(&self.children.services, service).and_then(|service| service.spec.as_ref());
        let ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
        ports
            .filter_map(|port| Some((port.port, port.target_port.clone()?)))
            .collect()
    }
}

fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten())
}
