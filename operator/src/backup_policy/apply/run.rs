//! Jobs that the operator starts itself: a run by hand, and the day's run in place of one by hand that was in its way.

use super::{
    super::{
        build,
        by_hand::{Step, decide},
        dereference::Observed,
        error::Error,
        job::{is_stuck, job_state},
        records::is_announced,
        slot::Slot,
        validate::Plan,
    },
    Writer,
};
use crate::runtime::apply::controller_of;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{Api, ResourceExt};
use valerix_crds::{
    Backup, BackupPolicy, LastRun, LastRunResult, backup_runner,
    names::{RUN_ANNOTATION, SLOT_LABEL},
};

/// The longest id of a run by hand that status takes. Unit: characters.
const MAX_RUN_ID: usize = 256;

/// What became of a run by hand.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ByHand {
    /// Nobody asked, or it is answered.
    #[default]
    Nothing,
    /// Something must go first; look again soon.
    Waiting,
    /// The answer.
    Answered(LastRun),
}

impl Writer {
    /// Carries out the run that the policy's annotation asks for: at most one Job per day's slot, whatever is killed.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn by_hand(
        &self,
        policy: &BackupPolicy,
        plan: &Plan,
        observed: &Observed,
        now: DateTime<Utc>,
    ) -> Result<ByHand, Error> {
        let Some(id) = policy.annotations().get(RUN_ANNOTATION).filter(|id| !id.is_empty()) else {
            return Ok(ByHand::Nothing);
        };
        let id: String = id.chars().take(MAX_RUN_ID).collect();
        let answered = policy.status.as_ref().and_then(|status| status.last_run.as_ref());
        if answered.is_some_and(|run| run.id == id) {
            return Ok(ByHand::Nothing);
        }
        let answer = |slot: String, result, message| {
            Ok(ByHand::Answered(LastRun {
                id: id.clone(),
                slot,
                result,
                message,
            }))
        };
        let slot = plan.today.day.to_string();
        // A Job of today that carries this id was started by an earlier life that could not say so. One of another day is
        // of an earlier run that had the same id.
        let begun = observed.jobs.iter().find(|job| {
            job.annotations().get(RUN_ANNOTATION) == Some(&id) && job.labels().get(SLOT_LABEL) == Some(&slot)
        });
        if let Some(job) = begun {
            return answer(slot, LastRunResult::Started, started(&job.name_any()));
        }
        // Read anew what decides: the caches may be behind.
        self.record(plan, plan.today, observed).await?;
        let record_name = backup_runner::record_name(&plan.name, plan.today.day);
        let Some(record) = self.own_record(plan, &record_name).await? else {
            return Ok(ByHand::Waiting);
        };
        let Some(cron_job) = &observed.cron_job else {
            return Ok(ByHand::Waiting);
        };
        let job_name = backup_runner::job_name(&plan.name, plan.today.at);
        let jobs: Api<Job> = self.clients.api(&plan.namespace);
        let job = jobs
            .get_opt(&job_name)
            .await
            .map_err(Error::api("read the Job", &job_name))?;
        if job
            .as_ref()
            .is_some_and(|job| controller_of(job).map(|owner| &owner.uid) != cron_job.metadata.uid.as_ref())
        {
            return Err(Error::JobTaken { name: job_name });
        }
        let stuck = job
            .as_ref()
            .is_some_and(|job| is_stuck(job, observed.pods_of(&job_name).map(|pod| &**pod), now));
        let status = record.status.unwrap_or_default();
        match (decide(&status, job.as_ref().map(job_state), stuck), &job) {
            (Step::SlotUsed, _) => answer(
                slot.clone(),
                LastRunResult::SlotUsed,
                format!(
                    "the archive of {slot} is stored already (Backup {record_name}): one a day; nothing was started"
                ),
            ),
            (Step::UnderWay, _) => answer(
                slot,
                LastRunResult::Started,
                format!("Job {job_name} is at work on this slot already"),
            ),
            (Step::Remove, Some(job)) => {
                self.delete(&jobs, &job_name, job, None).await?;
                Ok(ByHand::Waiting)
            }
            (Step::Wait | Step::Remove, _) => Ok(ByHand::Waiting),
            (Step::Start, _) => {
                let Some(desired) = build::build_job(plan, &build_from(plan, cron_job), plan.today, Some(&id)) else {
                    return Ok(ByHand::Waiting);
                };
                if self.create(&jobs, &desired, "create the Job").await? {
                    answer(slot, LastRunResult::Started, started(&job_name))
                } else {
                    Ok(ByHand::Waiting)
                }
            }
        }
    }

    /// Starts the run of a slot whose record still announces it. Its name lets there be one.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn start(&self, plan: &Plan, slot: Slot, observed: &Observed) -> Result<(), Error> {
        let record_name = backup_runner::record_name(&plan.name, slot.day);
        let record = self.own_record(plan, &record_name).await?;
        let status = record.and_then(|record| record.status).unwrap_or_default();
        let Some(cron_job) = observed.cron_job.as_ref().filter(|_| is_announced(&status)) else {
            return Ok(());
        };
        if let Some(desired) = build::build_job(plan, &build_from(plan, cron_job), slot, None) {
            let jobs: Api<Job> = self.clients.api(&plan.namespace);
            self.create(&jobs, &desired, "create the Job").await?;
        }
        Ok(())
    }

    /// The record of this name as the API server has it, if it is this policy's.
    pub(super) async fn own_record(&self, plan: &Plan, name: &str) -> Result<Option<Backup>, Error> {
        let records: Api<Backup> = self.clients.api(&plan.namespace);
        let found = records
            .get_opt(name)
            .await
            .map_err(Error::api("read the Backup", name))?;
        Ok(found.filter(|record| record.spec.policy_ref.uid == plan.uid))
    }
}

/// The same value again is no change, and nobody hears of it: so it is said with each answer.
fn started(job: &str) -> String {
    format!("Job {job} was started; a further run needs another value of the annotation")
}

/// The live CronJob's identity with the template as desired: the cache may still have an older one.
fn build_from(plan: &Plan, live: &CronJob) -> CronJob {
    let mut cron_job = build::build_cron_job(plan);
    cron_job.metadata.uid.clone_from(&live.metadata.uid);
    cron_job
}
