//! Runs ChaosExperiments: one fault each, within limits, with a verdict.
//!
//! Read top to bottom. [`Controller::reconcile`] looks at one experiment: without a run under way it decides from the
//! cache alone ([`step::idle`]) and asks nothing. With one, it observes (`dereference`), decides one thing (`step`, pure)
//! and does it (`apply`), again and again until there is something to wait for; what changes anything is decided once more
//! on what the API server says at that moment. Side effects: `apply` writes the finalizer, the status and the fault
//! document, and evicts or deletes pods; `probes` asks questions; `sweep` clears fault documents that nobody would end;
//! `report::tell` records events and what a service's last experiment was; `drain` stops all runs before an uninstall. Nothing else. `verify` is another process: it asks
//! for a run as a person would.

mod after;
mod apply;
mod dereference;
mod drain;
mod durations;
mod entry;
mod error;
mod faults;
mod hold;
mod identity;
mod limits;
mod memory;
mod observed;
mod probes;
mod report;
mod requested;
mod safety;
mod schedule;
mod step;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
mod validate;
mod verify;
#[cfg(test)]
mod wire_tests;

pub use error::Error;
pub use report::reason::Reason;
pub use verify::{NO_VERDICT, verify};

use crate::Context;
use crate::runtime::{Cache, Change, Failed, Options, Publisher, Runtime, Violation, WatchOptions, controller};
use apply::{Applied, apply};
use dereference::{Sources, observe};
use kube::runtime::controller::Action as Requeue;
use kube::{Api, ResourceExt};
use limits::Limits;
use memory::{Key, Memory};
use probes::{Probes, address::ClusterResolver};
use report::tell::{Teller, Telling, telling};
use safety::Safety;
use std::sync::Arc;
use std::time::Duration;
use step::{Action, Idle, decide, entry_name, has_finalizer, idle};
use valerix_crds::{ChaosExperiment, ChaosPhase};
use validate::{Plan, schedule, spec_hash, validate};

/// Name in metrics, logs and events.
const CONTROLLER: &str = "chaos-experiment";
/// Decisions in one look; a run of many pods goes on in the next.
const DECISIONS: usize = 40;
/// Longest wait after a failure while a fault may be in force (the finalizer comes before it and goes after its end),
/// however many failures there were: whom it hurts is not to wait for minutes after the API server answers again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A wait is never longer than this, so that a clock that was set is noticed. Waking up costs no request.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Reconciles every ChaosExperiment until the process ends.
pub async fn run(ctx: Arc<Context>) {
    let (sweeps, requests) = sweep::sweeps();
    let asked = sweeps.clone();
    let watch = WatchOptions::new("chaosexperiments").on_change(move |change: Change<'_, ChaosExperiment>| {
        if matches!(change, Change::Deleted(_) | Change::Relisted) {
            asked.ask();
        }
    });
    let runtime = &ctx.runtime;
    let experiments = runtime.watch(watch);
    runtime.expose_conditions(&experiments, |experiment| {
        experiment.status.as_ref().map_or(&[], |status| &status.conditions)
    });
    let (telling, changes) = telling();
    let controller = match Controller::new(&ctx, experiments.clone(), telling) {
        Ok(controller) => Arc::new(controller),
        Err(error) => {
            tracing::error!(%error, "failed to make the client that asks the probes' questions");
            return;
        }
    };
    let forgetful = controller.clone();
    let help = "Runs of experiments by kind of fault and verdict.";
    let teller = Teller {
        clients: runtime.clients.clone(),
        events: runtime.events(CONTROLLER),
        runs: runtime
            .metrics
            .counter("valerix_chaos_runs_total", help, &["type", "verdict"]),
    };
    let sweeping = async {
        runtime.leadership.acquired().await;
        sweeps.ask();
        let is_held = || ctx.stores.config_maps.all().iter().any(|map| sweep::has_entry(map));
        sweep::run(runtime.clients.clone(), runtime.scopes.clone(), requests, is_held).await;
    };
    let reconciling = controller::run(
        runtime,
        Options {
            look_again: Some(LONGEST_WAIT),
            ..Options::new(CONTROLLER)
        },
        &experiments,
        move |experiment| {
            let controller = controller.clone();
            async move { controller.reconcile(experiment).await }
        },
        move |namespace, name| forgetful.forget(&(namespace.to_owned(), name.to_owned())),
    );
    tokio::select! {
        () = reconciling => {}
        () = sweeping => {}
        () = teller.run(changes) => {}
    }
}

