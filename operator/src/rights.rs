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
    Right {
        group: "",
        resources: &["pods"],
        verbs: &["list"],
        why: "drain: waits for the operator's last pod",
    },
];

/// In the operator's own namespace, on its own Deployment alone.
pub const OWN_DEPLOYMENT: &[Right] = &[
    Right {
        group: "apps",
        resources: &["deployments"],
        verbs: &["get"],
        why: "drain: the labels of the operator's pods",
    },
    Right {
        group: "apps",
        resources: &["deployments/scale"],
        verbs: &["patch"],
        why: "drain: the operator ends before its rights are removed",
    },
];

/// In the namespaces that are listed for experiments.
pub const CHAOS_NAMESPACES: &[Right] = &[Right {
    group: "",
    resources: &["pods/eviction"],
    verbs: &["create"],
    why: "chaos_experiment: podKill",
}];

/// Cluster-wide, on the one role that is named, because a Role cannot grant it.
pub const CLUSTER: &[Right] = &[Right {
    group: "rbac.authorization.k8s.io",
    resources: &["clusterroles"],
    verbs: &["bind"],
    why: "backup_policy/apply: the runner's role is handed on to the Job of a backup",
}];

/// Of the Job of a backup, not of the operator.
pub const BACKUP_RUNNER: &[Right] = &[
    Right {
        group: "resilience.valerix.io",
        resources: &["backups"],
        verbs: &["get"],
        why: "the runner reads its record",
    },
    Right {
        group: "resilience.valerix.io",
        resources: &["backups/status"],
        verbs: &["get", "patch"],
        why: "the runner takes the fence and reports",
    },
];

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

    fn flat_rules(rules: &[Value]) -> Flat {
        let mut flat = Flat::new();
        for rule in rules {
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

    fn template(name: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/valerix/templates");
        std::fs::read_to_string(format!("{folder}/{name}")).unwrap()
    }

    /// The rules that the chart grants wherever it watches: the lines of `_rules.tpl` without Helm's own.
    fn of_every_namespace() -> Flat {
        let rules: String = template("_rules.tpl")
            .lines()
            .skip_while(|line| !line.starts_with("{{- define"))
            .filter(|line| !line.starts_with("{{"))
            .map(|line| format!("{line}\n"))
            .collect();
        flat_rules(&serde_yaml::from_str::<Vec<Value>>(&rules).unwrap())
    }

    /// The roles that `rights.yaml` writes out: name without the release's part, whether a rule is for named objects
    /// alone, and the rules. Those that include `_rules.tpl` are left out.
    fn of_roles() -> Vec<(String, bool, Flat)> {
        let plain: String = template("rights.yaml")
            .lines()
            .filter(|line| !line.starts_with("{{"))
            .map(|line| match (line.find("{{"), line.find("}}")) {
                (Some(from), Some(to)) => {
                    let name = if line.contains("backupRunner") {
                        "runner"
                    } else {
                        "operator"
                    };
                    format!("{}{name}{}\n", &line[..from], &line[to + 2..])
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let mut roles = Vec::new();
        for document in plain.split("---\n") {
            let role: Value = serde_yaml::from_str(document).unwrap();
            let Some(rules) = role["rules"].as_array() else {
                continue;
            };
            let name = role["metadata"]["name"].as_str().unwrap();
            let (named, general): (Vec<_>, Vec<_>) =
                rules.iter().cloned().partition(|rule| rule["resourceNames"].is_array());
            for (is_named, rules) in [(true, named), (false, general)] {
                if !rules.is_empty() {
                    roles.push((name.to_owned(), is_named, flat_rules(&rules)));
                }
            }
        }
        roles
    }

    fn compare(what: &str, rights: &[Right], chart: &Flat) {
        let table = flat(rights);
        let missing: Vec<_> = table.difference(chart).collect();
        let excess: Vec<_> = chart.difference(&table).collect();
        assert!(
            missing.is_empty() && excess.is_empty(),
            "{what}: missing in the chart: {missing:?}; only in the chart: {excess:?}"
        );
    }

    #[test]
    fn the_chart_grants_what_the_tables_name_and_nothing_else() {
        compare("every watched namespace", WATCHED_NAMESPACES, &of_every_namespace());
        let mut roles = of_roles();
        for (name, named, rights) in [
            ("operator-cluster", true, CLUSTER),
            ("operator", true, OWN_DEPLOYMENT),
            ("operator", false, OWN_NAMESPACE),
            ("operator-chaos", false, CHAOS_NAMESPACES),
            ("runner", false, BACKUP_RUNNER),
        ] {
            let found = roles.iter().position(|role| role.0 == name && role.1 == named);
            let role = roles.remove(found.unwrap_or_else(|| panic!("no role {name} in the chart")));
            compare(name, rights, &role.2);
        }
        assert!(roles.is_empty(), "roles without a table: {roles:?}");
    }

    #[test]
    fn nothing_is_sweeping() {
        let tables = [
            WATCHED_NAMESPACES,
            OWN_NAMESPACE,
            OWN_DEPLOYMENT,
            CHAOS_NAMESPACES,
            CLUSTER,
            BACKUP_RUNNER,
        ];
        for right in tables.concat() {
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
