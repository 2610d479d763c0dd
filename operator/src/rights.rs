//! What the operator may do, verb by verb, with the line of the program that needs it. The chart's roles are compared
//! with this table by a test, so that neither grows alone.
//!
//! No wildcard, no Secrets, and no write to a pod but its nudge annotation.

/// A right: verbs on resources of one API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources and subresources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What needs it.
    pub why: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// In every namespace that is watched.
pub const WATCHED_NAMESPACES: &[Right] = &[
    Right {
        group: "resilience.valerix.io",
        resources: &["resilientservices", "chaosexperiments", "backuppolicies", "backups"],
        verbs: READ,
        why: "the caches of the kinds",
    },
    Right {
        group: "resilience.valerix.io",
        resources: &["chaosexperiments"],
        verbs: &["patch"],
        why: "chaos_experiment: the finalizer from intent to recovery; drain",
    },
    Right {
        group: "resilience.valerix.io",
        resources: &["backups"],
        verbs: &["create", "delete"],
        why: "backup_policy/apply: the record of a slot, ahead of its run; an unused one of an earlier policy of the name makes room",
    },
    Right {
        group: "resilience.valerix.io",
        resources: &[
            "resilientservices/status",
            "chaosexperiments/status",
            "backuppolicies/status",
            "backups/status",
        ],
        verbs: &["get", "patch"],
        why: "runtime/publish",
    },
    Right {
        group: "resilience.valerix.io",
        resources: &["resilientservices/finalizers", "backuppolicies/finalizers"],
        verbs: &["update"],
        why: "owner references with blockOwnerDeletion, where the API server enforces the permission",
    },
    Right {
        group: "",
        resources: &["configmaps", "services", "serviceaccounts"],
        verbs: KEEP,
        why: "resilient_service/apply: children; chaos_experiment: the key faults.json",
    },
    Right {
        group: "apps",
        resources: &["deployments"],
        verbs: KEEP,
        why: "resilient_service/apply: the workload",
    },
    Right {
        group: "batch",
        resources: &["cronjobs"],
        verbs: KEEP,
        why: "backup_policy/apply: one per policy",
    },
    Right {
        group: "batch",
        resources: &["jobs"],
        verbs: &["get", "list", "watch", "create", "delete"],
        why: "backup_policy: a run by hand",
    },
    Right {
        group: "batch",
        resources: &["cronjobs/finalizers"],
        verbs: &["update"],
        why: "backup_policy: a Job by hand is owned by the CronJob",
    },
    Right {
        group: "rbac.authorization.k8s.io",
        resources: &["rolebindings"],
        verbs: KEEP,
        why: "backup_policy/apply: the runner reports into its record",
    },
    Right {
        group: "",
        resources: &["pods"],
        verbs: READ,
        why: "resilient_service/rollout: why one does not start; chaos_experiment: age and state of targets",
    },
    Right {
        group: "",
        resources: &["pods/status"],
        verbs: &["patch"],
        why: "resilient_service/nudge: one annotation, fenced by the chart's ValidatingAdmissionPolicy",
    },
    Right {
        group: "discovery.k8s.io",
        resources: &["endpointslices"],
        verbs: READ,
        why: "resilient_service/dereference: ready pods and their addresses",
    },
    Right {
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch"],
        why: "runtime/events: a repeated event is patched",
    },
];

/// In the operator's own namespace, beside the rights of a watched one.
pub const OWN_NAMESPACE: &[Right] = &[
    Right {
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "list", "watch", "create", "update"],
        why: "runtime/leader: taken and renewed by update, watched by a standby",
    },
    Right {
        group: "",
        resources: &["configmaps"],
        verbs: KEEP,
        why: "chaos_experiment: the switch that stops every experiment is read; drain writes and lifts it",
    },
];

/// In the namespaces that are listed for experiments.
pub const CHAOS_NAMESPACES: &[Right] = &[Right {
    group: "",
    resources: &["pods/eviction"],
    verbs: &["create"],
    why: "chaos_experiment: podKill",
}];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    type Flat = BTreeSet<(String, String, String)>;

    fn flat(rights: &[Right]) -> Flat {
        let one = |right: &Right| {
            let right = *right;
            right.resources.iter().flat_map(move |resource| {
                right
                    .verbs
                    .iter()
                    .map(move |verb| (right.group.to_owned(), (*resource).to_owned(), (*verb).to_owned()))
            })
        };
        rights.iter().flat_map(one).collect()
    }

    fn texts(rule: &Value, field: &str) -> Vec<String> {
        let items = rule[field]
            .as_array()
            .unwrap_or_else(|| panic!("{rule} has no {field}"));
        items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    }

    /// The rules that the chart grants wherever it watches: the lines of `_rules.tpl` without Helm's own.
    fn of_the_chart() -> Flat {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/valerix/templates/_rules.tpl");
        let template = std::fs::read_to_string(path).unwrap();
        let rules: String = template
            .lines()
            .skip_while(|line| !line.starts_with("{{- define"))
            .filter(|line| !line.starts_with("{{"))
            .map(|line| format!("{line}\n"))
            .collect();
        let rules: Vec<Value> = serde_yaml::from_str(&rules).unwrap();
        let mut flat = Flat::new();
        for rule in &rules {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for verb in texts(rule, "verbs") {
                        flat.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
        flat
    }

    #[test]
    fn the_chart_grants_what_the_table_names_and_nothing_else() {
        let (table, chart) = (flat(WATCHED_NAMESPACES), of_the_chart());
        let missing: Vec<_> = table.difference(&chart).collect();
        let excess: Vec<_> = chart.difference(&table).collect();
        assert!(
            missing.is_empty() && excess.is_empty(),
            "missing in the chart: {missing:?}; only in the chart: {excess:?}"
        );
    }

    #[test]
    fn nothing_is_sweeping() {
        for right in [WATCHED_NAMESPACES, OWN_NAMESPACE, CHAOS_NAMESPACES].concat() {
            let words = right.resources.iter().chain(right.verbs).chain([&right.group]);
            assert!(
                words.clone().all(|word| !word.contains('*') && *word != "secrets"),
                "{right:?}"
            );
            assert!(
                !(right.resources.contains(&"pods") && right.verbs.contains(&"patch")),
                "{right:?}"
            );
            assert!(!right.why.is_empty());
        }
    }
}