/// Stops every experiment, waits until its fault is gone, and ends the operator's Deployment, where it has one.
///
/// # Errors
/// If the cluster cannot be reached, or a fault or the operator is still there at the end.
pub async fn drain(settings: crate::settings::DrainSettings, config: kube::Config) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let requests = crate::runtime::api_metrics::ApiMetrics::new().context("failed to describe the metrics")?;
    let clients = crate::runtime::Clients::new(config, &requests).context("failed to make a client for the cluster")?;
    let removal = drain::Removal {
        namespace: &settings.operator.pod_namespace,
        deployment: settings.deployment(),
        timeout: settings.timeout(),
    };
    let scopes = settings.operator.scopes();
    drain::drain(&clients, &scopes, removal).await?;
    // Nobody is left who would put it on again, or take it away once the policy is deleted.
    crate::backup_policy::release(&clients, &scopes)
        .await
        .context("failed to take the finalizer from every BackupPolicy")
}

/// What the reconciles of this kind share.
struct Controller {
    ctx: Arc<Context>,
    limits: Limits,
    experiments: Cache<ChaosExperiment>,
    publisher: Publisher<ChaosExperiment>,
    telling: Telling,
    probes: Probes,
    safety: Safety,
    memory: Memory,
}

/// What one round of a look came to.
enum Round {
    /// The experiment as it stands now: decide again.
    Again(Arc<ChaosExperiment>),
    /// There is nothing to do until then.
    Wait(Requeue),
}

impl Controller {
    fn new(ctx: &Arc<Context>, experiments: Cache<ChaosExperiment>, telling: Telling) -> Result<Self, reqwest::Error> {
        let settings = &ctx.settings;
        Ok(Self {
            limits: Limits {
                operator_namespace: settings.pod_namespace.clone(),
                eviction_namespaces: settings.chaos_namespaces().into_iter().collect(),
                max_duration: settings.chaos_max_duration,
                probe_urls: settings.chaos_probe_urls(),
            },
            experiments,
            publisher: Publisher::new(&ctx.runtime, CONTROLLER),
            telling,
            probes: Probes::new(ctx.runtime.clients.clone())?,
            safety: Safety::new(ctx.runtime.clients.clone(), &settings.pod_namespace),
            memory: Memory::default(),
            ctx: ctx.clone(),
        })
    }

    fn runtime(&self) -> &Runtime {
        &self.ctx.runtime
    }

    async fn reconcile(&self, cached: Arc<ChaosExperiment>) -> Result<Requeue, Failed<Error>> {
        let mut experiment = self.publisher.newest(&cached);
        let looked = self.look(&mut experiment).await;
        looked.map_err(|source| Failed {
            source,
            look_again: has_finalizer(&experiment).then_some(LONGEST_WAIT),
        })
    }

    /// Looks at `experiment` until there is something to wait for; it is then as it stands.
    async fn look(&self, experiment: &mut Arc<ChaosExperiment>) -> Result<Requeue, Error> {
        let key = (experiment.namespace().unwrap_or_default(), experiment.name_any());
        if let Some(gone) = self.memory.note(&key, &experiment.uid().unwrap_or_default()) {
            self.probes.stop(&key);
            self.publisher.forget(&gone);
        }
        let mut locked = false;
        for _ in 0..DECISIONS {
            let plan = validate(&experiment.spec, &self.limits);
            let decided = self.decide(&key, experiment, plan.as_ref()).await?;
            // A lock that was written and does not stand is written again, but not at once: whoever undoes it does so
            // each time.
            if locked && matches!(decided.action, Action::Lock(_)) {
                return Ok(Requeue::requeue(step::SOON));
            }
            locked = matches!(decided.action, Action::Lock(_));
            match self.act(&key, experiment, plan.as_ref().ok(), decided).await? {
                Round::Again(stands) => *experiment = stands,
                Round::Wait(requeue) => return Ok(requeue),
            }
        }
        Ok(Requeue::requeue(Duration::from_millis(10)))
    }

