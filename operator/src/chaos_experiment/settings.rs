//! What the operator's own configuration allows experiments to do.
//!
//! Pure.

use std::collections::BTreeSet;
use std::time::Duration;

/// Limits that no experiment can override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's own namespace: never hurt, and home of the stop order.
    pub operator_namespace: String,
    /// Namespaces in which pods may be evicted; `*` stands for all.
    pub eviction_namespaces: BTreeSet<String>,
    /// The longest fault.
    pub max_duration: Duration,
}

/// The longest fault when the chart does not say.
pub const DEFAULT_MAX_DURATION: Duration = Duration::from_secs(600);

impl Settings {
    /// Whether pods of `namespace` may be evicted.
    pub fn may_evict(&self, namespace: &str) -> bool {
        self.eviction_namespaces.contains(namespace) || self.eviction_namespaces.contains("*")
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
        let settings = Settings {
            operator_namespace: "valerix-system".into(),
            eviction_namespaces: ["*".to_owned()].into(),
            max_duration: DEFAULT_MAX_DURATION,
        };
        assert!(settings.denied("kube-system") && settings.denied("valerix-system") && !settings.denied("shop"));
        assert!(settings.may_evict("shop"));
    }
}
