//! The finalizer of a policy, the end of its runs, and the Job that removes its archives.

use super::{
    super::{build, dereference::Observed, error::Error, validate::Plan},
    Writer,
};
use crate::runtime::{Clients, FIELD_MANAGER, apply::controller_of, failure};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use valerix_crds::{BackupPolicy, names::BACKUP_FINALIZER};

impl Writer {
    /// Puts the finalizer or takes it away, if the policy is still as it was read. Says whether it is done.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn finalizer(&self, policy: &BackupPolicy, wanted: bool) -> Result<bool, Error> {
        self.count("finalizer");
        match put_finalizer(&self.clients, policy, wanted).await {
            Ok(()) => Ok(true),
            Err(error) if failure::is_status(&error, 404) => Ok(true),
            Err(error) if failure::is_status(&error, 409) => Ok(false),
            Err(error) => Err(Error::api("write the finalizer of", &policy.name_any())(error)),
        }
    }

    /// Deletes the CronJob, and with it its Jobs, so that nothing is stored any more.
    ///
    /// # Errors
    /// What the API server answered, except that it is gone already.
    pub async fn stop_runs(&self, policy: &BackupPolicy, observed: &Observed) -> Result<(), Error> {
        let ours = |cron_job: &CronJob| controller_of(cron_job).map(|owner| &owner.uid) == policy.metadata.uid.as_ref();
        let Some(cron_job) = observed.cron_job.as_ref().filter(|cron_job| ours(cron_job)) else {
            return Ok(());
        };
        let api: Api<CronJob> = self.clients.api(&policy.namespace().unwrap_or_default());
        self.delete(&api, &cron_job.name_any(), &**cron_job, None).await
    }

    /// Starts the Job that removes the archives; one of an earlier life is as good. False where the namespace is being
    /// deleted.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn start_removal(&self, plan: &Plan) -> Result<bool, Error> {
        let jobs: Api<Job> = self.clients.api(&plan.namespace);
        let desired = build::build_removal_job(plan);
        match self.create(&jobs, &desired, "create the Job").await {
            Ok(_) => Ok(true),
            Err(Error::Api { source, .. }) if failure::is_of_a_going_namespace(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Puts the finalizer or takes it away, if the policy is still as it was read.
pub async fn put_finalizer(clients: &Clients, policy: &BackupPolicy, wanted: bool) -> Result<(), kube::Error> {
    let mut finalizers = policy.finalizers().to_vec();
    finalizers.retain(|name| name != BACKUP_FINALIZER);
    if wanted {
        finalizers.push(BACKUP_FINALIZER.to_owned());
    }
    let body = json!({"metadata": {
        "uid": policy.uid(), "resourceVersion": policy.resource_version(), "finalizers": finalizers,
    }});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let api: Api<BackupPolicy> = clients.api(&policy.namespace().unwrap_or_default());
    api.patch(&policy.name_any(), &parameters, &Patch::Merge(&body))
        .await
        .map(|_| ())
}
