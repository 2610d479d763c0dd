//! The Job of a trial restore, and the word on one that ended without.

use super::{
    super::{
        build,
        error::Error,
        validate::Plan,
        verification::{Step, giving_up, hindered, is_answered},
    },
    Writer,
};
use crate::runtime::failure;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use valerix_crds::Backup;

impl Writer {
    /// Does the next step of a trial restore.
    ///
    /// # Errors
    /// What the API server answered, except that something has changed meanwhile: then the next look decides.
    pub async fn verification(&self, plan: &Plan, step: Step, now: DateTime<Utc>) -> Result<(), Error> {
        match step {
            Step::Start { record, slot } => {
                // Read anew what decides: the caches may be behind.
                let found = self.own_record(plan, &record).await?;
                let status = found.and_then(|record| record.status).unwrap_or_default();
                if is_answered(&status) {
                    return Ok(());
                }
                let jobs: Api<Job> = self.clients.api(&plan.namespace);
                let desired = build::build_verification_job(plan, slot);
                self.create(&jobs, &desired, "create the Job").await.map(|_| ())
            }
            Step::Hindered { record, message } => {
                let said = hindered(&record, &message);
                self.say(plan, &record, said).await
            }
            Step::GiveUp { record, message } => {
                let said = giving_up(&record, &message, now);
                self.say(plan, &record, said).await
            }
        }
    }

    async fn say(&self, plan: &Plan, record: &Backup, said: serde_json::Value) -> Result<(), Error> {
        let name = record.metadata.name.clone().unwrap_or_default();
        let records: Api<Backup> = self.clients.api(&plan.namespace);
        self.count("record-status");
        match records
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(said))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if failure::is_status(&error, 409) || failure::is_status(&error, 404) => Ok(()),
            Err(error) => Err(Error::api("write the status of the Backup", &name)(error)),
        }
    }
}
