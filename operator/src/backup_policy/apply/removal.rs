//! The finalizer of a policy, the end of its runs, and the Job that removes its archives.

use super::{
    super::{
        build,
        dereference::Observed,
        error::Error,
        removal::{deadline, handed},
        validate::Plan,
    },
    Writer,
};
use crate::runtime::{Clients, FIELD_MANAGER, apply::controller_of, failure};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Namespace,
};
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

    /// Starts the Job that removes the archives. False where there is one already, of an earlier life or about to go.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn start_removal(&self, plan: &Plan, policy: &BackupPolicy, observed: &Observed) -> Result<bool, Error> {
        let jobs: Api<Job> = self.clients.api(&plan.namespace);
        let records = &observed.records;
        let desired = build::build_removal_job(plan, deadline(records), &handed(policy, records));
        self.create(&jobs, &desired, "create the Job").await
    }

    /// Whether what was refused was refused because the namespace is being deleted: nothing can be made there any more, and
    /// rights that were given by a Role there are gone before the policy is.
    pub async fn is_of_a_going_namespace(&self, namespace: &str, error: &Error) -> bool {
        let Error::Api { source, .. } = error else {
            return false;
        };
        if !failure::is_status(source, 403) {
            return false;
        }
        failure::is_of_a_going_namespace(source) || self.is_going(namespace).await
    }

    /// Whether a namespace is being deleted, as far as the API server tells.
    pub async fn is_going(&self, namespace: &str) -> bool {
        let namespaces: Api<Namespace> = Api::all(self.clients.write.clone());
        let found = namespaces.get_opt(namespace).await;
        found.is_ok_and(|found| found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()))
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
