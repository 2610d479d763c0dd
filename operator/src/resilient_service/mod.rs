//! Keeps ResilientServices true. Reads stores, in `mounts` the events of a pod that waits, and in `unresolved` the
//! metadata of a target's Service; writes children in `apply`, nudges in `nudge`, status in `publish`, events in `tell`,
//! nothing else.

mod apply;
mod build;
mod dereference;
mod error;
#[cfg(test)]
mod fixtures;
mod follow;
mod memory;
mod metrics;
mod mounts;
mod nudge;
mod policy;
mod ports;
mod quantity;
mod ready_ports;
mod reports;
mod rollout;
mod rolls;
mod service_monitor;
mod status;
mod stores;
mod tcp;
#[cfg(test)]
mod tests;
mod unresolved;
mod validate;

pub use build::Resources;
pub use reports::{Contact, Failing, PodReport, ReportStore};
pub use stores::Stores;
pub use validate::{DEFAULT_REPORT_PORT, inbound_ports, is_guarded, report_port};

use crate::{
    Context,
    runtime::{
        Category, Events, Failed, News, Options, Publisher, Violations,
        apply::{Applied, Applier},
        controller,
        publish::Precondition,
    },
};
use apply::{ChildResults, Gates, apply};
use build::Watchers;
use chrono::{DateTime, Utc};
use dereference::{Observed, dereference};
pub use error::Error;
use follow::Follower;
use kube::{ResourceExt, runtime::controller::Action};
use memory::Memory;
use nudge::{Nudger, behind};
use rollout::Rollout;
use rolls::Rolls;
pub use status::Reason;
use status::{CONFIG_ACCEPTED, Remembered, Work, news, overdue_since, status, wanted};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use valerix_crds::{ResilientService, ResilientServiceStatus, names::policy_config_map};
use validate::validate;
pub use validate::violations;

/// Name in metrics, logs and events.
const CONTROLLER: &str = "resilient-service";
/// Nothing tells that a stranger has gone, so a name that is taken is looked at this often.
const TAKEN_NAME_LOOK: Duration = Duration::from_secs(30);
/// No timer runs for longer: what is years ahead is looked at once a day.
const LONGEST_LOOK: Duration = Duration::from_secs(86_400);

/// Reconciles every ResilientService until the process ends.
pub async fn run(ctx: Arc<Context>) {
    ctx.runtime.expose_conditions(&ctx.stores.services, |service| {
        service.status.as_ref().map_or(&[], |status| &status.conditions)
    });
    metrics::expose_evidence(&ctx.runtime.metrics, &ctx.reports);
    let triggers = ctx.stores.services.triggers().clone();
    let follower = match Follower::new(ctx.reports.clone(), triggers, reports::WAIT) {
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
        nudger: Nudger::start(&ctx.runtime, ctx.reports.clone()),
        memory: Memory::default(),
        rolls: Rolls::default(),
        follower,
        ctx: ctx.clone(),
    });
    let forgetful = controller.clone();
    let gone = |namespace: &str, name: &str| forgetful.forget(namespace, name);
    let work = move |service| {
        let controller = controller.clone();
        async move { controller.reconcile(&service).await }
    };
    let options = Options {
        concurrency: 16,
        ..Options::new(CONTROLLER)
    };
    controller::run(&ctx.runtime, options, &ctx.stores.services, work, gone).await;
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
    rolls: Rolls,
}

impl Controller {
    async fn reconcile(&self, cached: &Arc<ResilientService>) -> Result<Action, Failed<Error>> {
        if cached.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let service = self.publisher.newest(cached);
        if let Some(before) = self.memory.meet(&service) {
            self.forget_uid(&before);
        }
        let mut observed = dereference(&service, &self.ctx.stores, &self.ctx.reports);
        self.follow(&service, &observed);
        let mut looks = Looks::default();
        observed.unmounted = self.mounts(&service, &observed, &mut looks).await;
        observed.unresolved = self.unresolved(&service, &mut looks).await;
        let work = self.work(&service, &observed, &mut looks).await;
        self.nudge(&service, &observed, &work, &mut looks);
        let published = self.publish(&service, &observed, &work, &mut looks).await;
        let error = match (published, work) {
            (Err(error), _) => Some(error),
            (Ok(()), Work::Applied { applied, .. }) => {
                let error = applied.into_error();
                let is_taken = error.as_ref().is_some_and(|error| error.category() == "NotOwned");
                looks.within(is_taken.then_some(TAKEN_NAME_LOOK));
                error.map(|source| Error::Apply { source })
            }
            (Ok(()), Work::Invalid(violations)) => Some(Error::Invalid { violations }),
            (Ok(()), Work::Paused) => None,
        };
        match error {
            None => Ok(looks.0.map_or_else(Action::await_change, Action::requeue)),
            Some(source) => Err(Failed {
                source,
                look_again: looks.0,
            }),
        }
    }

