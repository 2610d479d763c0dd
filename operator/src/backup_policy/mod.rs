//! Keeps one CronJob per BackupPolicy, the records of its slots, and its status true.
//!
//! Reads stores; before a Job or a record is created, deleted or judged, that object once more; before what holds trials
//! back goes, their Jobs; and the events of a Job that has no pod. Writes children, records, Jobs and the finalizer in
//! `apply`, the policy's status and its events in `publish` and `going`, nothing else. The archive itself is the runner's
//! (services/backup), behind the fence in the record.

mod apply;
pub(crate) mod build;
mod by_hand;
mod dereference;
mod error;
#[cfg(test)]
mod fixtures;
mod going;
pub(crate) mod job;
mod metrics;
mod reason;
mod records;
mod removal;
mod slot;
mod status;
mod stores;
#[cfg(test)]
mod tests;
mod validate;
mod verification;

use crate::{
    Context,
    runtime::{
        Events, Failed, News, Options, Publisher, Runtime, apply::Applier, clock, controller, failure,
        publish::Precondition,
    },
};
use apply::{ByHand, Writer};
use chrono::{DateTime, Utc};
use dereference::{Observed, dereference};
pub use error::Error;
use futures::future::join_all;
pub(crate) use going::release;
use job::Runner;
use kube::{Api, ResourceExt, runtime::controller::Action};
use metrics::BackupMetrics;
pub use reason::Reason;
use records::{Rebuild, Step, StillDue};
use removal::{has_finalizer, wants_finalizer};
use status::{Found, news, status};
use std::{sync::Arc, time::Duration};
use stores::Stores;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::task::AbortOnDropHandle;
use valerix_crds::{Backup, BackupPolicy, BackupPolicyStatus, LastRun, backup_runner};
use validate::{Plan, validate};

/// Name in metrics, logs and events.
const CONTROLLER: &str = "backup-policy";
/// How soon to look again while something must go first. Its going triggers a look too.
const SOON: Duration = Duration::from_secs(1);
/// What the clock alone changes is looked at this much later, so that it has changed.
const LATER: Duration = Duration::from_secs(1);

/// Reconciles every BackupPolicy until the process ends.
pub async fn run(ctx: Arc<Context>) {
    let runner = Runner {
        image: ctx.settings.backup_image.clone(),
        cluster_role: ctx.settings.backup_runner_cluster_role.clone(),
    };
    run_with(&ctx.runtime, runner, Utc::now).await;
}

/// The same with the runner and the clock given.
async fn run_with(runtime: &Runtime, runner: Runner, now: fn() -> DateTime<Utc>) {
    let stores = Stores::watch(runtime);
    runtime.expose_conditions(&stores.policies, |policy| {
        policy.status.as_ref().map_or(&[], |status| &status.conditions)
    });
    let controller = Arc::new(Controller {
        writer: Writer {
            applier: Applier::new(runtime, CONTROLLER),
            clients: runtime.clients.clone(),
            writes: runtime.metrics.writes.clone(),
            controller: CONTROLLER,
        },
        publisher: Publisher::new(runtime, CONTROLLER),
        events: runtime.events(CONTROLLER),
        metrics: BackupMetrics::new(&runtime.metrics),
        stores: stores.clone(),
        runner,
        now,
    });
    let (closed, requests) = unbounded_channel();
    let forgetful = controller.clone();
    let closing = controller.clone();
    let _closing = AbortOnDropHandle::new(tokio::spawn({
        let runtime = runtime.clone();
        async move { closing.close_records(&runtime, requests).await }
    }));
    let strays = controller.clone();
    let _strays = AbortOnDropHandle::new(tokio::spawn({
        let runtime = runtime.clone();
        async move { strays.release_strays(&runtime).await }
    }));
    let work = move |policy| {
        let controller = controller.clone();
        async move { Box::pin(controller.reconcile(&policy)).await }
    };
    let gone = |namespace: &str, name: &str| {
        forgetful.metrics.forget(namespace, name);
        // The receiver ends with the process.
        let _ = closed.send((namespace.to_owned(), name.to_owned()));
    };
    controller::run(runtime, Options::new(CONTROLLER), &stores.policies, work, gone).await;
}

struct Controller {
    writer: Writer,
    publisher: Publisher<BackupPolicy>,
    events: Events,
    metrics: BackupMetrics,
    stores: Stores,
    runner: Runner,
    now: fn() -> DateTime<Utc>,
}

/// What one pass has done.
#[derive(Default)]
struct Work {
    /// The first thing that went wrong; the rest was tried all the same.
    error: Option<Error>,
    last_run: Option<LastRun>,
    look_again: Option<DateTime<Utc>>,
    soon: bool,
}

