//! The caches of this kind: BackupPolicies and what belongs to them. Reads watches; writes nothing.

use crate::runtime::{Cache, Runtime, Triggers, WatchOptions};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use kube::Resource;
use valerix_crds::{Backup, BackupPolicy, names::POLICY_LABEL};

/// One cache per kind. All but the first are found by their policy with [`Cache::of`].
#[derive(Clone)]
pub struct Stores {
    /// The policies themselves.
    pub policies: Cache<BackupPolicy>,
    /// Their records, also of policies that are gone.
    pub records: Cache<Backup>,
    /// ServiceAccounts `<policy>-backup` and `<policy>-verify`.
    pub service_accounts: Cache<ServiceAccount>,
    /// RoleBindings `<policy>-backup` and `<policy>-verify`.
    pub role_bindings: Cache<RoleBinding>,
    /// NetworkPolicies `<policy>-verify`.
    pub network_policies: Cache<NetworkPolicy>,
    /// CronJobs, of the policy's name.
    pub cron_jobs: Cache<CronJob>,
    /// Jobs of the CronJobs, of runs by hand and of trial restores.
    pub jobs: Cache<Job>,
    /// The pods of the Jobs, without the parts that nobody reads.
    pub pods: Cache<Pod>,
}

impl Stores {
    /// Starts the watches. A change of anything that carries a policy's label triggers that policy.
    pub fn watch(runtime: &Runtime) -> Self {
        let policies = runtime.watch::<BackupPolicy>(WatchOptions::new("backuppolicies"));
        let triggers = policies.triggers();
        Self {
            records: runtime.watch(child("backups", triggers)),
            service_accounts: runtime.watch(child("backup-serviceaccounts", triggers)),
            role_bindings: runtime.watch(child("backup-rolebindings", triggers)),
            network_policies: runtime.watch(child("backup-networkpolicies", triggers)),
            cron_jobs: runtime.watch(child("backup-cronjobs", triggers)),
            jobs: runtime.watch(child("backup-jobs", triggers).trim(trim_job)),
            pods: runtime.watch(child("backup-pods", triggers).trim(trim_pod)),
            policies,
        }
    }
}

fn child<K: Resource<DynamicType = ()>>(name: &'static str, triggers: &Triggers<BackupPolicy>) -> WatchOptions<K> {
    WatchOptions::children_of(name, POLICY_LABEL, POLICY_LABEL, triggers)
}

/// Keeps metadata and status: a Job's specification is the CronJob's.
fn trim_job(job: &mut Job) {
    job.spec = None;
}

/// Keeps metadata and container states.
fn trim_pod(pod: &mut Pod) {
    pod.spec = None;
}
