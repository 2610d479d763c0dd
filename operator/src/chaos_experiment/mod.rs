//! Runs ChaosExperiments: one fault each, within limits, with a verdict.
//!
//! Read top to bottom. [`reconcile`] looks at one experiment: without a run under way it decides from the cache alone
//! ([`step::idle`]) and asks nothing. With one, it reads everything anew (`dereference`), decides one thing (`step`,
//! pure) and does it (`apply`), again and again until there is something to wait for. Side effects: `apply` writes the
//! finalizer, the status and the fault document, and evicts; `probes` asks questions; `sweep` clears fault documents that
//! nobody would end; `tell` records events and what a service's last experiment was. Nothing else.

mod apply;
mod build;
mod dereference;
mod drain;
mod error;
mod failpoint;
mod faults;
mod gates;
mod news;
mod observed;
mod probes;
mod samples;
mod schedule;
mod settings;
mod status;
mod step;
mod sweep;
mod tell;
#[cfg(test)]
mod testing;
mod validate;
mod verdict;
#[cfg(test)]
mod wire_tests;

pub use error::Error;

use crate::runtime::{Cache, Change, Events, Options, Publisher, Runtime, WatchOptions, controller};
use crate::{Context, resilient_service::ReportStore};
use apply::{Applied, apply};
use dereference::{Sources, observe};
use faults::pod_kill::Answer;
use kube::runtime::controller::Action as Requeue;
use kube::{Api, ResourceExt};
use probes::address::{ClusterResolver, Resolver};
use probes::{Probes, http::HttpAsker};
use prometheus::IntCounterVec;
use settings::Settings;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use step::{Action, Idle, decide, entry_name, idle};
use valerix_crds::{ChaosExperiment, ChaosPhase};
use validate::{schedule, validate};

/// Name in metrics, logs and events.
const CONTROLLER: &str = "chaos-experiment";
/// Decisions in one look; a run of many pods goes on in the next.
const DECISIONS: usize = 40;
/// A wait is never longer than this, so that a clock that was set is noticed. Waking up costs no request.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Reconciles every ChaosExperiment until the process ends.
pub async fn run(ctx: Arc<Context>) {
    let (broom, requests) = sweep::broom();
    let asked = broom.clone();
    let watch = WatchOptions::new("chaosexperiments").on_change(move |change: Change<'_, ChaosExperiment>| {
        if matches!(change, Change::Deleted(_) | Change::Relisted) {
            asked.sweep();
        }
    });
    let experiments = ctx.runtime.watch(watch);
    let controller = match Controller::new(
        &ctx.runtime,
        settings_of(&ctx.settings),
        ctx.reports.clone(),
        experiments.clone(),
    ) {
        Ok(controller) => Arc::new(controller),
        Err(error) => {
            tracing::error!(%error, "failed to make the client that asks the probes' questions");
            return;
        }
    };
    let sweeping = async {
        ctx.runtime.leadership.acquired().await;
        broom.sweep();
        sweep::run(ctx.runtime.clients.clone(), ctx.runtime.scopes.clone(), requests).await;
    };
    let reconciling = controller::run(
        &ctx.runtime,
        Options::new(CONTROLLER),
        &experiments,
        move |experiment| {
            let controller = controller.clone();
            async move { controller.reconcile(experiment).await }
        },
        |_, _| {},
    );
    tokio::select! {
        () = reconciling => {}
        () = sweeping => {}
    }
}

/// Stops every experiment, waits until its fault is gone, and ends the operator's Deployment, where it has one.
///
/// # Errors
/// If the cluster cannot be reached, or a fault or the operator is still there at the end.
pub async fn drain(settings: crate::settings::DrainSettings, config: kube::Config) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let clients = crate::runtime::Clients::new(config).context("failed to make a client for the cluster")?;
    let removal = drain::Removal {
        namespace: &settings.operator.pod_namespace,
        deployment: settings.deployment(),
        timeout: settings.timeout(),
    };
    drain::drain(&clients, &settings.operator.scopes(), removal).await?;
    Ok(())
}

fn settings_of(settings: &crate::settings::Settings) -> Settings {
    Settings {
        operator_namespace: settings.pod_namespace.clone(),
        eviction_namespaces: settings.chaos_namespaces().into_iter().collect(),
        max_duration: settings
            .chaos_max_duration
            .value()
            .unwrap_or(settings::DEFAULT_MAX_DURATION),
    }
}

/// What the reconciles of this kind share.
struct Controller {
    runtime: Runtime,
    settings: Settings,
    reports: ReportStore,
    experiments: Cache<ChaosExperiment>,
    publisher: Publisher<ChaosExperiment>,
    events: Events,
    runs: IntCounterVec,
    probes: Probes,
    /// What this process was answered to its evictions, by run and pod UID.
    answers: Mutex<HashMap<String, HashMap<String, Answer>>>,
}

impl Controller {
    fn new(
        runtime: &Runtime,
        settings: Settings,
        reports: ReportStore,
        experiments: Cache<ChaosExperiment>,
    ) -> Result<Self, reqwest::Error> {
        let help = "Runs of experiments by kind of fault and verdict.";
        Ok(Self {
            runtime: runtime.clone(),
            settings,
            reports,
            experiments,
            publisher: Publisher::new(runtime, CONTROLLER),
            events: runtime.events(CONTROLLER),
            runs: runtime
                .metrics
                .counter("valerix_chaos_runs_total", help, &["type", "verdict"]),
            probes: Probes::new(runtime.clients.clone(), HttpAsker::new()?),
            answers: Mutex::default(),
        })
    }