impl Work {
    fn note<T: Default>(&mut self, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            T::default()
        })
    }

    fn look_at(&mut self, at: Option<DateTime<Utc>>) {
        self.look_again = self.look_again.into_iter().chain(at).min();
    }
}

impl Controller {
    async fn reconcile(&self, cached: &Arc<BackupPolicy>) -> Result<Action, Failed<Error>> {
        if cached.metadata.deletion_timestamp.is_some() {
            return Box::pin(self.going(&self.publisher.newest(cached))).await;
        }
        let policy = self.publisher.newest(cached);
        let now = (self.now)();
        let mut observed = dereference(&policy, &self.stores);
        let mut work = Work::default();
        // Before anything can be stored that is to go with the policy.
        let wanted = wants_finalizer(&policy);
        if wanted != has_finalizer(&policy) {
            work.soon |= !work.note(self.writer.finalizer(&policy, wanted).await);
        }
        let plan = match validate(&policy, &self.runner, now) {
            Ok(plan) => Some(plan),
            Err(error) => {
                work.error = Some(error);
                None
            }
        };
        Box::pin(self.work(&policy, plan.as_ref(), &mut observed, now, &mut work)).await;
        let found = Found {
            plan: plan.as_ref(),
            error: work.error.as_ref(),
            observed: &observed,
            last_run: work.last_run.take(),
        };
        let (status, look_again) = status(&policy, &found, now);
        work.note(self.publish(&policy, &status, &observed.records).await);
        let look_again = if work.soon {
            SOON
        } else {
            let at = work.look_again.map_or(look_again, |at| at.min(look_again));
            (at - now).to_std().unwrap_or_default() + LATER
        };
        match work.error {
            None => Ok(Action::requeue(look_again)),
            Some(source) => Err(Failed {
                source,
                look_again: Some(look_again),
            }),
        }
    }

    /// Everything that is written but the status, in an order that survives a kill between any two steps. What hinders one
    /// step does not hinder those that do not need it.
    async fn work(
        &self,
        policy: &BackupPolicy,
        plan: Option<&Plan>,
        observed: &mut Observed,
        now: DateTime<Utc>,
        work: &mut Work,
    ) {
        let namespace = policy.namespace().unwrap_or_default();
        match (plan, &observed.cron_job) {
            (Some(plan), _) => work.note(Box::pin(self.stand(policy, plan, observed, now)).await),
            (None, Some(cron_job)) if work.error.as_ref().is_some_and(Error::stops_runs) => {
                work.note(self.writer.suspend(policy, cron_job).await);
            }
            (None, _) => {}
        }
        observed.refused = work.note(self.writer.refusals(&namespace, observed, now).await);
        work.look_at(verification::look_again(observed, now));
        let deadline = plan.map_or(backup_runner::DEFAULT_DEADLINE_SECONDS.cast_signed(), |plan| {
            plan.deadline_seconds
        });
        let schedule = plan.map(|plan| &plan.schedule);
        let (mut corrections, look_again) = records::corrections(&policy.name_any(), schedule, deadline, observed, now);
        work.look_at(look_again);
        let still_due = plan.and_then(|plan| records::still_due(plan, observed, now));
        if let Some(due) = &still_due {
            corrections.retain(|correction| correction.record.name_any() != due.record);
        }
        corrections.extend(records::of_gone_policies(&observed.strangers));
        let uid = policy.uid().unwrap_or_default();
        let rebuilt = records::found((&namespace, &policy.name_any(), &uid), observed);
        // What waits to be told that its archive was found is not to hear first that it was missed.
        for told in rebuilt.iter().filter_map(Rebuild::told) {
            corrections.retain(|correction| correction.record.name_any() != told);
        }
        for rebuild in &rebuilt {
            work.note(self.writer.rebuild(&namespace, rebuild).await);
        }
        for correction in &corrections {
            let written = self.writer.correct(&namespace, correction, now).await.map(Some);
            work.soon |= work.note(written) == Some(false);
        }
        for record in records::pruned(&observed.records) {
            work.note(self.writer.forget(&namespace, &record).await);
        }
        let Some(plan) = plan else { return };
        if let Some(step) = verification::decide(plan, observed) {
            work.note(self.writer.verification(plan, step, now).await);
        }
        let (in_the_way, look_again) = records::in_the_way(plan, observed, now);
        work.look_at(look_again);
        if let Some(job) = in_the_way {
            work.note(self.writer.remove(&namespace, &job).await);
        }
        if let Some(due) = still_due {
            work.soon |= work.note(self.start_again(plan, due, observed, now).await);
        }
        match work.note(self.writer.by_hand(policy, plan, observed, now).await) {
            ByHand::Nothing => {}
            ByHand::Waiting => work.soon = true,
            ByHand::Answered(run) => work.last_run = Some(run),
        }
    }

