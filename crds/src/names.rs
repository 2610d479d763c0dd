//! Names that several parts of the product agree on: labels, annotations, finalizers, condition types.

/// Label on every object that the operator creates.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "valerix";
/// Label that selects the pods of one service.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label that says which part of the work a pod does, where a NetworkPolicy has to tell it from its siblings.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT_LABEL`] on the pods of a trial restore.
pub const TRIAL_RESTORE: &str = "trial-restore";
/// Label that names the ResilientService that a child belongs to.
pub const SERVICE_LABEL: &str = "resilience.valerix.io/service";
/// Label on the headless Service that names every pod of a service: what scrapes the pods finds it by that.
pub const HEADLESS_LABEL: &str = "resilience.valerix.io/headless";
/// Annotation that lets a ResilientService take over an object of a child's name that nobody controls: `true`.
pub const ADOPT_ANNOTATION: &str = "resilience.valerix.io/adopt";
/// Label that names the BackupPolicy that a record, Job or pod belongs to.
pub const POLICY_LABEL: &str = "resilience.valerix.io/policy";
/// Label on a Backup record and its Job: the day it stands for, `yyyy-mm-dd`.
pub const SLOT_LABEL: &str = "resilience.valerix.io/slot";
/// Label that names the Restore that a Job or pod belongs to.
pub const RESTORE_LABEL: &str = "resilience.valerix.io/restore";
/// Annotation on a child: hash of the desired state that was applied last.
pub const APPLIED_ANNOTATION: &str = "resilience.valerix.io/applied";
/// Annotation on the pods of a service that is started anew for a new policy: hash of that policy.
pub const CONFIG_ANNOTATION: &str = "resilience.valerix.io/config";
/// Annotation on a pod: a new value makes the kubelet refresh the pod's ConfigMap volumes at once.
pub const NUDGE_ANNOTATION: &str = "resilience.valerix.io/nudge";
/// Annotation on a ChaosExperiment or BackupPolicy: a new value asks for a run now.
pub const RUN_ANNOTATION: &str = "resilience.valerix.io/run";
/// Annotation on a ChaosExperiment: `true` lets the finalizer go although the fault could not be read back as gone.
pub const FORCE_FINALIZE_ANNOTATION: &str = "resilience.valerix.io/force-finalize";
/// Label on the pods of a guarded service: a hash of which ports its guard stands before.
pub const GUARD_LABEL: &str = "resilience.valerix.io/guard";
/// Name of the guard's container.
pub const GUARD_CONTAINER: &str = "valerix-guard";
/// Finalizer of a ChaosExperiment, present from the persisted intent until the fault is read back as gone.
pub const CHAOS_FINALIZER: &str = "resilience.valerix.io/recover";
/// Finalizer of a BackupPolicy with `deletionPolicy: Delete`, present until its archives are removed or left for good.
pub const BACKUP_FINALIZER: &str = "resilience.valerix.io/remove-archives";
/// ConfigMap in the operator's namespace that stops every experiment while its key `stop` is set.
pub const SAFETY_CONFIG_MAP: &str = "valerix-safety";

/// Key of the policy document in the ConfigMap `<service>-policy`.
pub const POLICY_KEY: &str = "policy.v1.json";
/// Key of the fault document in the ConfigMap `<service>-policy`.
pub const FAULTS_KEY: &str = "faults.json";
/// Key of the runtime document in the ConfigMap `<service>-policy`.
pub const RUNTIME_KEY: &str = "runtime.json";

/// Name of the ConfigMap that carries a service's documents.
pub fn policy_config_map(service: &str) -> String {
    format!("{service}-policy")
}

/// Name of the headless Service whose records are the pods of a service.
pub fn pods_service(service: &str) -> String {
    format!("{service}-pods")
}

/// Condition types, one constant each, so that a typo does not compile.
pub mod condition {
    /// The object does what its spec asks for.
    pub const READY: &str = "Ready";
    /// Enough replicas are ready.
    pub const AVAILABLE: &str = "Available";
    /// A rollout is under way.
    pub const PROGRESSING: &str = "Progressing";
    /// Every ready pod reported the current configuration hash.
    pub const CONFIG_APPLIED: &str = "ConfigApplied";
    /// No pod reports an open or half-open circuit.
    pub const CIRCUITS_CLOSED: &str = "CircuitsClosed";
    /// Every owned object stands as desired.
    pub const RESOURCES_READY: &str = "ResourcesReady";
    /// Something works but deserves a look.
    pub const WARNING: &str = "Warning";
    /// The controller is still working on the current generation (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// The controller cannot go on without help (kstatus).
    pub const STALLED: &str = "Stalled";

    /// The targets of a run were chosen.
    pub const TARGETS_SELECTED: &str = "TargetsSelected";
    /// Every target reported the fault as active (or was evicted).
    pub const INJECTED: &str = "Injected";
    /// The fault was read back as gone.
    pub const RECOVERED: &str = "Recovered";
    /// The probes passed.
    pub const STEADY_STATE: &str = "SteadyState";
    /// The run reached a terminal phase.
    pub const COMPLETED: &str = "Completed";

    /// The CronJob stands and its next run is known.
    pub const SCHEDULED: &str = "Scheduled";
    /// The newest slot ended with a stored archive.
    pub const LAST_BACKUP_SUCCEEDED: &str = "LastBackupSucceeded";
    /// The newest archive was restored and compared.
    pub const VERIFIED: &str = "Verified";
    /// No archive was stored for more than 26 hours.
    pub const STALE: &str = "Stale";
    /// Archives that are to go have gone.
    pub const RETENTION_HEALTHY: &str = "RetentionHealthy";
    /// The object store refuses to overwrite.
    pub const CONDITIONAL_WRITES: &str = "ConditionalWrites";
}
