//! The caches of this kind: Restores, what belongs to them, and where archives are. Reads watches; writes nothing.

use crate::runtime::{Cache, Runtime, Triggers, WatchOptions};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::Resource;
use valerix_crds::{
    Backup, BackupPolicy, Restore,
    names::{POLICY_LABEL, RESTORE_LABEL},
};

/// One cache per kind. Children are found by their Restore, records by their policy, with [`Cache::of`].
#[derive(Clone)]
pub struct Stores {
    /// The Restores themselves.
    pub restores: Cache<Restore>,
    /// ServiceAccounts `<restore>-restore`.
    pub service_accounts: Cache<ServiceAccount>,
    /// RoleBindings `<restore>-restore`.
    pub role_bindings: Cache<RoleBinding>,
    /// The Jobs that restore, and those that drop what was replaced.
    pub jobs: Cache<Job>,
    /// Their pods, without the parts that nobody reads.
    pub pods: Cache<Pod>,
    /// The records of archives.
    pub records: Cache<Backup>,
    /// The policies: how a bucket is reached.
    pub policies: Cache<BackupPolicy>,
}

impl Stores {
    /// Starts the watches. A change of a child triggers its Restore; one of a record or a policy every Restore, since any
    /// may wait for it.
    pub fn watch(runtime: &Runtime) -> Self {
        let restores = runtime.watch::<Restore>(WatchOptions::new("restores"));
        let triggers = restores.triggers();
        let (by_record, by_policy) = (triggers.clone(), triggers.clone());
        Self {
            service_accounts: runtime.watch(child("restore-serviceaccounts", triggers)),
            role_bindings: runtime.watch(child("restore-rolebindings", triggers)),
            jobs: runtime.watch(child("restore-jobs", triggers)),
            pods: runtime.watch(child("restore-pods", triggers).trim(trim_pod)),
            records: runtime.watch(
                WatchOptions::new("restore-backups")
                    .labels(POLICY_LABEL)
                    .indexed_by(POLICY_LABEL)
                    .on_change(move |_| by_record.trigger_all()),
            ),
            policies: runtime
                .watch(WatchOptions::new("restore-backuppolicies").on_change(move |_| by_policy.trigger_all())),
            restores,
        }
    }
}

fn child<K: Resource<DynamicType = ()>>(name: &'static str, triggers: &Triggers<Restore>) -> WatchOptions<K> {
    WatchOptions::children_of(name, RESTORE_LABEL, RESTORE_LABEL, triggers)
}

/// Keeps metadata and container states.
fn trim_pod(pod: &mut Pod) {
    pod.spec = None;
}