    /// The next step towards a scheduled run that is still due after one by hand. Says whether to look again soon; what it
    /// does well brings us back.
    async fn start_again(
        &self,
        plan: &Plan,
        due: StillDue,
        observed: &Observed,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        match due.step {
            Step::Announce(correction) => {
                let written = self.writer.correct(&plan.namespace, &correction, now).await?;
                return Ok(!written);
            }
            Step::Remove(job) => self.writer.remove(&plan.namespace, &job).await?,
            Step::Start => self.writer.start(plan, due.slot, observed).await?,
        }
        Ok(false)
    }

    /// What holds trials back, the records, then the children: what the CronJob needs before it can fire stands before it,
    /// and nothing that fails of these keeps the first from a trial that this pass begins.
    async fn stand(
        &self,
        policy: &BackupPolicy,
        plan: &Plan,
        observed: &Observed,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let resources = build::build(plan);
        let mut repaired = Vec::new();
        let confined = self.writer.confine(plan, &resources, observed, &mut repaired).await;
        let stood = async {
            for slot in records::wanted(plan, observed, now) {
                self.writer.record(plan, slot, observed).await?;
            }
            Box::pin(self.writer.children(resources, observed, &mut repaired)).await
        }
        .await;
        for child in repaired {
            let note = format!("{child} was changed by somebody else and is as desired again");
            self.events
                .tell(policy, [News::bad("DriftPutBack", "Apply", note)])
                .await;
        }
        stood.and(confined)
    }

    /// Ends the records of policies that are gone: of those that go while this process leads, and of those that went
    /// before.
    async fn close_records(&self, runtime: &Runtime, mut gone: UnboundedReceiver<(String, String)>) {
        runtime.leadership.acquired().await;
        let before = join_all(runtime.scopes.iter().map(|scope| async move {
            runtime.readiness.full(scope).await;
            for record in self.stores.records.of_scope(scope) {
                let namespace = record.namespace().unwrap_or_default();
                self.close_records_of(&namespace, &record.spec.policy_ref.name).await;
            }
        }));
        let since = async {
            while let Some((namespace, name)) = gone.recv().await {
                self.close_records_of(&namespace, &name).await;
            }
        };
        tokio::join!(before, since);
    }

    async fn close_records_of(&self, namespace: &str, name: &str) {
        if self.stores.policies.get(namespace, name).is_some() {
            return;
        }
        let corrections = records::of_gone_policies(&self.stores.records.of(namespace, name));
        if corrections.is_empty() {
            return;
        }
        // The cache may be behind. Whatever changes of a Job or a record of that name brings us back.
        let policies: Api<BackupPolicy> = self.writer.clients.api(namespace);
        match policies.get_opt(name).await {
            Ok(None) => {}
            Ok(Some(_)) => return,
            Err(error) => {
                tracing::warn!(
                    namespace,
                    name,
                    error = failure::sentence(&error),
                    "failed to look for the policy of records"
                );
                return;
            }
        }
        for correction in corrections {
            if let Err(error) = self.writer.correct(namespace, &correction, (self.now)()).await {
                tracing::warn!(
                    namespace,
                    name,
                    error = failure::chain(&error),
                    "failed to end the record of a policy that is gone"
                );
            }
        }
    }

    /// Side effects: the status if it changed, its events, the gauges.
    async fn publish(
        &self,
        policy: &BackupPolicy,
        status: &BackupPolicyStatus,
        records: &[Arc<Backup>],
    ) -> Result<(), Error> {
        let created = policy.metadata.creation_timestamp.as_ref();
        let created = created.map_or_else(self.now, clock::from_time);
        self.metrics.set(policy, created, status, records);
        if self.publish_status(policy, status).await? {
            let news = news(&policy.status.clone().unwrap_or_default(), status);
            self.events.tell(policy, news).await;
        }
        Ok(())
    }

    /// Writes the status if it changed, and says whether it has.
    async fn publish_status(&self, policy: &BackupPolicy, status: &BackupPolicyStatus) -> Result<bool, Error> {
        self.publisher
            .publish(policy, status, Precondition::SameObject)
            .await
            .map_err(Error::api("write the status of", &policy.name_any()))
    }
}
