//! What is done for a policy that is being deleted: its archives go or stay, then its finalizer goes.

use super::{
    Controller, SOON,
    dereference::dereference,
    error::Error,
    reason::Reason,
    removal::{Outcome, Step, decide, forgotten, has_finalizer, job_of},
    validate::validate,
};
use crate::runtime::{
    Clients, Failed, News, Scope,
    conditions::{ConditionUpdate, set_condition},
    failure,
};
use chrono::{DateTime, Utc};
use kube::{Api, ResourceExt, api::ListParams, runtime::controller::Action};
use valerix_crds::{BackupPolicy, BackupPolicyStatus, BackupSchedule, ConditionStatus, names::condition::READY};

/// What events of a deletion are about.
const ACTION: &str = "RemoveArchives";

impl Controller {
    /// One step towards the end of a policy. Without our finalizer there is nothing to do: children go with the policy by
    /// their owner references; records and archives stay.
    pub(super) async fn going(&self, policy: &BackupPolicy) -> Result<Action, Failed<Error>> {
        if !has_finalizer(policy) {
            return Ok(Action::await_change());
        }
        self.take_leave(policy, (self.now)()).await.map_err(|source| Failed {
            source,
            look_again: Some(SOON),
        })
    }

    async fn take_leave(&self, policy: &BackupPolicy, now: DateTime<Utc>) -> Result<Action, Error> {
        let namespace = policy.namespace().unwrap_or_default();
        let mut observed = dereference(policy, &self.stores);
        observed.refused = self.writer.refusals(&namespace, &observed, now).await?;
        let outcome = match decide(policy, &observed, now) {
            Step::StopRuns => {
                self.writer.stop_runs(policy, &observed).await?;
                return Ok(Action::requeue(SOON));
            }
            Step::Wait { why } => {
                self.tell_of_removal(policy, why, now).await?;
                return Ok(Action::requeue(SOON * 10));
            }
            Step::Start => {
                let plan = match validate(&removable(policy), &self.runner, now) {
                    Ok(plan) => plan,
                    Err(error) => return self.let_go(policy, Outcome::Left { why: error.to_string() }).await,
                };
                if self.writer.start_removal(&plan).await? {
                    self.tell_of_removal(policy, format!("Job {} removes the archives", job_of(policy)), now)
                        .await?;
                    return Ok(Action::requeue(SOON * 10));
                }
                // Nothing can be made there any more, and the archives of a namespace that goes by mistake are what is left of it.
                Outcome::Retained {
                    why: format!("the namespace {namespace} is being deleted, where no Job can be made any more"),
                }
            }
            Step::LetGo(outcome) => outcome,
        };
        match &outcome {
            Outcome::Removed(report) => {
                for record in forgotten(policy, &observed.records, report) {
                    self.writer.forget(&namespace, &record).await?;
                }
            }
            // What it has not removed by now stays.
            Outcome::Left { .. } | Outcome::Retained { .. } => {
                if let Some(job) = &observed.removal {
                    self.writer.remove(&namespace, job).await?;
                }
            }
        }
        self.let_go(policy, outcome).await
    }

    /// Says what became of the archives, then the finalizer goes: who is killed in between says it once more.
    async fn let_go(&self, policy: &BackupPolicy, outcome: Outcome) -> Result<Action, Error> {
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        let (word, news) = match outcome {
            Outcome::Removed(report) if report.left.is_empty() => {
                ("Removed", News::good("ArchivesRemoved", ACTION, report.message))
            }
            Outcome::Removed(report) => ("Left", News::bad("ArchivesLeft", ACTION, report.message)),
            Outcome::Left { why } => {
                let note = format!("archives are left at the destination, and nobody removes them any more: {why}");
                ("Left", News::bad("ArchivesLeft", ACTION, note))
            }
            Outcome::Retained { why } => {
                let note = format!("the archives stay where they are: {why}");
                ("Retained", News::bad("ArchivesRetained", ACTION, note))
            }
        };
        tracing::info!(namespace, name, outcome = word, "{}", news.note);
        self.events.tell(policy, [news]).await;
        if self.writer.finalizer(policy, false).await? {
            self.metrics.deleted(word);
            return Ok(Action::await_change());
        }
        Ok(Action::requeue(SOON))
    }

    /// While the policy waits, its condition Ready says for what.
    async fn tell_of_removal(&self, policy: &BackupPolicy, message: String, now: DateTime<Utc>) -> Result<(), Error> {
        let mut status: BackupPolicyStatus = policy.status.clone().unwrap_or_default();
        let generation = policy.metadata.generation.unwrap_or_default();
        let update = ConditionUpdate {
            kind: READY,
            status: ConditionStatus::False,
            reason: Reason::RemovingArchives.as_str(),
            message: format!("the policy is being deleted, and its archives with it (spec.deletionPolicy): {message}"),
        };
        set_condition(&mut status.conditions, update, generation, now);
        self.publish_status(policy, &status).await.map(|_| ())
    }
}

/// The policy without what says nothing of where its archives are: a wrong schedule keeps none of them.
fn removable(policy: &BackupPolicy) -> BackupPolicy {
    let mut policy = policy.clone();
    policy.spec.schedule = BackupSchedule::default();
    policy.spec.verification = None;
    if let Some(job) = &mut policy.spec.job {
        job.deadline = None;
    }
    policy
}

/// Takes the finalizer from every policy, since the operator is being removed: nobody would take it away later. The
/// archives of a policy that is deleted meanwhile stay. An operator that comes back puts it on again.
///
/// # Errors
/// What the API server answered.
pub async fn release(clients: &Clients, scopes: &[Scope]) -> Result<(), kube::Error> {
    for scope in scopes {
        let policies: Api<BackupPolicy> = scope.api(clients.write.clone());
        for listed in policies.list(&ListParams::default()).await?.items {
            let (namespace, name) = (listed.namespace().unwrap_or_default(), listed.name_any());
            let mut found = Some(listed);
            // Somebody may edit it at this moment.
            while let Some(policy) = found.take().filter(has_finalizer) {
                match super::apply::put_finalizer(clients, &policy, false).await {
                    Ok(()) => tracing::info!(
                        namespace,
                        name,
                        "the policy has no finalizer any more: without an operator deletionPolicy is Retain"
                    ),
                    Err(error) if failure::is_status(&error, 409) || failure::is_status(&error, 404) => {
                        let api: Api<BackupPolicy> = clients.api(&namespace);
                        found = api.get_opt(&name).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}
