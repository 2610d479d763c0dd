//! First step: what the caches have of one Restore and of the archives that it may mean. Reads stores only.

use super::stores::Stores;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{Backup, BackupPolicy, Restore, backup_runner, restore_runner};

/// What the caches have of one Restore.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What runs as the Job.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// What the Job may do.
    pub role_binding: Option<Arc<RoleBinding>>,
    /// The Job that restores.
    pub job: Option<Arc<Job>>,
    /// The Job that drops what was replaced.
    pub drop_job: Option<Arc<Job>>,
    /// The pods of both.
    pub pods: Vec<Arc<Pod>>,
    /// The records of the policy that is named, also of an earlier one of its name.
    pub records: Vec<Arc<Backup>>,
    /// The policy that is named.
    pub policy: Option<Arc<BackupPolicy>>,
    /// What the API server answered to the Job when it has no pod. Not in the caches: it is asked.
    pub refused: Option<String>,
}

impl Observed {
    /// The pods of a Job.
    pub fn pods_of<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Pod> + Clone {
        self.pods.iter().map(|pod| &**pod).filter(move |pod| {
            pod.labels()
                .get(backup_runner::JOB_NAME_LABEL)
                .is_some_and(|name| name == job)
        })
    }
}

/// Reads the stores.
pub fn dereference(restore: &Restore, stores: &Stores) -> Observed {
    let (namespace, name) = (restore.namespace().unwrap_or_default(), restore.name_any());
    let account = restore_runner::job_name(&name);
    let policy = restore.spec.source.policy_ref.as_ref().map(|policy| &policy.name);
    Observed {
        service_account: stores.service_accounts.get(&namespace, &account),
        role_binding: stores.role_bindings.get(&namespace, &account),
        job: stores.jobs.get(&namespace, &account),
        drop_job: stores.jobs.get(&namespace, &restore_runner::drop_job_name(&name)),
        pods: stores.pods.of(&namespace, &name),
        records: policy.map_or_else(Vec::new, |policy| stores.records.of(&namespace, policy)),
        policy: policy.and_then(|policy| stores.policies.get(&namespace, policy)),
        refused: None,
    }
}
