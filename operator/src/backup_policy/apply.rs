//! Fourth step: children, records and Jobs. The only step that writes anything but the policy's status and events.
//!
//! Each write can be repeated after a kill at any point: names are fixed by policy and day, creation adopts what an
//! earlier life made, deletion names a UID, and a record is changed only as it was judged.

mod removal;
mod run;
mod verification;

pub use removal::put_finalizer;
pub use run::ByHand;

use super::{
    build::{self, Resources},
    dereference::{Observed, is_trial},
    error::Error,
    job::{JobState, job_state, lacks_pod},
    records::{Correction, Evidence, Rebuild, correction_patch, told_patch},
    slot::Slot,
    validate::Plan,
};
use crate::runtime::{
    Clients,
    apply::{Applied, Applier, controller_of},
    failure,
};
use chrono::{DateTime, Utc};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Event,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::NamespaceResourceScope,
};
use prometheus::IntCounterVec;
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt::Debug};
use valerix_crds::{
    Backup, BackupPolicy, UploadState,
    names::{APPLIED_ANNOTATION, POLICY_LABEL},
};

/// Writes for one controller.
pub struct Writer {
    /// Applies children.
    pub applier: Applier,
    /// Reads and writes records and Jobs.
    pub clients: Clients,
    /// Counts writes.
    pub writes: IntCounterVec,
    /// Name of the controller.
    pub controller: &'static str,
}

impl Writer {
    /// Keeps trial restores from everybody whom they need not talk to: to be called before any begins. Adds to `repaired`
    /// what was put back.
    ///
    /// # Errors
    /// That the NetworkPolicy does not stand as desired. Backups and trials go on all the same.
    pub async fn confine(
        &self,
        plan: &Plan,
        resources: &Resources,
        observed: &Observed,
        repaired: &mut Vec<String>,
    ) -> Result<(), Error> {
        let live = observed.network_policy.as_deref();
        if let Some(desired) = &resources.network_policy {
            let outcome = self.applier.apply(desired, live).await;
            if outcome.map_err(|source| Error::Apply { source })? == Applied::Repaired {
                repaired.push(format!("NetworkPolicy {}", desired.name_any()));
            }
            return Ok(());
        }
        let Some(live) = live else { return Ok(()) };
        // Without trials any more, the one at work is held back to its end. With None it is let go at once: it may hang on this.
        if build::holds_back(plan) && self.trial_at_work(plan, observed).await? {
            return Ok(());
        }
        self.prune(&resources.cron_job, live).await
    }

    /// Whether a trial restore is at work. The cache may not have one that was just begun.
    async fn trial_at_work(&self, plan: &Plan, observed: &Observed) -> Result<bool, Error> {
        let at_work = |job: &Job| job_state(job) == JobState::Active;
        if observed.trials.iter().any(|job| at_work(job)) {
            return Ok(true);
        }
        let jobs: Api<Job> = self.clients.api(&plan.namespace);
        let of_policy = ListParams::default().labels(&format!("{POLICY_LABEL}={}", plan.name));
        let found = jobs.list(&of_policy).await;
        let found = found.map_err(Error::api("list the Jobs of", &plan.name))?;
        Ok(found.iter().any(|job| is_trial(job, &plan.name) && at_work(job)))
    }

    /// Applies the children but the NetworkPolicy, which [`Writer::confine`] does; the CronJob last, since it may fire at
    /// once. Adds to `repaired` which were put back.
    ///
    /// # Errors
    /// The first child that does not stand as desired.
    pub async fn children(
        &self,
        resources: Resources,
        observed: &Observed,
        repaired: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Resources {
            service_account,
            role_binding,
            verifier,
            network_policy: _,
            cron_job,
        } = resources;
        let mut note = |kind: &str, name: String, outcome: Applied| {
            if outcome == Applied::Repaired {
                repaired.push(format!("{kind} {name}"));
            }
        };
        let failed = |source| Error::Apply { source };
        let (verifier_account, verifier_binding) = verifier.unzip();
        let runner = (service_account, Some(role_binding));
        let live = (&observed.service_account, &observed.role_binding);
        let live_verifier = (&observed.verifier_account, &observed.verifier_binding);
        for ((service_account, role_binding), live) in
            [(runner, live), ((verifier_account, verifier_binding), live_verifier)]
        {
            // What may do something goes before what it may be done by.
            if let (None, Some(binding)) = (&role_binding, live.1) {
                self.prune(&cron_job, &**binding).await?;
            }
            match (service_account, live.0) {
                (Some(account), live) => {
                    let outcome = self.applier.apply(&account, live.as_deref()).await.map_err(failed)?;
                    note("ServiceAccount", account.name_any(), outcome);
                }
                (None, Some(account)) => self.prune(&cron_job, &**account).await?,
                (None, None) => {}
            }
            let Some(role_binding) = role_binding else { continue };
            if self.make_room(&role_binding, live.1.as_deref()).await? {
                return Ok(());
            }
            let outcome = self
                .applier
                .apply(&role_binding, live.1.as_deref())
                .await
                .map_err(failed)?;
            note("RoleBinding", role_binding.name_any(), outcome);
        }
        let outcome = self
            .applier
            .apply(&cron_job, observed.cron_job.as_deref())
            .await
            .map_err(failed)?;
        note("CronJob", cron_job.name_any(), outcome);
        Ok(())
    }

