//! First step: what the caches have of one policy. Reads stores only.

use super::stores::Stores;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use kube::{Resource, ResourceExt};
use std::{collections::BTreeMap, sync::Arc};
use valerix_crds::{Backup, BackupPolicy, backup_runner};

/// What the caches have of one policy.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its own records, oldest slot first.
    pub records: Vec<Arc<Backup>>,
    /// Records of earlier policies of its name.
    pub strangers: Vec<Arc<Backup>>,
    /// What runs as the Job.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// What the Job may do.
    pub role_binding: Option<Arc<RoleBinding>>,
    /// What a trial restore runs as.
    pub verifier_account: Option<Arc<ServiceAccount>>,
    /// What a trial restore may do.
    pub verifier_binding: Option<Arc<RoleBinding>>,
    /// Whom a trial restore may talk to.
    pub network_policy: Option<Arc<NetworkPolicy>>,
    /// What starts the Job.
    pub cron_job: Option<Arc<CronJob>>,
    /// Jobs of the CronJob.
    pub jobs: Vec<Arc<Job>>,
    /// Jobs of trial restores.
    pub trials: Vec<Arc<Job>>,
    /// The Job that removes the archives of a policy that is being deleted.
    pub removal: Option<Arc<Job>>,
    /// Pods of the Jobs.
    pub pods: Vec<Arc<Pod>>,
    /// What the API server answered to Jobs that have no pod, by the Job's name. Not in the caches: it is asked.
    pub refused: BTreeMap<String, String>,
}

impl Observed {
    /// The own record of this name.
    pub fn record(&self, name: &str) -> Option<&Arc<Backup>> {
        self.records.iter().find(|record| record.name_any() == name)
    }

    /// The pods of a Job.
    pub fn pods_of<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Arc<Pod>> + Clone {
        self.pods.iter().filter(move |pod| {
            pod.labels()
                .get(backup_runner::JOB_NAME_LABEL)
                .is_some_and(|name| name == job)
        })
    }
}

/// Reads the stores.
pub fn dereference(policy: &BackupPolicy, stores: &Stores) -> Observed {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let uid = policy.uid().unwrap_or_default();
    let mut records = stores.records.of(&namespace, &name);
    let strangers = records
        .extract_if(.., |record| record.spec.policy_ref.uid != uid)
        .collect();
    records.sort_by(|left, right| left.spec.slot.cmp(&right.spec.slot));
    let account = format!("{name}-backup");
    let verifier = format!("{name}-verify");
    let mut jobs = live(stores.jobs.of(&namespace, &name));
    let trials = jobs.extract_if(.., |job| is_trial(job, &name)).collect();
    let removal = backup_runner::removal_job_name(&name, &uid);
    let removal = jobs.extract_if(.., |job| job.name_any() == removal).last();
    Observed {
        records,
        strangers,
        service_account: stores.service_accounts.get(&namespace, &account),
        role_binding: stores.role_bindings.get(&namespace, &account),
        verifier_account: stores.service_accounts.get(&namespace, &verifier),
        verifier_binding: stores.role_bindings.get(&namespace, &verifier),
        network_policy: stores.network_policies.get(&namespace, &verifier),
        cron_job: stores.cron_jobs.get(&namespace, &name),
        jobs,
        trials,
        removal,
        pods: stores.pods.of(&namespace, &name),
        refused: BTreeMap::new(),
    }
}

/// Whether a Job of this policy is a trial restore.
pub fn is_trial(job: &Job, policy: &str) -> bool {
    let name = job.name_any();
    name.strip_prefix(policy).is_some_and(|rest| rest.starts_with("-v"))
}

fn live<K: Resource>(objects: Vec<Arc<K>>) -> Vec<Arc<K>> {
    objects
        .into_iter()
        .filter(|object| object.meta().deletion_timestamp.is_none())
        .collect()
}