    /// Side effect: connections to the ready pods, no API request.
    fn follow(&self, service: &ResilientService, observed: &Observed) {
        let port = report_port(&service.spec).and_then(|port| u16::try_from(port).ok());
        let namespace = service.namespace().unwrap_or_default();
        let changes_at = override_ends(service, Utc::now()).collect();
        self.follower
            .follow(&namespace, &service.name_any(), &observed.ready_pods, port, changes_at);
    }

    /// Side effect: the children, unless the service is paused or cannot be built.
    async fn work(&self, service: &Arc<ResilientService>, observed: &Observed, looks: &mut Looks) -> Work {
        let config_map = policy_config_map(&service.name_any());
        let ready = u32::try_from(observed.ready_pods.len()).unwrap_or(u32::MAX);
        let (replicas, wait) = self.memory.with(service, |notes| {
            let written = observed.runtime_replicas(&config_map);
            let desired = u32::try_from(observed.asked_replicas(service)).unwrap_or(0);
            notes.ready.settle(written, ready, desired, Instant::now())
        });
        looks.within(wait);
        let mut plan = match validate(service, replicas, &self.ctx.settings.guard_image) {
            Ok(plan) => plan,
            Err(violations) => {
                self.leave_turn(service);
                return Work::Invalid(violations);
            }
        };
        if service.spec.paused {
            self.leave_turn(service);
            return Work::Paused;
        }
        plan.has_pods_of_another_shape = observed.has_pods_of_another_shape(plan.guard.as_ref());
        plan.standing_ports = observed.standing_ports();
        plan.standing_targets = observed.standing_targets(&plan.name);
        plan.ready_ports = observed.ready_ports();
        plan.selector = observed.standing_selector(&plan.name);
        plan.knows_monitors = self.ctx.stores.service_monitors.is_served();
        plan.replicas = observed.asked_replicas(service);
        let live_replicas = observed.live_replicas(&plan.name);
        let left = self.memory.with(service, |notes| {
            notes.contest.see(plan.replicas, live_replicas);
            notes.contest.yields(Instant::now())
        });
        let others = live_replicas.filter(|replicas| *replicas != plan.replicas);
        if let (Some(replicas), Some(_)) = (others, left) {
            looks.within(left);
            plan.replicas = replicas;
        }
        let watchers = Watchers {
            operator_namespace: &self.ctx.settings.pod_namespace,
            monitoring_namespaces: &self.ctx.settings.monitoring_namespaces(),
        };
        let resources = build::build(&plan, watchers);
        let gates = Gates {
            may_switch: Rollout::of(observed, &plan.name).serves(plan.replicas),
            may_roll: self.may_roll(service, observed, &plan, &resources.deployment, looks),
        };
        // Boxed, because the desired objects are large and every reconcile would carry their room.
        let applied = Box::pin(apply(resources, observed, service, gates, &self.applier)).await;
        if gates.may_roll && !applied.stands("Deployment") {
            self.leave_turn(service);
        }
        if others.is_some() && left.is_none() {
            let is_written = |outcome| applied.with(outcome).any(|child| child.kind == "Deployment");
            self.memory.with(service, |notes| {
                // After the pause what was applied last is the other's number: ours is an update then.
                if is_written(Applied::Repaired) || (is_written(Applied::Updated) && notes.contest.has_stood()) {
                    notes.contest.put_back(Instant::now());
                }
            });
        }
        self.tell_applied(service, &applied).await;
        Work::Applied {
            plan: Box::new(plan),
            applied,
        }
    }

