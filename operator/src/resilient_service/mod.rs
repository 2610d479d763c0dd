//! Keeps ResilientServices true. Reads stores only; writes children in `apply`, nudges in `nudge`, status in `publish`,
//! events in `tell`, nothing else.

mod apply;
mod build;
mod dereference;
mod error;
#[cfg(test)]
mod fixtures;
mod follow;
mod memory;
mod nudge;
mod reports;
mod rollout;
mod status;
mod stores;
#[cfg(test)]
mod tests;
mod validate;

pub use reports::{Contact, Failing, PodReport, ReportStore};
pub use stores::Stores;
pub use validate::{DEFAULT_REPORT_PORT, report_port};

use crate::{
    Context,
    runtime::{Events, Options, Publisher, apply::Applier, controller},
};
use apply::{Applied, apply};
use chrono::Utc;
use dereference::{Observed, dereference};
pub use error::Error;
use follow::Follower;
use kube::{ResourceExt, runtime::controller::Action};
use memory::Memory;
use nudge::{Nudger, behind};
use status::{Work, news, status};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use valerix_crds::{ResilientService, names::policy_config_map};
use validate::validate;

/// Name in metrics, logs and events.
const CONTROLLER: &str = "resilient-service";

/// Reconciles every ResilientService until the process ends.
pub async fn run(ctx: Arc<Context>) {
    let triggers = ctx.stores.services.triggers().clone();
    let follower = match Follower::new(ctx.reports.clone(), triggers, follow::WAIT) {
        Ok(follower) => follower,
        Err(error) => {
            tracing::error!(%error, "failed to make the client that follows pods");
            return;
        }
    };
    let controller = Arc::new(Controller {
        applier: Applier::new(&ctx.runtime, CONTROLLER),
        publisher: Publisher::new(&ctx.runtime, CONTROLLER).leaving_out(&["lastExperiment"]),
        events: ctx.runtime.events(CONTROLLER),
        nudger: Nudger::start(&ctx.runtime),
        memory: Memory::default(),
        follower,
        ctx: ctx.clone(),
    });
    let forgetful = controller.clone();
    ctx.stores
        .services
        .on_gone(move |namespace, name| forgetful.forget(namespace, name));
    let options = Options {
        concurrency: 16,
        ..Options::new(CONTROLLER)
    };
    controller::run(&ctx.runtime, options, &ctx.stores.services, move |service| {
        let controller = controller.clone();
        async move { controller.reconcile(&service).await }
    })
    .await;
}

/// What the steps need beside the objects.
struct Controller {
    ctx: Arc<Context>,
    applier: Applier,
    publisher: Publisher<ResilientService>,
    events: Events,
    follower: Follower,
    nudger: Nudger,
    memory: Memory,
}

impl Controller {
    async fn reconcile(&self, cached: &Arc<ResilientService>) -> Result<Action, Error> {
        if cached.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let service = self.publisher.newest(cached);
        let observed = dereference(&service, &self.ctx.stores, &self.ctx.reports);
        self.follow(&service, &observed);
        let mut looks = Looks::default();
        let work = self.work(&service, &observed, &mut looks).await;
        self.nudge(&service, &observed, &mut looks);
        self.publish(&service, &observed, &work, &mut looks).await?;
        match work {
            Work::Applied { applied, .. } => match applied.into_error() {
                Some(source) => Err(Error::Apply { source }),
                None => Ok(looks.action()),
            },
            Work::Invalid(violations) => Err(Error::Invalid {
                message: validate::describe(&violations),
            }),
            Work::Paused => Ok(looks.action()),
        }
    }

    /// Side effect: connections to the ready pods, no API request.
    fn follow(&self, service: &ResilientService, observed: &Observed) {
        let port = report_port(&service.spec).and_then(|port| u16::try_from(port).ok());
        let namespace = service.namespace().unwrap_or_default();
        self.follower
            .follow(&namespace, &service.name_any(), &observed.ready_pods, port);
    }

