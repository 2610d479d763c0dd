//! What the operator may do, verb by verb, with the line of the program that needs it. The chart's rules are generated
//! from these tables.
//!
//! No wildcard, no Secrets, and no write to a pod but its nudge annotation.

use crate::runtime::leader::LEASE_NAME;
use valerix_crds::names::SAFETY_CONFIG_MAP;

/// A right: verbs on resources of one API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources and subresources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// The objects by name, where the right is for these alone; an expression of the chart's templates may stand for one.
    pub names: &'static [&'static str],
    /// What needs it.
    pub why: &'static str,
}

/// Where rules are granted to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In every namespace that it works in.
    Scopes,
    /// In its own namespace.
    OwnNamespace,
    /// In the namespaces that are listed for experiments.
    ChaosNamespaces,
    /// Cluster-wide.
    Cluster,
    /// Cluster-wide, where whoever reads the metrics is asked for a token.
    WhoScrapes,
    /// Nowhere: they are somebody else's.
    Others,
}

/// The rules of one role of the chart.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Name of the template that holds them.
    pub template: &'static str,
    /// Where they are granted to the operator.
    pub place: Place,
    /// Where they are granted, and to whom.
    pub granted: &'static str,
    /// The rights.
    pub rights: &'static [Right],
}

const READ: &[&str] = &["get", "list", "watch"];
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const OURS: &str = "resilience.valerix.io";
/// Stands for the name of the operator's own Deployment.
pub const OWN_DEPLOYMENT: &str = "{{ include \"valerix.serviceAccount\" . }}";
/// Stands for the name of the role of a backup's Job.
pub const BACKUP_RUNNER: &str = "{{ include \"valerix.backupRunner\" . }}";
/// Stands for the name of the role of a Restore's Job.
pub const RESTORE_RUNNER: &str = "{{ include \"valerix.restoreRunner\" . }}";

const fn right(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right {
        group,
        resources,
        verbs,
        names: &[],
        why,
    }
}

impl Right {
    const fn on(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }
}

