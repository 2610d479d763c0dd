//! Where the pods that are ready listen. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// The ports of the pods that are ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadyPorts {
    /// Pods that name a port.
    pub(super) pods: usize,
    /// Pods that have the port of this name at this number.
    pub(super) at: BTreeMap<(String, i32), usize>,
}

impl ReadyPorts {
    /// Pods that a Service's port with this target leads to, and which listen there.
    pub fn behind(&self, target: &IntOrString) -> usize {
        let is_meant = |(name, number): &(String, i32)| match target {
            IntOrString::Int(wanted) => number == wanted,
            IntOrString::String(wanted) => name == wanted,
        };
        self.at
            .iter()
            .filter(|(port, _)| is_meant(port))
            .map(|(_, pods)| pods)
            .sum()
    }

    /// Whether each of them is among those.
    pub fn are_all_behind(&self, target: &IntOrString) -> bool {
        self.behind(target) >= self.pods
    }
}