    async fn reconcile(&self, cached: Arc<ChaosExperiment>) -> Result<Requeue, Error> {
        let mut experiment = self.publisher.newest(&cached);
        for _ in 0..DECISIONS {
            let plan = validate(&experiment.spec, &self.settings);
            let schedule = schedule(&experiment.spec);
            let now = chrono::Utc::now();
            let uid = experiment.uid().unwrap_or_default();
            let name = entry_name(&experiment);
            let mut document = None;
            let action = match idle(&experiment, plan.as_ref(), schedule.as_ref().map(Option::as_ref), now) {
                Idle::Rest { until } => Action::Rest { until },
                Idle::Write(status) => Action::Write(status),
                Idle::Active => {
                    let sources = Sources {
                        clients: &self.runtime.clients,
                        settings: &self.settings,
                        reports: &self.reports,
                        experiments: &self.experiments,
                    };
                    let mut observed = observe(&sources, &experiment, &name).await?;
                    let phase = experiment.status.as_ref().and_then(|status| status.phase);
                    self.probes.set_fault_on(&uid, phase == Some(ChaosPhase::Running));
                    observed.samples = self.probes.samples(&uid, &name.run);
                    observed.answers = self.answers().get(&name.text()).cloned().unwrap_or_default();
                    document.clone_from(&observed.document);
                    decide(&experiment, plan.as_ref(), &self.settings, &observed)
                }
            };
            match &action {
                Action::Rest { until } => {
                    self.probes.stop(&uid);
                    self.answers().remove(&name.text());
                    let Some(until) = until else {
                        return Ok(Requeue::await_change());
                    };
                    // A little late rather than a little early: an early look would only wait again.
                    let wait = (*until - chrono::Utc::now()).to_std().unwrap_or_default() + Duration::from_millis(5);
                    return Ok(Requeue::requeue(wait.min(LONGEST_REST)));
                }
                Action::Look(after) => return Ok(Requeue::requeue(*after)),
                Action::StartProbes => {
                    if let Ok(plan) = &plan {
                        let namespace = experiment.namespace().unwrap_or_default();
                        let recorded = experiment
                            .status
                            .as_ref()
                            .map(|status| status.probes.clone())
                            .unwrap_or_default();
                        let resolver = self.resolver(&namespace).await?;
                        self.probes
                            .start(&uid, &name.run, &namespace, &plan.probes, &recorded, &resolver);
                    }
                    return Ok(Requeue::requeue(step::VERY_SOON));
                }
                _ => {}
            }
            let grace = plan.as_ref().ok().and_then(|plan| plan.grace_period_seconds);
            match apply(
                &self.runtime.clients,
                &self.publisher,
                &experiment,
                document.as_ref(),
                grace,
                &action,
            )
            .await?
            {
                Applied::Experiment(stored) => {
                    self.tell(&experiment, &stored).await;
                    experiment = stored;
                }
                Applied::Elsewhere => {}
                Applied::Evicted(pod_uid, answer) => {
                    self.answers().entry(name.text()).or_default().insert(pod_uid, answer);
                }
                Applied::Stale => match self.read(&experiment).await? {
                    Some(current) => experiment = current,
                    None => {
                        self.probes.stop(&uid);
                        self.publisher.forget(&uid);
                        return Ok(Requeue::await_change());
                    }
                },
            }
        }
        Ok(Requeue::requeue(Duration::from_millis(10)))
    }

    /// The experiment as the API server has it, if it is still the same one.
    async fn read(&self, experiment: &ChaosExperiment) -> Result<Option<Arc<ChaosExperiment>>, Error> {
        let api: Api<ChaosExperiment> = self.runtime.clients.api(&experiment.namespace().unwrap_or_default());
        let found = api
            .get_opt(&experiment.name_any())
            .await
            .map_err(|source| Error::read(format!("ChaosExperiment {}", experiment.name_any()), source))?;
        Ok(found.filter(|found| found.uid() == experiment.uid()).map(Arc::new))
    }

    /// Finds addresses for the probes of one run; addresses of nodes and of the API server are refused.
    async fn resolver(&self, namespace: &str) -> Result<Arc<dyn Resolver>, Error> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = self.runtime.clients.api(namespace);
        let pods = pods
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|source| Error::read("pods for their nodes' addresses", source))?;
        let mut forbidden: BTreeSet<IpAddr> = pods
            .items
            .into_iter()
            .filter_map(|pod| pod.status)
            .flat_map(|status| {
                let more = status.host_ips.into_iter().flatten().map(|host| host.ip);
                more.chain(status.host_ip).collect::<Vec<_>>()
            })
            .filter_map(|text| text.parse().ok())
            .collect();
        forbidden.extend(
            std::env::var("KUBERNETES_SERVICE_HOST")
                .ok()
                .and_then(|text| text.parse::<IpAddr>().ok()),
        );
        Ok(Arc::new(ClusterResolver::new(self.runtime.clients.clone(), forbidden)))
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Answer>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
