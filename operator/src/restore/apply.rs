//! Fourth step: children and Jobs. The only step that writes anything but the Restore's status and events.
//!
//! A Job is made once: its name is the Restore's, and who finds it taken by its own Restore has made it in an earlier life.

use super::{build::Resources, dereference::Observed, error::Error};
use crate::runtime::{
    Clients,
    apply::{Applier, controller_of},
    failure,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use prometheus::IntCounterVec;

/// Writes for one controller.
pub struct Writer {
    /// Applies children.
    pub applier: Applier,
    /// Reads and creates Jobs.
    pub clients: Clients,
    /// Counts writes.
    pub writes: IntCounterVec,
    /// Name of the controller.
    pub controller: &'static str,
}

impl Writer {
    /// Applies the children, then makes the Job, which needs them. Returns the Job as it is.
    ///
    /// # Errors
    /// The first that does not stand; [`Error::JobTaken`] if somebody else's Job has the name.
    pub async fn children(&self, resources: Resources, observed: &Observed) -> Result<Job, Error> {
        let Resources {
            service_account,
            role_binding,
            job,
        } = resources;
        let failed = |source| Error::Apply { source };
        self.applier
            .apply(&service_account, observed.service_account.as_deref())
            .await
            .map_err(failed)?;
        self.applier
            .apply(&role_binding, observed.role_binding.as_deref())
            .await
            .map_err(failed)?;
        self.job(&job).await
    }

    async fn job(&self, desired: &Job) -> Result<Job, Error> {
        let name = desired.name_any();
        let jobs: Api<Job> = self.clients.api(&desired.namespace().unwrap_or_default());
        self.writes.with_label_values(&[self.controller, "create"]).inc();
        let live = match jobs.create(&PostParams::default(), desired).await {
            Err(error) if failure::is_status(&error, 409) => {
                jobs.get(&name).await.map_err(Error::api("read the Job", &name))?
            }
            made => made.map_err(Error::api("create the Job", &name))?,
        };
        let owner_of = |job: &Job| controller_of(job).map(|owner| owner.uid.clone());
        if owner_of(&live) == owner_of(desired) {
            Ok(live)
        } else {
            Err(Error::JobTaken { name })
        }
    }

    /// Whether the Job is there, as the API server has it: the cache may not have heard of it yet.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn finds_job(&self, namespace: &str, name: &str) -> Result<bool, Error> {
        let jobs: Api<Job> = self.clients.api(namespace);
        let found = jobs.get_opt(name).await.map_err(Error::api("read the Job", name))?;
        Ok(found.is_some())
    }

    /// What the API server answered to a Job that has had no pod for a while. A Job says it in its events only.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn refusal(&self, namespace: &str, job: &Job) -> Result<Option<String>, Error> {
        const REASON: &str = "FailedCreate";
        let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
        let selector = format!("involvedObject.uid={uid},reason={REASON}");
        let api: Api<Event> = self.clients.api(namespace);
        let events = api
            .list(&ListParams::default().fields(&selector))
            .await
            .map_err(Error::api("read the events of the Job", &name))?;
        let own = events.items.into_iter().filter(|event| {
            event.involved_object.uid.as_ref() == Some(&uid) && event.reason.as_deref() == Some(REASON)
        });
        let newest = own.max_by(|left, right| left.last_timestamp.cmp(&right.last_timestamp));
        Ok(newest.and_then(|event| event.message))
    }
}
