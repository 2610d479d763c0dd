//! Carries each Restore out once: one Job, whose runner restores and reports, and later one that drops what was replaced.
//!
//! Reads stores; whether a Job that is missed in the cache is there; and the events of a Job that has no pod. Writes
//! children and Jobs in `apply`, the status and its events in `publish`, nothing else. What happens to databases is the
//! runner's (services/backup/src/restore).

mod apply;
mod build;
mod dereference;
mod error;
#[cfg(test)]
mod fixtures;
mod metrics;
mod reason;
mod status;
mod stores;
#[cfg(test)]
mod tests;
mod validate;

use crate::{
    Context,
    backup_policy::job::{JobState, POD_PATIENCE, Runner, job_state, lacks_pod},
    runtime::{
        Events, Failed, Options, Publisher, Runtime, apply::Applier, controller, failure, publish::Precondition,
    },
};
use apply::Writer;
use chrono::{DateTime, Utc};
use dereference::{Observed, dereference};
pub use error::Error;
use k8s_openapi::api::batch::v1::Job;
use kube::{ResourceExt, runtime::controller::Action};
use metrics::RestoreMetrics;
pub use reason::Reason;
use status::{Found, job_of, news, not_dropped, status};
use std::{sync::Arc, time::Duration};
use stores::Stores;
use valerix_crds::{Restore, RestorePhase, RestoreStatus};
use validate::{validate, validate_drop};

/// Name in metrics, logs and events.
const CONTROLLER: &str = "restore";
/// How soon to look again when the runner has written meanwhile. Its writing triggers a look too.
const SOON: Duration = Duration::from_secs(1);
/// How often a Restore is looked at that nothing else wakes.
const SELDOM: Duration = Duration::from_secs(24 * 60 * 60);

/// Reconciles every Restore until the process ends.
pub async fn run(ctx: Arc<Context>) {
    let runner = Runner {
        image: ctx.settings.backup_image.clone(),
        cluster_role: ctx.settings.restore_runner_cluster_role.clone(),
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
        metrics: RestoreMetrics::new(&runtime.metrics),
        stores: stores.clone(),
        runner,
        now,
    });
    let forgetful = controller.clone();
    let work = move |restore| {
        let controller = controller.clone();
        async move { Box::pin(controller.reconcile(&restore)).await }
    };
    let gone = |namespace: &str, name: &str| forgetful.metrics.forget(namespace, name);
    controller::run(runtime, Options::new(CONTROLLER), &stores.restores, work, gone).await;
}

struct Controller {
    writer: Writer,
    publisher: Publisher<Restore>,
    events: Events,
    metrics: RestoreMetrics,
    stores: Stores,
    runner: Runner,
    now: fn() -> DateTime<Utc>,
}

/// What one pass has done.
#[derive(Default)]
struct Work {
    made: Option<Job>,
    job_gone: bool,
    look_again: Option<Duration>,
}

impl Controller {
    async fn reconcile(&self, cached: &Arc<Restore>) -> Result<Action, Failed<Error>> {
        if cached.metadata.deletion_timestamp.is_some() {
            // The Job goes with the Restore by its owner reference; its runner opens again what it has closed.
            return Ok(Action::await_change());
        }
        let restore = self.publisher.newest(cached);
        let now = (self.now)();
        let mut observed = dereference(&restore, &self.stores);
        let mut work = Work::default();
        let error = self.work(&restore, &mut observed, now, &mut work).await.err();
        let found = Found {
            error: error.as_ref(),
            observed: &observed,
            made: work.made.as_ref(),
            job_gone: work.job_gone,
        };
        let status = status(&restore, &found, now);
        let published = self.publish(&restore, &status).await;
        let look_again = work.look_again.unwrap_or(SELDOM);
        match (error, published) {
            (None, Ok(true)) => Ok(Action::requeue(look_again)),
            // The runner has written since: its word counts.
            (None, Ok(false)) => Ok(Action::requeue(SOON)),
            (Some(source), _) | (None, Err(source)) => Err(Failed {
                source,
                look_again: Some(look_again),
            }),
        }
    }

    /// Everything that is written but the status.
    async fn work(
        &self,
        restore: &Restore,
        observed: &mut Observed,
        now: DateTime<Utc>,
        work: &mut Work,
    ) -> Result<(), Error> {
        let namespace = restore.namespace().unwrap_or_default();
        let status = restore.status.clone().unwrap_or_default();
        if status.phase.is_terminal() {
            return self.clear_away(restore, &status, observed, now, work).await;
        }
        if let Some(job) = observed.job.clone() {
            let pods: Vec<_> = observed.pods_of(&job.name_any()).cloned().collect();
            if lacks_pod(&job, pods.iter(), now) {
                observed.refused = self.writer.refusal(&namespace, &job).await?;
            }
            if job_state(&job) == JobState::Active && status.pod_uid.is_none() {
                work.look_again = POD_PATIENCE.to_std().ok().map(|patience| patience + SOON);
            }
            return Ok(());
        }
        // Whoever was made once is not made again, whatever became of it.
        if status.job.is_some() || status.started_at.is_some() {
            work.job_gone = !self.writer.finds_job(&namespace, &job_of(restore)).await?;
            work.look_again = Some(SOON);
            return Ok(());
        }
        let plan = validate(restore, observed, &self.runner)?;
        work.made = Some(self.writer.children(build::build(&plan), observed).await?);
        Ok(())
    }

    /// Drops what was replaced once its time has come.
    async fn clear_away(
        &self,
        restore: &Restore,
        status: &RestoreStatus,
        observed: &Observed,
        now: DateTime<Utc>,
        work: &mut Work,
    ) -> Result<(), Error> {
        let kept = status.databases.iter().filter(|database| !database.previous_dropped);
        let due = kept.filter_map(|database| database.previous_until).min();
        let Some(due) = due.filter(|_| status.phase == RestorePhase::Completed) else {
            return Ok(());
        };
        if due > now {
            let left = (due - now).to_std().unwrap_or_default() + SOON;
            work.look_again = Some(left.min(SELDOM));
            return Ok(());
        }
        match &observed.drop_job {
            None => {
                let plan = validate_drop(restore, &self.runner)?;
                self.writer.children(build::build_drop(&plan), observed).await?;
                Ok(())
            }
            Some(job) if job_state(job) == JobState::Failed => Err(Error::DropFailed {
                name: job.name_any(),
                databases: not_dropped(status),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Side effects: the status if it changed, its events, the gauges. False if somebody else has written meanwhile.
    async fn publish(&self, restore: &Restore, status: &RestoreStatus) -> Result<bool, Error> {
        let (namespace, name) = (restore.namespace().unwrap_or_default(), restore.name_any());
        self.metrics.set(&namespace, &name, status);
        let written = self.publisher.publish(restore, status, Precondition::SameVersion).await;
        match written {
            Ok(true) => {
                let news = news(&restore.status.clone().unwrap_or_default(), status);
                self.events.tell(restore, news).await;
                Ok(true)
            }
            Ok(false) => Ok(true),
            Err(error) if failure::is_status(&error, 409) => Ok(false),
            Err(error) => Err(Error::api("write the status of", &name)(error)),
        }
    }
}
