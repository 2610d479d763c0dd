//! Keeps one CronJob per BackupPolicy, the records of its slots, and its status true.
//!
//! Reads stores; and, before a Job or a record is created, deleted or judged, that object once more. Writes children,
//! records and Jobs in `apply`, the policy's status in `publish`, events in `tell`, nothing else. The archive itself is
//! the runner's (services/backup), behind the fence in the record.

mod apply;
mod build;
mod by_hand;
mod dereference;
mod error;
#[cfg(test)]
mod fixtures;
mod job;
mod metrics;
mod records;
mod slot;
mod status;
mod stores;
#[cfg(test)]
mod tests;
mod validate;

use crate::{
    Context,
    runtime::{Events, Options, Publisher, Runtime, apply::Applier, controller, publish::Precondition},
};
use apply::{ByHand, Writer};
use chrono::{DateTime, Utc};
use dereference::{Observed, dereference};
pub use error::Error;
use kube::{ResourceExt, runtime::controller::Action};
use metrics::BackupMetrics;
use status::{Found, news, status};
use std::{sync::Arc, time::Duration};
use stores::Stores;
use valerix_crds::{BackupPolicy, BackupPolicyStatus, LastRun};
use validate::{Plan, Runner, validate};

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
    let forgetful = controller.clone();
    let work = move |policy| {
        let controller = controller.clone();
        async move { Box::pin(controller.reconcile(&policy)).await }
    };
    let gone = |namespace: &str, name: &str| forgetful.metrics.forget(namespace, name);
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
    error: Option<Error>,
    last_run: Option<LastRun>,
    look_again: Option<DateTime<Utc>>,
    soon: bool,
}

impl Controller {
    async fn reconcile(&self, cached: &Arc<BackupPolicy>) -> Result<Action, Error> {
        if cached.metadata.deletion_timestamp.is_some() {
            // Children go with the policy by their owner references; records and archives stay.
            return Ok(Action::await_change());
        }
        let policy = self.publisher.newest(cached);
        let now = (self.now)();
        let observed = dereference(&policy, &self.stores);
        let plan = validate(&policy, &self.runner, now);
        let (plan, mut work) = match plan {
            Ok(plan) => {
                let work = self.work(&policy, &plan, &observed, now).await;
                (Some(plan), work)
            }
            Err(error) => (
                None,
                Work {
                    error: Some(error),
                    ..Work::default()
                },
            ),
        };
        let found = Found {
            plan: plan.as_ref(),
            error: work.error.as_ref(),
            observed: &observed,
            last_run: work.last_run.take(),
        };
        let (status, look_again) = status(&policy, &found, now);
        self.publish(&policy, &status).await?;
        match work.error {
            Some(error) => Err(error),
            None if work.soon => Ok(Action::requeue(SOON)),
            None => {
                let at = work.look_again.map_or(look_again, |at| at.min(look_again));
                Ok(Action::requeue((at - now).to_std().unwrap_or_default() + LATER))
            }
        }
    }

    /// Everything that is written for a valid policy, in an order that survives a kill between any two steps: what the
    /// CronJob needs before it can fire stands before it.
    async fn work(&self, policy: &BackupPolicy, plan: &Plan, observed: &Observed, now: DateTime<Utc>) -> Work {
        let mut work = Work::default();
        if let Err(error) = self.stand(policy, plan, observed).await {
            work.error = Some(error);
            return work;
        }
        let (corrections, look_again) =
            records::corrections(&plan.name, &plan.schedule, plan.deadline_seconds, observed, now);
        work.look_again = look_again;
        for correction in &corrections {
            match self.writer.correct(&plan.namespace, correction, now).await {
                Ok(true) => {}
                Ok(false) => work.soon = true,
                Err(error) => work.error = Some(error),
            }
        }
        match self.writer.by_hand(policy, plan, observed).await {
            Ok(ByHand::Nothing) => {}
            Ok(ByHand::Waiting) => work.soon = true,
            Ok(ByHand::Answered(run)) => work.last_run = Some(run),
            Err(error) => work.error = Some(error),
        }
        work
    }

    /// The next slot's record, then the children.
    async fn stand(&self, policy: &BackupPolicy, plan: &Plan, observed: &Observed) -> Result<(), Error> {
        if !plan.spec.suspend {
            self.writer.record(plan, plan.next, observed).await?;
        }
        for child in self.writer.children(build::build(plan), observed).await? {
            let note = format!("{child} was changed by somebody else and is as desired again");
            self.events.warning(policy, "DriftPutBack", "Apply", &note).await;
        }
        Ok(())
    }

    /// Side effects: the status if it changed, its events, the gauges.
    async fn publish(&self, policy: &BackupPolicy, status: &BackupPolicyStatus) -> Result<(), Error> {
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        self.metrics.set(&namespace, &name, status);
        let written = self
            .publisher
            .publish(policy, status, Precondition::SameObject)
            .await
            .map_err(Error::api("write the status of", &name))?;
        if written {
            for news in news(&policy.status.clone().unwrap_or_default(), status) {
                if news.good {
                    self.events.normal(policy, &news.reason, "Backup", &news.note).await;
                } else {
                    self.events.warning(policy, &news.reason, "Backup", &news.note).await;
                }
            }
        }
        Ok(())
    }
}