    /// Takes a child away that nothing needs any more. `owned` names the policy as its owner.
    async fn prune<K>(&self, owned: &CronJob, child: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let owner = controller_of(owned).map(|owner| owner.uid.clone()).unwrap_or_default();
        let pruned = self.applier.prune(child, &owner).await;
        pruned.map(|_| ()).map_err(|source| Error::Apply { source })
    }

    /// A RoleBinding never changes its role: one for another role goes, and its deletion brings us back.
    async fn make_room(&self, desired: &RoleBinding, live: Option<&RoleBinding>) -> Result<bool, Error> {
        let Some(live) = live.filter(|live| live.role_ref != desired.role_ref) else {
            return Ok(false);
        };
        let owner = controller_of(desired)
            .map(|owner| owner.uid.clone())
            .unwrap_or_default();
        self.applier
            .prune(live, &owner)
            .await
            .map_err(|source| Error::Apply { source })
    }

    /// Makes the record of a slot exist and be this policy's.
    ///
    /// # Errors
    /// [`Error::RecordTaken`] if another policy's record has the name and an archive may be stored for it.
    pub async fn record(&self, plan: &Plan, slot: Slot, observed: &Observed) -> Result<(), Error> {
        let desired = build::build_record(plan, slot);
        let name = desired.name_any();
        if observed.record(&name).is_some() {
            return Ok(());
        }
        let api: Api<Backup> = self.clients.api(&plan.namespace);
        if self.create(&api, &desired, "create the Backup").await? {
            return Ok(());
        }
        let Some(found) = api.get_opt(&name).await.map_err(Error::api("read the Backup", &name))? else {
            return Ok(());
        };
        if found.spec.policy_ref.uid == plan.uid {
            return Ok(());
        }
        let state = match found.status.clone().unwrap_or_default().upload.state {
            UploadState::None => None,
            UploadState::Completed => Some("the day's archive is stored"),
            UploadState::Started | UploadState::Unknown => Some("an archive of the day may be stored"),
        };
        if let Some(state) = state {
            return Err(Error::RecordTaken {
                name,
                owner: found.spec.policy_ref.uid,
                state,
            });
        }
        // Of an earlier policy of this name, and nobody was ever allowed to store for it. A runner of that policy that is
        // still at work cannot pass the fence of the new record: its patch names the old one's UID.
        self.delete(&api, &name, &found, found.resource_version()).await?;
        self.create(&api, &desired, "create the Backup").await?;
        Ok(())
    }