    /// The one thing to do next, and the document that it was decided on.
    async fn decide(
        &self,
        key: &Key,
        experiment: &ChaosExperiment,
        plan: Result<&Plan, &Violation>,
    ) -> Result<Decided, Error> {
        let schedule = schedule(&experiment.spec);
        let without = |action| Decided { action, document: None };
        match idle(
            experiment,
            plan,
            schedule.as_ref().map(Option::as_ref),
            chrono::Utc::now(),
        ) {
            Idle::Rest { until } => return Ok(without(Action::Rest { until })),
            Idle::Write(status) => return Ok(without(Action::Write(status))),
            Idle::Active => {}
        }
        let phase = experiment.status.as_ref().and_then(|status| status.phase);
        self.probes.set_fault_on(key, phase == Some(ChaosPhase::Running));
        let sources = Sources {
            clients: &self.runtime().clients,
            safety: &self.safety,
            stores: &self.ctx.stores,
            reports: &self.ctx.reports,
            experiments: &self.experiments,
            probes: &self.probes,
            memory: &self.memory,
        };
        for fresh in [false, true] {
            let observed = observe(&sources, experiment, &entry_name(experiment), fresh).await?;
            let action = decide(experiment, plan, &self.limits, &observed);
            // A cache is good enough to wait on, and never to act on.
            if fresh || !action.changes_something() {
                return Ok(Decided {
                    action,
                    document: observed.document,
                });
            }
        }
        Ok(without(Action::Look(step::SOON)))
    }

    /// Does what was decided.
    async fn act(
        &self,
        key: &Key,
        experiment: &Arc<ChaosExperiment>,
        plan: Option<&Plan>,
        decided: Decided,
    ) -> Result<Round, Error> {
        let name = entry_name(experiment);
        match &decided.action {
            Action::Rest { until } => {
                self.probes.stop(key);
                return Ok(Round::Wait(until.map_or_else(Requeue::await_change, |until| {
                    // A little late rather than a little early: an early look would only wait again.
                    let wait = (until - chrono::Utc::now()).to_std().unwrap_or_default() + Duration::from_millis(5);
                    Requeue::requeue(wait.min(LONGEST_REST))
                })));
            }
            Action::Look(after) => return Ok(Round::Wait(Requeue::requeue(*after))),
            Action::StartProbes => {
                if let Some(plan) = plan {
                    let recorded = experiment.status.as_ref().map(|status| status.probes.clone());
                    let resolver = Arc::new(ClusterResolver::new(self.runtime().clients.clone()));
                    let hash = spec_hash(&experiment.spec);
                    let recorded = recorded.unwrap_or_default();
                    self.probes.start(key, &name, &hash, &plan.probes, &recorded, resolver);
                }
                return Ok(Round::Wait(Requeue::requeue(step::VERY_SOON)));
            }
            _ => {}
        }
        let clients = &self.runtime().clients;
        let document = decided.document.as_ref();
        match apply(clients, &self.publisher, experiment, document, &decided.action).await? {
            Applied::Experiment(stored) => {
                let over = stored.status.as_ref().and_then(|status| status.phase);
                if over.is_some_and(ChaosPhase::is_terminal) {
                    self.probes.stop(key);
                }
                self.telling.tell(experiment.clone(), stored.clone());
                Ok(Round::Again(stored))
            }
            Applied::Elsewhere => Ok(Round::Again(experiment.clone())),
            Applied::Evicted(pod_uid, result) => {
                self.memory.evicted(key, &name, pod_uid, result);
                Ok(Round::Again(experiment.clone()))
            }
            Applied::Stale => Ok(match self.read(experiment).await? {
                Some(current) => Round::Again(current),
                None => {
                    self.forget(key);
                    Round::Wait(Requeue::await_change())
                }
            }),
        }
    }

    /// An experiment that is gone asks nothing any more.
    fn forget(&self, key: &Key) {
        self.probes.stop(key);
        if let Some(uid) = self.memory.forget(key) {
            self.publisher.forget(&uid);
        }
    }

    /// The experiment as the API server has it, if it is still the same one.
    async fn read(&self, experiment: &ChaosExperiment) -> Result<Option<Arc<ChaosExperiment>>, Error> {
        let api: Api<ChaosExperiment> = self.runtime().clients.api(&experiment.namespace().unwrap_or_default());
        let found = api
            .get_opt(&experiment.name_any())
            .await
            .map_err(|source| Error::read(format!("ChaosExperiment {}", experiment.name_any()), source))?;
        Ok(found.filter(|found| found.uid() == experiment.uid()).map(Arc::new))
    }
}

/// One decision, and the document that it rests on.
struct Decided {
    action: Action,
    document: Option<observed::Document>,
}