    /// Side effect: at most one queued nudge per pod that is behind. Those of a paused service are left alone, but for a
    /// fault: one that is to stop stops at once.
    fn nudge(&self, service: &ResilientService, observed: &Observed, work: &Work, looks: &mut Looks) {
        let live = observed.document_hashes(&policy_config_map(&service.name_any()));
        let mut behind = behind(observed, &live);
        if matches!(work, Work::Paused) {
            behind.retain(|uid| {
                let pod = observed.ready_pods.get(*uid);
                pod.is_some_and(|pod| pod.shows_other_faults(&live))
            });
        }
        let (due, next) = self
            .memory
            .with(service, |notes| notes.nudges.due(&behind, &live, Instant::now()));
        looks.within(next);
        let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
        for uid in due {
            if let Some(pod) = observed.ready_pods.get(&uid) {
                self.nudger.nudge((&namespace, &name), &pod.name, &uid, &live);
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
        let now = Utc::now();
        let remembered = self.remembered(service, observed, work, now);
        let judged = status(service, observed, work, remembered, now);
        looks.within(judged.look_again);
        // What is over then is told.
        let end = override_ends(service, now)
            .min()
            .and_then(|end| (end - now).to_std().ok());
        looks.within(end.map(|end| end.min(LONGEST_LOOK)));
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
        let published = self
            .publisher
            .publish(service, &judged.status, Precondition::SameObject)
            .await;
        if let Err(source) = published {
            // Else the next look, too early to write, would end well and start the waits over.
            self.memory.with(service, |notes| notes.writes.failed());
            return Err(Error::Publish {
                source: Box::new(source),
            });
        }
        self.tell_status(service, &old, &judged.status).await;
        Ok(())
    }

    /// What the status cannot say of itself. Memory only.
    fn remembered(
        &self,
        service: &Arc<ResilientService>,
        observed: &Observed,
        work: &Work,
        now: DateTime<Utc>,
    ) -> Remembered {
        let before = service.status.clone().unwrap_or_default();
        let wanted = wanted(service, observed, work);
        let rollout = Rollout::of(observed, &service.name_any());
        self.memory.with(service, |notes| Remembered {
            awaited_since: wanted.and_then(|hash| {
                let is_awaited = observed.awaits(&hash, &rollout, now);
                notes
                    .awaiting
                    .since(&hash, is_awaited, overdue_since(&before, &hash), now)
            }),
            yields_replicas: notes.contest.yields(Instant::now()).is_some(),
        })
    }

    /// Side effect: an event for each step from one status to the next; that a configuration is accepted, once.
    async fn tell_status(
        &self,
        service: &Arc<ResilientService>,
        old: &ResilientServiceStatus,
        new: &ResilientServiceStatus,
    ) {
        let hash = new.config.as_ref().map(|config| config.hash.clone());
        let mut news = news(old, new);
        if news.iter().any(|news| news.reason == CONFIG_ACCEPTED) {
            let told = self
                .memory
                .with(service, |notes| std::mem::replace(&mut notes.accepted, hash.clone()));
            news.retain(|news| news.reason != CONFIG_ACCEPTED || told != hash);
        }
        self.events.tell(&**service, news).await;
    }

    /// Side effect: an event for each child that was handed over to us, or that somebody had changed and we have put back.
    async fn tell_applied(&self, service: &ResilientService, applied: &ChildResults) {
        let adopted = applied.with(Applied::Adopted).map(|child| {
            let note = format!(
                "{} {} was handed over and belongs to this service now",
                child.kind, child.name
            );
            News::good("Adopted", "Apply", note)
        });
        let repaired = applied.with(Applied::Repaired).map(|child| {
            let note = format!(
                "{} {} was changed by somebody else and is as desired again",
                child.kind, child.name
            );
            News::bad("DriftPutBack", "Apply", note)
        });
        self.events
            .tell(service, adopted.chain(repaired).collect::<Vec<_>>())
            .await;
    }

    /// Side effect: memory only.
    fn forget(&self, namespace: &str, name: &str) {
        self.follower
            .follow(namespace, name, &Default::default(), None, Vec::new());
        self.leave_turn_of(&(namespace.to_owned(), name.to_owned()));
        if let Some(uid) = self.memory.forget(namespace, name) {
            self.forget_uid(&uid);
        }
    }

    /// Side effect: memory only.
    fn forget_uid(&self, uid: &str) {
        self.publisher.forget(uid);
        self.applier.forget(uid);
    }
}

/// What would be applied for a service, with `operator_namespace` as where the operator follows pods from and nobody who
/// scrapes them from elsewhere. Pure; the
/// children name their owner by the service's UID.
///
/// # Errors
/// Everything that is wrong with the specification beyond what the schema refuses.
pub fn children(
    service: &Arc<ResilientService>,
    guard_image: &str,
    operator_namespace: &str,
) -> Result<Resources, Violations> {
    let plan = validate(service, 0, guard_image)?;
    let watchers = Watchers {
        operator_namespace,
        monitoring_namespaces: &[],
    };
    Ok(build::build(&plan, watchers))
}

/// When to look again without a change: the earliest of all wishes.
#[derive(Default)]
struct Looks(Option<Duration>);

impl Looks {
    fn within(&mut self, wait: Option<Duration>) {
        // A little later rather than a little too early: what is awaited must have come.
        let wait = wait.map(|wait| wait + Duration::from_millis(5));
        self.0 = self.0.into_iter().chain(wait).min();
    }
}

/// When overrides of circuits that are still to end do so by themselves.
fn override_ends(service: &ResilientService, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let targets = service
        .spec
        .resilience
        .iter()
        .flat_map(|resilience| &resilience.targets);
    targets
        .filter_map(|target| target.manual_override.as_ref())
        .map(|by_hand| by_hand.until)
        .filter(move |until| *until > now)
}