    /// Makes the record of an archive that was found, or tells it what was found.
    ///
    /// # Errors
    /// What the API server answered, except that something has changed meanwhile: then the next look decides.
    pub async fn rebuild(&self, namespace: &str, rebuild: &Rebuild) -> Result<(), Error> {
        let api: Api<Backup> = self.clients.api(namespace);
        let (record, status) = match rebuild {
            Rebuild::Create(desired) => {
                return self
                    .create(&api, desired.as_ref(), "create the Backup")
                    .await
                    .map(|_| ());
            }
            Rebuild::Tell { record, status } => (record, status),
        };
        let name = record.name_any();
        self.count("record-status");
        let patch = Patch::Merge(told_patch(record, status));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if failure::is_status(&error, 409) || failure::is_status(&error, 404) => Ok(()),
            Err(error) => Err(Error::api("tell the Backup what was found", &name)(error)),
        }
    }

    /// Stops the CronJob of a policy that cannot be carried out: it would go on at a time that the policy does not say any
    /// more, without records. Mending the policy applies it anew.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn suspend(&self, policy: &BackupPolicy, cron_job: &CronJob) -> Result<(), Error> {
        let ours = controller_of(cron_job).map(|owner| &owner.uid) == policy.metadata.uid.as_ref();
        let suspended = cron_job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
        if !ours || suspended {
            return Ok(());
        }
        let name = cron_job.name_any();
        // It does not stand as it was applied any more, and nobody else is to be blamed for that.
        let patch = serde_json::json!({
            "metadata": {"uid": cron_job.uid(), "annotations": {APPLIED_ANNOTATION: null}},
            "spec": {"suspend": true},
        });
        let api: Api<CronJob> = self.clients.api(&cron_job.namespace().unwrap_or_default());
        self.count("apply");
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(error) if failure::is_status(&error, 404) || failure::is_status(&error, 409) => Ok(()),
            Err(error) => Err(Error::api("suspend the CronJob", &name)(error)),
        }
    }

    /// What the API server answered to Jobs that have had no pod for a while, by the Job's name. A Job says it in its
    /// events only.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn refusals(
        &self,
        namespace: &str,
        observed: &Observed,
        now: DateTime<Utc>,
    ) -> Result<BTreeMap<String, String>, Error> {
        const REASON: &str = "FailedCreate";
        let mut refusals = BTreeMap::new();
        for job in observed.jobs.iter().chain(&observed.trials).chain(&observed.removal) {
            let name = job.name_any();
            if !lacks_pod(job, observed.pods_of(&name).map(|pod| &**pod), now) {
                continue;
            }
            let uid = job.uid().unwrap_or_default();
            let selector = format!("involvedObject.uid={uid},reason={REASON}");
            let api: Api<Event> = self.clients.api(namespace);
            let events = api
                .list(&ListParams::default().fields(&selector))
                .await
                .map_err(Error::api("read the events of the Job", &name))?;
            let newest = events
                .items
                .into_iter()
                .filter(|event| {
                    event.involved_object.uid.as_ref() == Some(&uid) && event.reason.as_deref() == Some(REASON)
                })
                .max_by(|left, right| left.last_timestamp.cmp(&right.last_timestamp));
            if let Some(message) = newest.and_then(|event| event.message) {
                refusals.insert(name, message);
            }
        }
        Ok(refusals)
    }

    /// Removes an ended Job of this policy's CronJob, so that its name is free.
    ///
    /// # Errors
    /// What the API server answered, except that it is gone already.
    pub async fn remove(&self, namespace: &str, job: &Job) -> Result<(), Error> {
        let jobs: Api<Job> = self.clients.api(namespace);
        self.delete(&jobs, &job.name_any(), job, None).await
    }

    /// Removes the record of an archive that is gone, as it was judged.
    ///
    /// # Errors
    /// What the API server answered, except that it is gone already.
    pub async fn forget(&self, namespace: &str, record: &Backup) -> Result<(), Error> {
        let records: Api<Backup> = self.clients.api(namespace);
        self.delete(&records, &record.name_any(), record, record.resource_version())
            .await
    }

    /// Corrects a record if what the judgement rests on still holds. Says whether it was written.
    ///
    /// # Errors
    /// What the API server answered, except that something has changed meanwhile: then the next look decides.
    pub async fn correct(&self, namespace: &str, correction: &Correction, now: DateTime<Utc>) -> Result<bool, Error> {
        let jobs: Api<Job> = self.clients.api(namespace);
        let holds = match &correction.evidence {
            Evidence::Progress => true,
            Evidence::NoJob { name } => jobs
                .get_opt(name)
                .await
                .map_err(Error::api("read the Job", name))?
                .is_none(),
            Evidence::JobFailed { name, uid } => jobs
                .get_opt(name)
                .await
                .map_err(Error::api("read the Job", name))?
                .is_some_and(|job| job.uid().as_ref() == Some(uid) && job_state(&job) == JobState::Failed),
        };
        if !holds {
            return Ok(false);
        }
        let name = correction.record.name_any();
        let api: Api<Backup> = self.clients.api(namespace);
        self.count("record-status");
        let patch = Patch::Merge(correction_patch(correction, now));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(true),
            Err(error) if failure::is_status(&error, 409) || failure::is_status(&error, 404) => Ok(false),
            Err(error) => Err(Error::api("correct the Backup", &name)(error)),
        }
    }

    /// Creates an object; `false` if its name is taken.
    async fn create<K>(&self, api: &Api<K>, desired: &K, action: &'static str) -> Result<bool, Error>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
    {
        self.count("create");
        match api.create(&PostParams::default(), desired).await {
            Ok(_) => Ok(true),
            Err(error) if failure::is_status(&error, 409) => Ok(false),
            Err(error) => Err(Error::api(action, &desired.name_any())(error)),
        }
    }

    async fn delete<K>(&self, api: &Api<K>, name: &str, live: &K, version: Option<String>) -> Result<(), Error>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: live.uid(),
                resource_version: version,
            }),
            ..DeleteParams::default()
        };
        self.count("delete");
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            // Gone, or another one by now: the next look decides.
            Err(error) if failure::is_status(&error, 404) || failure::is_status(&error, 409) => Ok(()),
            Err(error) => Err(Error::api("delete", name)(error)),
        }
    }

    fn count(&self, write: &str) {
        self.writes.with_label_values(&[self.controller, write]).inc();
    }
}