    /// Side effect: the children, unless the service is paused or cannot be built.
    async fn work(&self, service: &Arc<ResilientService>, observed: &Observed, looks: &mut Looks) -> Work {
        let config_map = policy_config_map(&service.name_any());
        let ready = u32::try_from(observed.ready_pods.len()).unwrap_or(u32::MAX);
        let (replicas, wait) = self.memory.with(service, |notes| {
            notes
                .ready
                .settle(observed.runtime_replicas(&config_map), ready, Instant::now())
        });
        looks.within(wait);
        let plan = match validate(service, replicas) {
            Ok(plan) => plan,
            Err(violations) => return Work::Invalid(violations),
        };
        if service.spec.paused {
            return Work::Paused;
        }
        let resources = build::build(&plan);
        let owner = service.uid().unwrap_or_default();
        // Boxed, because the desired objects are large and every reconcile would carry their room.
        let applied = Box::pin(apply(resources, observed, &owner, &self.applier)).await;
        self.tell_applied(service, &applied).await;
        Work::Applied {
            plan: Box::new(plan),
            applied,
        }
    }

    /// Side effect: at most one queued nudge per pod that is behind.
    fn nudge(&self, service: &ResilientService, observed: &Observed, looks: &mut Looks) {
        let live = observed.document_hashes(&policy_config_map(&service.name_any()));
        let behind = behind(observed, &live);
        let (due, next) = self
            .memory
            .with(service, |notes| notes.nudges.due(&behind, &live, Instant::now()));
        looks.within(next);
        let namespace = service.namespace().unwrap_or_default();
        for uid in due {
            if let Some(pod) = observed.ready_pods.get(&uid) {
                self.nudger.nudge(&namespace, &pod.name, &uid);
            }
        }
    }

    /// Side effect: the status, if it changed, every ready pod was asked, and the last writing is a second ago.
    async fn publish(
        &self,
        service: &Arc<ResilientService>,
        observed: &Observed,
        work: &Work,
        looks: &mut Looks,
    ) -> Result<(), Error> {
        let unasked = report_port(&service.spec).is_some() && observed.has_unasked_pods();
        let hold = self
            .memory
            .with(service, |notes| notes.patience.hold(unasked, Instant::now()));
        if hold.is_some() {
            looks.within(hold);
            return Ok(());
        }
        let judged = status(service, observed, work, Utc::now());
        looks.within(judged.look_again);
        let old = service.status.clone().unwrap_or_default();
        if old == judged.status {
            return Ok(());
        }
        if let Some(wait) = self
            .memory
            .with(service, |notes| notes.writes.may_write(Instant::now()))
        {
            looks.within(Some(wait));
            return Ok(());
        }
        self.publisher
            .publish(
                service,
                &judged.status,
                crate::runtime::publish::Precondition::SameObject,
            )
            .await
            .map_err(|source| Error::Publish {
                source: Box::new(source),
            })?;
        for news in news(&old, &judged.status) {
            if news.good {
                self.events
                    .normal(&**service, news.reason, &news.action, &news.note)
                    .await;
            } else {
                self.events
                    .warning(&**service, news.reason, &news.action, &news.note)
                    .await;
            }
        }
        Ok(())
    }

    /// Side effect: an event for each child that somebody had changed and we have put back.
    async fn tell_applied(&self, service: &ResilientService, applied: &Applied) {
        for child in applied.with(crate::runtime::apply::Outcome::Repaired) {
            let note = format!(
                "{} {} was changed by somebody else and is as desired again",
                child.kind, child.name
            );
            self.events.warning(service, "DriftPutBack", "Apply", &note).await;
        }
    }

    /// Side effect: memory only.
    fn forget(&self, namespace: &str, name: &str) {
        self.follower.follow(namespace, name, &Default::default(), None);
        if let Some(uid) = self.memory.forget(namespace, name) {
            self.publisher.forget(&uid);
        }
    }
}

/// When to look again without a change: the earliest of all wishes.
#[derive(Default)]
struct Looks(Option<Duration>);

impl Looks {
    fn within(&mut self, wait: Option<Duration>) {
        if let Some(wait) = wait {
            self.0 = Some(self.0.map_or(wait, |earlier| earlier.min(wait)));
        }
    }

    fn action(&self) -> Action {
        // A little later rather than a little too early: what is awaited must have come.
        self.0.map_or_else(Action::await_change, |wait| {
            Action::requeue(wait + Duration::from_millis(5))
        })
    }
}
