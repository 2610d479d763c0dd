//! What is done for a policy that is being deleted: its archives go or stay, then its finalizer goes.

use super::{
    Controller, SOON,
    apply::put_finalizer,
    dereference::{Observed, dereference},
    error::Error,
    job::{JobState, job_state},
    reason::Reason,
    removal::{Outcome, Step, decide, forgotten, has_finalizer, is_over_for_long, is_overdue, job_of, told_at},
    validate::validate,
};
use crate::runtime::{
    Clients, Failed, News, Runtime, Scope,
    conditions::{ConditionUpdate, set_condition},
    failure,
};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt, api::ListParams, runtime::controller::Action};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use valerix_crds::{BackupPolicy, BackupPolicyStatus, BackupSchedule, ConditionStatus, names::condition::READY};

/// What events of a deletion are about.
const ACTION: &str = "RemoveArchives";
/// Between two looks at namespaces where this operator sees nothing.
const STRAYS_PAUSE: Duration = Duration::from_secs(60);
/// How long this operator may take to see something there.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What comes next for a policy that is being deleted.
enum Next {
    /// A later look.
    Wait {
        /// For what.
        why: String,
        /// When.
        pause: Duration,
    },
    /// Its end.
    Over(Outcome),
}

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
        // Words alone: they tell why a Job has no pod.
        match self.writer.refusals(&namespace, &observed, now).await {
            Ok(refused) => observed.refused = refused,
            Err(error) => tracing::warn!(error = failure::chain(&error), "failed to ask why a Job has no pod"),
        }
        let (error, is_bounded) = match self.advance(policy, &observed, now).await {
            Ok(Next::Over(outcome)) => return self.end(policy, &observed, outcome, now).await,
            Ok(Next::Wait { why, pause }) => match self.tell_of_removal(policy, why, now).await {
                Ok(()) => return Ok(Action::requeue(pause)),
                // Waiting has an end of its own.
                Err(error) => (error, true),
            },
            Err(error) => (error, false),
        };
        // The archives of a namespace that goes by mistake are what is left of it.
        if self.writer.is_of_a_going_namespace(&namespace, &error).await {
            let why = format!("the namespace {namespace} is being deleted, where no Job can be made any more");
            return self.end(policy, &observed, Outcome::Retained { why }, now).await;
        }
        if is_bounded {
            return Err(error);
        }
        // An operator that was away tries more than once, however long ago the policy was deleted.
        let is_new = told_at(policy).is_none();
        let is_told = self.tell_of_removal(policy, error.to_string(), now).await.is_ok();
        if (is_new && is_told) || !is_overdue(policy, now) {
            return Err(error);
        }
        let (why, report) = (error.to_string(), None);
        self.end(policy, &observed, Outcome::Left { why, report }, now).await
    }

    /// Does what comes next.
    async fn advance(&self, policy: &BackupPolicy, observed: &Observed, now: DateTime<Utc>) -> Result<Next, Error> {
        let left = |why| Next::Over(Outcome::Left { why, report: None });
        let (why, pause) = match decide(policy, observed, now) {
            Step::LetGo(outcome) => return Ok(Next::Over(outcome)),
            Step::StopRuns => {
                self.writer.stop_runs(policy, observed).await?;
                ("its runs end".to_owned(), SOON)
            }
            Step::Wait { why } => (why, SOON * 10),
            Step::Start => {
                let plan = match validate(&removable(policy), &self.runner, now) {
                    Ok(plan) => plan,
                    Err(error) => return Ok(left(error.to_string())),
                };
                let name = job_of(policy);
                let is_new = self.writer.start_removal(&plan, policy, observed).await?;
                if !is_new && told_at(policy).is_some() && is_overdue(policy, now) {
                    return Ok(left(format!("an earlier Job {name} does not go")));
                }
                (format!("Job {name} removes the archives"), SOON * 10)
            }
        };
        Ok(Next::Wait { why, pause })
    }

    /// The outcome stands: what tells of it follows, as far as the API server lets it.
    async fn end(
        &self,
        policy: &BackupPolicy,
        observed: &Observed,
        outcome: Outcome,
        now: DateTime<Utc>,
    ) -> Result<Action, Error> {
        if let Err(error) = self.tidy(policy, observed, &outcome).await {
            let namespace = policy.namespace().unwrap_or_default();
            let is_lost = self.writer.is_of_a_going_namespace(&namespace, &error).await;
            if !is_lost && !is_over_for_long(policy, observed, now) {
                return Err(error);
            }
            let (name, error) = (policy.name_any(), failure::chain(&error));
            tracing::warn!(namespace, name, error, "failed to tidy up after a policy that goes");
        }
        self.let_go(policy, outcome).await
    }

    /// Forgets the records of what is gone, and ends a Job that is to remove no more. What fails hinders nothing else.
    async fn tidy(&self, policy: &BackupPolicy, observed: &Observed, outcome: &Outcome) -> Result<(), Error> {
        let namespace = policy.namespace().unwrap_or_default();
        let report = match outcome {
            Outcome::Removed(report) => Some(report),
            Outcome::Left { report, .. } => report.as_ref(),
            Outcome::Retained { .. } => None,
        };
        // One that has ended is kept: it says the same to whoever comes after a kill.
        let is_active = |job: &&Arc<Job>| job_state(job) == JobState::Active;
        let mut done = Ok(());
        for record in report.map_or_else(Vec::new, |report| forgotten(policy, &observed.records, report)) {
            done = done.and(self.writer.forget(&namespace, &record).await);
        }
        if let Some(job) = observed.removal.as_ref().filter(is_active) {
            done = done.and(self.writer.remove(&namespace, job).await);
        }
        done
    }

    /// Says what became of the archives, then the finalizer goes: who is killed in between says it once more.
    async fn let_go(&self, policy: &BackupPolicy, outcome: Outcome) -> Result<Action, Error> {
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        let (word, news) = match outcome {
            Outcome::Removed(report) if report.left.is_empty() && !report.is_cut && report.open_uploads == 0 => {
                ("Removed", News::good("ArchivesRemoved", ACTION, report.message))
            }
            Outcome::Removed(report) => ("Left", News::bad("ArchivesLeft", ACTION, report.message)),
            Outcome::Left { why, .. } => {
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
        for policy in policies.list(&ListParams::default()).await?.items {
            take_finalizer(clients, policy).await?;
        }
    }
    Ok(())
}

async fn take_finalizer(clients: &Clients, listed: BackupPolicy) -> Result<(), kube::Error> {
    let (namespace, name) = (listed.namespace().unwrap_or_default(), listed.name_any());
    let mut found = Some(listed);
    // Somebody may edit it at this moment.
    while let Some(policy) = found.take().filter(has_finalizer) {
        match put_finalizer(clients, &policy, false).await {
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
    Ok(())
}

/// The finalizers of policies that no controller of this process looks at.
impl Controller {
    /// Takes them away: in namespaces that this operator does not work in any more, and in those where it sees nothing, once
    /// what is deleted there has waited for long enough.
    pub(super) async fn release_strays(&self, runtime: &Runtime) {
        runtime.leadership.acquired().await;
        if runtime.scopes.contains(&Scope::Cluster) {
            return;
        }
        let began = Instant::now();
        let mut is_done = false;
        // A cache that has not had its first list yet is none that sees nothing.
        let mut unseen: Vec<&Scope> = Vec::new();
        loop {
            let is_patient = began.elapsed() >= UNSEEN_PATIENCE;
            match self.release_unseen(&runtime.scopes, &unseen, is_patient).await {
                Ok(()) => is_done = true,
                Err(error) => tracing::warn!(
                    error = failure::sentence(&error),
                    "failed to look for finalizers in namespaces that this operator does not work in"
                ),
            }
            tokio::time::sleep(STRAYS_PAUSE).await;
            let is_unseen = |scope: &&Scope| runtime.readiness.full(scope).now_or_never().is_none();
            unseen = runtime.scopes.iter().filter(is_unseen).collect();
            if is_done && unseen.is_empty() {
                return;
            }
        }
    }

    async fn release_unseen(&self, scopes: &[Scope], unseen: &[&Scope], is_patient: bool) -> Result<(), kube::Error> {
        let clients = &self.writer.clients;
        let policies: Api<BackupPolicy> = Api::all(clients.write.clone());
        for policy in policies.list(&ListParams::default()).await?.items {
            let namespace = policy.namespace().unwrap_or_default();
            let is_stray = match scopes.iter().find(|scope| scope.contains(&namespace)) {
                None => true,
                Some(scope) if unseen.contains(&scope) && policy.metadata.deletion_timestamp.is_some() => {
                    (is_patient && is_overdue(&policy, (self.now)())) || self.writer.is_going(&namespace).await
                }
                Some(_) => false,
            };
            if is_stray {
                take_finalizer(clients, policy).await?;
            }
        }
        Ok(())
    }
}