/// Every role of the chart.
pub const ROLES: &[Rules] = &[
    Rules {
        template: "valerix.rules",
        place: Place::Scopes,
        granted: "to the operator, in every namespace that it works in",
        rights: &[
            right(
                OURS,
                &[
                    "resilientservices",
                    "chaosexperiments",
                    "backuppolicies",
                    "backups",
                    "restores",
                ],
                READ,
                "the caches of the kinds",
            ),
            right(
                OURS,
                &["chaosexperiments"],
                &["patch"],
                "chaos_experiment: the finalizer from intent to recovery",
            ),
            right(
                OURS,
                &["backuppolicies"],
                &["patch"],
                "backup_policy/apply: the finalizer of one whose archives go with it; drain takes it away",
            ),
            right(
                OURS,
                &["backups"],
                &["create", "delete"],
                "backup_policy/apply: the record of a slot, ahead of its run; an unused one of an earlier policy of the name makes room; one whose archive was removed goes with it",
            ),
            right(
                OURS,
                &[
                    "resilientservices/status",
                    "chaosexperiments/status",
                    "backuppolicies/status",
                    "backups/status",
                    "restores/status",
                ],
                &["get", "patch"],
                "runtime/publish",
            ),
            right(
                OURS,
                &[
                    "resilientservices/finalizers",
                    "backuppolicies/finalizers",
                    "restores/finalizers",
                ],
                &["update"],
                "owner references with blockOwnerDeletion, where the API server enforces the permission",
            ),
            right(
                "",
                &["configmaps", "services", "serviceaccounts"],
                KEEP,
                "resilient_service/apply: children; chaos_experiment: the key faults.json",
            ),
            right("apps", &["deployments"], KEEP, "resilient_service/apply: the workload"),
            right(
                "autoscaling",
                &["horizontalpodautoscalers"],
                KEEP,
                "resilient_service/apply: who decides how many pods there are",
            ),
            right(
                "policy",
                &["poddisruptionbudgets"],
                KEEP,
                "resilient_service/apply: how many pods may be evicted at a time",
            ),
            right(
                "networking.k8s.io",
                &["networkpolicies"],
                KEEP,
                "resilient_service/apply: who may talk to the pods; backup_policy/apply: whom a trial restore may talk to",
            ),
            right(
                "monitoring.coreos.com",
                &["servicemonitors"],
                KEEP,
                "resilient_service/apply: who scrapes the pods, where the cluster knows the kind",
            ),
            right(
                "apps",
                &["replicasets"],
                READ,
                "resilient_service/rollout: which template is the current one",
            ),
            right("batch", &["cronjobs"], KEEP, "backup_policy/apply: one per policy"),
            right(
                "batch",
                &["jobs"],
                &["get", "list", "watch", "create", "delete"],
                "backup_policy: a run by hand, the day's run after one that failed, and the end of the archives of a deleted policy; restore/apply: one per Restore, and one that drops what it replaced",
            ),
            right(
                "batch",
                &["cronjobs/finalizers"],
                &["update"],
                "backup_policy: a Job by hand is owned by the CronJob",
            ),
            right(
                "rbac.authorization.k8s.io",
                &["rolebindings"],
                KEEP,
                "backup_policy/apply and restore/apply: the runner reports into its record or its Restore",
            ),
            right(
                "",
                &["pods"],
                READ,
                "resilient_service/rollout: why one does not start; chaos_experiment: age and state of targets",
            ),
            right(
                "",
                &["pods/status"],
                &["patch"],
                "resilient_service/nudge: one annotation, fenced by the chart's ValidatingAdmissionPolicy",
            ),
            right(
                "discovery.k8s.io",
                &["endpointslices"],
                READ,
                "resilient_service/dereference: ready pods and their addresses",
            ),
            right(
                "",
                &["events"],
                &["list"],
                "backup_policy/apply and restore/apply: a Job says in its events only why it has no pod; resilient_service/mounts: a pod, what its volumes lack",
            ),
            right(
                "events.k8s.io",
                &["events"],
                &["create", "patch"],
                "runtime/events: a repeated event is patched",
            ),
        ],
    },
    Rules {
        template: "valerix.rules.own",
        place: Place::OwnNamespace,
        granted: "to the operator, in its own namespace beside those of a watched one",
        rights: &[
            right(
                "coordination.k8s.io",
                &["leases"],
                &["get", "list", "watch", "update"],
                "runtime/leader: taken and renewed by update, watched by a standby",
            )
            .on(&[LEASE_NAME]),
            right(
                "coordination.k8s.io",
                &["leases"],
                &["create"],
                "runtime/leader: the first one; what does not exist yet has no name to be restricted to",
            ),
            right(
                "",
                &["configmaps"],
                &["get", "patch", "delete"],
                "chaos_experiment: the switch that stops every experiment is read; drain writes and lifts it",
            )
            .on(&[SAFETY_CONFIG_MAP]),
            right(
                "",
                &["configmaps"],
                &["create"],
                "drain: the switch, where there is none",
            ),
            right("", &["pods"], &["list"], "drain: waits for the operator's last pod"),
            right(
                "apps",
                &["deployments"],
                &["get"],
                "drain: the labels of the operator's pods",
            )
            .on(&[OWN_DEPLOYMENT]),
            right(
                "apps",
                &["deployments/scale"],
                &["patch"],
                "drain: the operator ends before its rights are removed",
            )
            .on(&[OWN_DEPLOYMENT]),
        ],
    },
    Rules {
        template: "valerix.rules.chaos",
        place: Place::ChaosNamespaces,
        granted: "to the operator, in the namespaces that are listed for experiments",
        rights: &[
            right(
                "",
                &["pods/eviction"],
                &["create"],
                "chaos_experiment: podKill evicts, here and nowhere else",
            ),
            right(
                "",
                &["pods"],
                &["delete"],
                "chaos_experiment: podKill with method Delete, here and nowhere else",
            ),
        ],
    },
    Rules {
        template: "valerix.rules.cluster",
        place: Place::Cluster,
        granted: "to the operator, cluster-wide in both forms, because a Role cannot grant it",
        rights: &[
            right(
                "apiextensions.k8s.io",
                &["customresourcedefinitions"],
                &["get", "list", "watch"],
                "runtime/definition: whether the cluster knows ServiceMonitors, which the Prometheus operator brings",
            )
            .on(&["servicemonitors.monitoring.coreos.com"]),
            right(
                OURS,
                &["backuppolicies"],
                &["get", "list", "watch", "patch"],
                "backup_policy/going: a finalizer goes in a namespace whose Role is deleted with it, and where the operator does not work any more",
            ),
            right(
                "",
                &["namespaces"],
                &["get"],
                "backup_policy/going: whether a refusal is that of a namespace that is being deleted",
            ),
            right(
                "rbac.authorization.k8s.io",
                &["clusterroles"],
                &["bind"],
                "backup_policy/apply: handed on to the Job of a backup",
            )
            .on(&[BACKUP_RUNNER]),
            right(
                "rbac.authorization.k8s.io",
                &["clusterroles"],
                &["bind"],
                "restore/apply: handed on to the Job of a Restore",
            )
            .on(&[RESTORE_RUNNER]),
        ],
    },
    Rules {
        template: "valerix.rules.scrapers",
        place: Place::WhoScrapes,
        granted: "to the operator, cluster-wide, where metrics.authentication is true",
        rights: &[
            right(
                "authentication.k8s.io",
                &["tokenreviews"],
                &["create"],
                "runtime/scrapers: whose token it is that asks for the metrics",
            ),
            right(
                "authorization.k8s.io",
                &["subjectaccessreviews"],
                &["create"],
                "runtime/scrapers: whether that one may read them",
            ),
        ],
    },
    Rules {
        template: "valerix.rules.backupRunner",
        place: Place::Others,
        granted: "to the Job of a backup, not to the operator",
        rights: &[
            right(OURS, &["backups"], &["get"], "the runner reads its record"),
            right(
                OURS,
                &["backups/status"],
                &["get", "patch"],
                "the runner takes the fence and reports",
            ),
        ],
    },
    Rules {
        template: "valerix.rules.restoreRunner",
        place: Place::Others,
        granted: "to the Job of a Restore, not to the operator",
        rights: &[
            right(OURS, &["restores"], &["get"], "the runner reads its Restore"),
            right(
                OURS,
                &["restores/status"],
                &["get", "patch"],
                "the runner takes the Restore over and reports",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sweeping() {
        for right in ROLES.iter().flat_map(|role| role.rights) {
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

    #[test]
    fn in_its_own_namespace_the_operator_changes_nothing_but_what_is_named() {
        let own = ROLES.iter().find(|role| role.template == "valerix.rules.own").unwrap();
        for right in own.rights.iter().filter(|right| right.names.is_empty()) {
            assert!(right.verbs == ["create"] || right.verbs == ["list"], "{right:?}");
        }
    }
}
