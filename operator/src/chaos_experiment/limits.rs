//! What the operator's own configuration allows experiments to do.
//!
//! Pure.

use crate::allowed_url::AllowedUrl;
use std::collections::BTreeSet;
use std::time::Duration;

/// Field manager of the fault document and of what this controller says on a service.
pub const FIELD_MANAGER: &str = "valerix-chaos";

/// Limits that no experiment can override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The operator's own namespace: never hurt, and home of the stop order.
    pub operator_namespace: String,
    /// Namespaces in which pods may be evicted.
    pub eviction_namespaces: BTreeSet<String>,
    /// The longest fault; never longer than the pods' documents can say.
    pub max_duration: Duration,
    /// Addresses outside of an experiment's own namespace that its probes may ask.
    pub probe_urls: Vec<AllowedUrl>,
}

impl Limits {
    /// Whether pods of `namespace` may be evicted.
    pub fn may_evict(&self, namespace: &str) -> bool {
        self.eviction_namespaces.contains(namespace)
    }

    /// Whether no experiment may touch `namespace`, whatever anyone says.
    pub fn denied(&self, namespace: &str) -> bool {
        namespace == "kube-system" || namespace == self.operator_namespace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_and_kube_system_are_denied_always() {
        let limits = Limits {
            operator_namespace: "valerix-system".into(),
            eviction_namespaces: ["shop".to_owned(), "kube-system".to_owned()].into(),
            max_duration: Duration::from_secs(600),
            probe_urls: vec![],
        };
        assert!(limits.denied("kube-system") && limits.denied("valerix-system") && !limits.denied("shop"));
        assert!(limits.may_evict("shop") && !limits.may_evict("other"));
    }
}
