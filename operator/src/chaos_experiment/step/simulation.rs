//! A model of a cluster in which `decide` is run as the controller runs it: with crashes, lost answers and refusals.

use super::action::Action;
use super::situation::{entry_name, has_finalizer};
use super::{Idle, decide, idle};
use crate::chaos_experiment::entry::{EntryName, Lock, lock};
use crate::chaos_experiment::faults::pod_kill::EvictionResult;
use crate::chaos_experiment::observed::{
    Document, FaultView, Observed, PodView, Removal, ReportView, ServiceView, WorkloadView,
};
use crate::chaos_experiment::probes::samples::{ProbeResult, ProbeSamples, Sample, Samples};
use crate::chaos_experiment::testing::{at, experiment, limits};
use crate::chaos_experiment::validate::{schedule, validate};
use crate::runtime::conditions::is_true;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use valerix_crds::names::condition::{COMPLETED, RECOVERED};
use valerix_crds::names::{CHAOS_FINALIZER, RUN_ANNOTATION};
use valerix_crds::{ChaosExperiment, ChaosPhase, DesiredState, RefusedBy, TargetState, Verdict};
use valerix_policy::{FaultState, Faults};

mod choice;
mod process;
mod truth;

/// How long a killed pod's successor takes to be ready.
const REPLACEMENT: TimeDelta = TimeDelta::milliseconds(3_000);

#[derive(Clone)]
struct PodModel {
    view: PodView,
    /// When a removed pod is gone.
    gone_at: Option<DateTime<Utc>>,
    /// Faults by run: since when, until when.
    faults: HashMap<String, (DateTime<Utc>, DateTime<Utc>)>,
    /// Why a fault ended before its time, if it did.
    ended_early: Option<String>,
    /// When it reads a new document after it was written.
    reads_after: TimeDelta,
    document_since: DateTime<Utc>,
    document: Option<String>,
    reachable: bool,
    /// How often its process is still to end by the fault, and when the one after it starts.
    crashes_left: u32,
    starts_at: Option<DateTime<Utc>>,
    /// When the process that runs is ready.
    ready_at: DateTime<Utc>,
}

/// What goes wrong at one mutating action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    None,
    /// The API server says 409 and nothing is done.
    Conflict,
    /// An error comes back and nothing was done.
    Refused,
    /// An error comes back and it was done all the same.
    AnswerLost,
    /// The process is killed before the request leaves.
    KilledBefore,
    /// The process is killed after it was done.
    KilledAfter,
}

struct Cluster {
    now: DateTime<Utc>,
    experiment: Option<ChaosExperiment>,
    version: u64,
    document: Option<String>,
    pods: Vec<PodModel>,
    service: ServiceView,
    stop_order: Option<String>,
    /// UIDs that an eviction really removed, in order.
    evicted: Vec<String>,
    /// Every eviction that reached the API server.
    requests: Vec<String>,
    budget: bool,
    /// What the API server says to evictions that it never will do.
    refusal: Option<&'static str>,
    /// What the probe answers, by time.
    answer: fn(&Cluster, DateTime<Utc>) -> bool,
    /// Requests that met the fault in each pod.
    hits: u64,
    /// How long the first answer takes that a process gets.
    first_answer_after: TimeDelta,
    /// While the process was away: since when, until when.
    away: Option<(DateTime<Utc>, DateTime<Utc>)>,
    // Memory of the process.
    samples: Option<Samples>,
    evictions: HashMap<String, EvictionResult>,
    mutations: usize,
}

impl Cluster {
    fn new(spec: Value) -> Self {
        let pods = (0..2).map(|number| pod(number, at(0))).collect();
        Self {
            now: at(100),
            experiment: Some(experiment(spec)),
            version: 1,
            document: None,
            pods,
            service: ServiceView {
                admitted: true,
                paused: false,
                reports: true,
                guard: None,
                config_applied: true,
                probe_paths: vec![],
            },
            hits: 1,
            first_answer_after: TimeDelta::zero(),
            away: None,
            stop_order: None,
            evicted: Vec::new(),
            requests: Vec::new(),
            budget: false,
            refusal: None,
            answer: |_, _| true,
            samples: None,
            evictions: HashMap::new(),
            mutations: 0,
        }
    }

    fn name(&self) -> EntryName {
        entry_name(self.experiment.as_ref().unwrap())
    }

    fn observed(&self) -> Observed {
        let run = self
            .experiment
            .as_ref()
            .map(|experiment| entry_name(experiment).text())
            .unwrap_or_default();
        let reports = self.pods.iter().filter(|pod| pod.reachable).map(|pod| {
            let fault = pod.faults.get(&run).map(|(_, until)| FaultView {
                state: if self.now < *until {
                    FaultState::Active
                } else {
                    FaultState::Ended
                },
                reason: pod.ended_early.clone(),
                remaining: (*until - self.now).to_std().ok(),
                hits: Some(self.hits),
            });
            let faults_hash = pod.document.as_ref().map(|text| valerix_policy::hash(text.as_bytes()));
            let view = ReportView {
                received_at: self.now,
                skew: TimeDelta::zero(),
                faults_hash,
                fault,
            };
            (pod.view.uid.clone(), view)
        });
        Observed {
            now: self.now,
            service: Some(self.service.clone()),
            workload: Some(WorkloadView {
                desired: 2,
                progressing: false,
            }),
            pods: self.pods.iter().map(|pod| pod.view.clone()).collect(),
            reports: reports.collect(),
            document: Some(Document {
                uid: "map".into(),
                resource_version: "1".into(),
                faults: self.document.clone(),
            }),
            stop_order: self.stop_order.clone(),
            last_fault_ended_at: None,
            busy: None,
            samples: self.samples.clone(),
            evictions: self.evictions.clone(),
        }
    }

    /// Time passes: pods read the document, faults begin, pods go and come, probes are asked.
    fn pass(&mut self, by: TimeDelta) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + TimeDelta::milliseconds(100)).min(end);
            let now = self.now;
            for pod in &mut self.pods {
                if pod.document == self.document {
                    pod.document_since = now;
                }
                if pod.document != self.document && now - pod.document_since >= pod.reads_after {
                    pod.document.clone_from(&self.document);
                    let entry = self
                        .document
                        .as_deref()
                        .and_then(|text| Faults::parse(text.as_bytes()).ok());
                    let entry = entry.and_then(|parsed| parsed.document.faults.into_iter().next());
                    for (run, (_, until)) in &mut pod.faults {
                        if entry.as_ref().is_none_or(|entry| entry.run != *run) {
                            *until = (*until).min(now);
                        }
                    }
                    if let Some(entry) =
                        entry.filter(|entry| entry.pod_uids.contains(&pod.view.uid) && entry.fault.pod_kill.is_none())
                    {
                        let crash = entry.fault.crash.as_ref();
                        let lasts = match crash {
                            Some(_) => TimeDelta::zero(),
                            None => TimeDelta::from_std(entry.duration.get())
                                .unwrap()
                                .min(entry.not_after - now),
                        };
                        if let Some(crash) = crash.filter(|_| !pod.faults.contains_key(&entry.run)) {
                            pod.crashes_left = crash.times;
                            pod.crash(now, TimeDelta::seconds(1));
                        }
                        pod.faults.entry(entry.run).or_insert((now, now + lasts));
                    }
                }
                if pod.starts_at.is_some_and(|at| now >= at) {
                    pod.start(now);
                }
                if pod.view.removal == Removal::None
                    && !pod.view.ready
                    && pod.starts_at.is_none()
                    && now >= pod.ready_at
                {
                    pod.view.ready = true;
                    // As Kubernetes keeps it: to the second.
                    pod.view.ready_since = DateTime::from_timestamp(now.timestamp(), 0);
                }
            }
            self.pods.retain(|pod| pod.gone_at.is_none_or(|gone| now < gone));
            while self.pods.iter().filter(|pod| pod.view.removal == Removal::None).count() < 2 {
                let number = usize::try_from(self.version).unwrap() + 100 + self.pods.len();
                self.version += 1;
                let mut fresh = pod(number, now);
                fresh.ready_at = now + REPLACEMENT;
                (fresh.view.ready, fresh.view.ready_since) = (false, None);
                self.pods.push(fresh);
            }
            self.ask();
        }
    }

    fn ask(&mut self) {
        let due = self.samples.as_ref().is_some_and(|samples| {
            samples.iter().any(|own| match (own.samples.last(), own.asking_since) {
                (Some(last), _) => self.now - last.started >= TimeDelta::seconds(1),
                (None, Some(since)) => self.now - since >= self.first_answer_after,
                (None, None) => true,
            })
        });
        if !due {
            return;
        }
        let result = if (self.answer)(self, self.now) {
            ProbeResult::Passed
        } else {
            ProbeResult::Failed("status 503".into())
        };
        for own in self.samples.iter_mut().flatten() {
            own.push(Sample {
                started: own.asking_since.unwrap_or(self.now),
                finished: self.now,
                result: result.clone(),
            });
        }
    }

    /// The process dies and another one begins after `after`.
    fn restart(&mut self, after: TimeDelta) {
        self.samples = None;
        self.evictions.clear();
        let since = self.now;
        self.pass(after);
        self.away = Some((since, self.now));
    }

    /// One look of the controller. Returns how long it wants to wait, or none when it has nothing to do.
    fn look(&mut self, mishap: &mut dyn FnMut(usize) -> Mishap) -> Option<TimeDelta> {
        let experiment = self.experiment.clone()?;
        let plan = validate(&experiment.spec, &limits());
        let schedule = schedule(&experiment.spec);
        let action = match idle(
            &experiment,
            plan.as_ref(),
            schedule.as_ref().map(Option::as_ref),
            self.now,
        ) {
            Idle::Active => decide(&experiment, plan.as_ref(), &limits(), &self.observed()),
            Idle::Write(status) => Action::Write(status),
            Idle::Rest { until } => Action::Rest { until },
        };
        match action {
            Action::Rest { until } => return until.map(|until| until - self.now),
            Action::Look(after) => return Some(TimeDelta::from_std(after).unwrap()),
            Action::StartProbes => {
                let recorded = experiment
                    .status
                    .as_ref()
                    .map(|status| status.probes.clone())
                    .unwrap_or_default();
                let count = experiment
                    .spec
                    .steady_state
                    .as_ref()
                    .map_or(0, |state| state.probes.len());
                let own = |index: usize| ProbeSamples::resumed(recorded.get(index).cloned().unwrap_or_default());
                let now = self.now;
                let asking = |mut own: ProbeSamples| {
                    own.asking_since = Some(now);
                    own
                };
                self.samples = Some((0..count).map(own).map(asking).collect());
                return Some(TimeDelta::milliseconds(100));
            }
            action => self.mutate(&action, mishap(self.mutations)),
        }
        Some(TimeDelta::milliseconds(10))
    }

    fn mutate(&mut self, action: &Action, mishap: Mishap) {
        self.mutations += 1;
        let done = matches!(mishap, Mishap::None | Mishap::AnswerLost | Mishap::KilledAfter);
        if done {
            self.apply(action, mishap == Mishap::None);
        } else if let (Action::Evict { uid, .. }, Mishap::Conflict | Mishap::Refused) = (action, mishap) {
            self.evictions
                .insert(uid.clone(), EvictionResult::Unclear("connection reset".into()));
        }
        if let (Action::Evict { uid, .. }, Mishap::AnswerLost) = (action, mishap) {
            self.evictions
                .insert(uid.clone(), EvictionResult::Unclear("timed out".into()));
        }
        if matches!(mishap, Mishap::KilledBefore | Mishap::KilledAfter) {
            self.restart(TimeDelta::seconds(20));
        }
    }

    fn apply(&mut self, action: &Action, answered: bool) {
        self.version += 1;
        let experiment = self.experiment.as_mut().unwrap();
        match action {
            Action::Write(status) => {
                // The API server keeps what the schema allows; a text that is too long would be refused.
                let round: Value = serde_json::to_value(&**status).unwrap();
                experiment.status = Some(serde_json::from_value(round).unwrap());
            }
            Action::AddFinalizer => experiment.finalizers_mut().push(CHAOS_FINALIZER.into()),
            Action::RemoveFinalizer => {
                experiment.finalizers_mut().clear();
                if experiment.metadata.deletion_timestamp.is_some() {
                    self.experiment = None;
                }
            }
            Action::Lock(text) | Action::Release(text) => self.document = Some(text.clone()),
            Action::Evict { pod, uid, delete, .. } => {
                self.requests.push(uid.clone());
                let answer = self.evict(pod, uid, *delete);
                if answered {
                    self.evictions.insert(uid.clone(), answer);
                }
            }
            Action::Rest { .. } | Action::Look(_) | Action::StartProbes => unreachable!(),
        }
    }

    fn evict(&mut self, name: &str, uid: &str, delete: bool) -> EvictionResult {
        let now = self.now;
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.view.name == name) else {
            return EvictionResult::Gone;
        };
        if pod.view.uid != uid {
            return EvictionResult::Gone;
        }
        if self.budget && !delete {
            return EvictionResult::NotNow("would violate the pod's disruption budget".into());
        }
        if let Some(why) = self.refusal {
            return EvictionResult::Refused(why.to_owned());
        }
        if pod.view.removal == Removal::None {
            self.evicted.push(uid.to_owned());
            pod.view.removal = if delete {
                Removal::Deleted(now)
            } else {
                Removal::Evicted(now)
            };
            pod.gone_at = Some(now + TimeDelta::seconds(2));
        }
        EvictionResult::Accepted(now)
    }

    /// Looks until the run is over or `steps` are used up.
    fn run(&mut self, steps: usize, mishap: &mut dyn FnMut(usize) -> Mishap) -> usize {
        for step in 0..steps {
            if self.is_over() {
                return step;
            }
            let wait = self.look(mishap).unwrap_or(TimeDelta::seconds(1));
            self.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
        }
        steps
    }

    fn is_over(&self) -> bool {
        self.experiment.as_ref().is_none_or(|experiment| {
            experiment
                .status
                .as_ref()
                .is_some_and(|status| status.phase.is_some_and(ChaosPhase::is_terminal))
                && !has_finalizer(experiment)
        })
    }

    fn status(&self) -> &valerix_crds::ChaosExperimentStatus {
        self.experiment.as_ref().unwrap().status.as_ref().unwrap()
    }

    /// What must be true of every run that is over, whatever happened on the way.
    fn assert_clean(&self) {
        let status = self.status();
        assert!(
            is_true(&status.conditions, RECOVERED) && is_true(&status.conditions, COMPLETED),
            "{status:#?}"
        );
        assert!(!has_finalizer(self.experiment.as_ref().unwrap()));
        assert!(!is_ours(self, &self.name()), "the lock is left behind");
        let run = self.name().text();
        for pod in &self.pods {
            assert!(
                pod.faults.get(&run).is_none_or(|(_, until)| *until <= self.now),
                "a pod is still hurt"
            );
        }
    }
}

fn pod(number: usize, created_at: DateTime<Utc>) -> PodModel {
    PodModel {
        view: PodView {
            name: format!("inventory-{number}"),
            uid: format!("pod-uid-{number}"),
            ready: true,
            ready_since: Some(created_at),
            labels: std::collections::BTreeMap::new(),
            zone: None,
            process_ended_at: None,
            created_at,
            removal: Removal::None,
        },
        gone_at: None,
        faults: HashMap::new(),
        ended_early: None,
        reads_after: TimeDelta::zero(),
        document_since: created_at,
        document: None,
        reachable: true,
        crashes_left: 0,
        starts_at: None,
        ready_at: created_at,
    }
}

fn is_ours(cluster: &Cluster, name: &EntryName) -> bool {
    matches!(lock(cluster.document.as_deref(), name), Lock::Ours(_))
}

fn pod_kill() -> Value {
    json!({
        "target": {"service": "inventory"}, "podKill": {},
        "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
    })
}

fn latency() -> Value {
    json!({
        "target": {"service": "inventory"}, "latency": {"delay": "1s"}, "duration": "10s", "count": "100%",
        "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
    })
}

fn fine(_: usize) -> Mishap {
    Mishap::None
}

#[test]
fn a_pod_kill_passes_and_names_victim_and_time() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    let status = cluster.status();
    assert_eq!(
        (status.phase, status.verdict),
        (Some(ChaosPhase::Completed), Some(Verdict::Pass)),
        "{status:#?}"
    );
    assert_eq!(cluster.evicted, [status.targets[0].uid.clone()]);
    assert_eq!(status.targets[0].state, TargetState::Recovered);
    assert_eq!(status.summary.as_ref().unwrap().injected, "1/1");
    let seconds: f64 = status
        .time_to_recover
        .as_ref()
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!(
        (3.0..4.0).contains(&seconds),
        "the successor is ready after 3 s, not {seconds}"
    );
    assert!(status.probes[0].passed > 3 && status.probes[0].failed == 0);
}

#[test]
fn latency_passes_and_is_over_when_the_pods_say_so() {
    let mut cluster = Cluster::new(latency());
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    let status = cluster.status();
    assert_eq!(
        (status.phase, status.verdict),
        (Some(ChaosPhase::Completed), Some(Verdict::Pass)),
        "{status:#?}"
    );
    assert_eq!(status.summary.as_ref().unwrap().injected, "2/2");
    let lasted = status.fault_ended_at.unwrap() - status.injected_at.unwrap();
    assert!(
        (lasted - TimeDelta::seconds(10)).abs() < TimeDelta::seconds(1),
        "{lasted}"
    );
    assert!(cluster.requests.is_empty());
}

#[test]
fn a_deviation_ends_the_fault_early_and_fails() {
    let mut cluster = Cluster::new(latency());
    cluster.answer = |cluster, _| {
        cluster
            .pods
            .iter()
            .all(|pod| pod.faults.values().all(|(_, until)| *until <= cluster.now))
    };
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    let status = cluster.status();
    assert_eq!(
        (status.verdict, status.reason.as_deref()),
        (Some(Verdict::Fail), Some("SteadyStateDeviated")),
        "{status:#?}"
    );
    assert!(
        status.fault_ended_at.unwrap() - status.injected_at.unwrap() < TimeDelta::seconds(6),
        "stopOnFailure"
    );
    assert!(
        status.time_to_recover.is_some(),
        "the recovery is measured all the same"
    );
}

#[test]
fn a_system_that_does_not_come_back_fails() {
    let mut cluster = Cluster::new(latency());
    cluster
        .experiment
        .as_mut()
        .unwrap()
        .spec
        .steady_state
        .as_mut()
        .unwrap()
        .recovery_timeout = Some("5s".parse().unwrap());
    cluster.answer = |cluster, now| {
        cluster
            .experiment
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .is_none_or(|status| {
                status.fault_ended_at.is_none() && status.injected_at.is_none_or(|at| now - at < TimeDelta::seconds(9))
            })
    };
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    assert_eq!(cluster.status().reason.as_deref(), Some("DidNotRecover"));
    assert_eq!(cluster.status().time_to_recover, None);
}

#[test]
fn a_baseline_that_does_not_hold_skips_the_run() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.answer = |_, _| false;
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().phase, cluster.status().reason.as_deref()),
        (Some(ChaosPhase::Skipped), Some("SteadyStateNotMet"))
    );
    assert!(cluster.requests.is_empty() && cluster.document.is_none());
}

#[test]
fn a_budget_that_refuses_skips_the_run() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.budget = true;
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().verdict, cluster.status().reason.as_deref()),
        (Some(Verdict::Skipped), Some("DisruptionBudget"))
    );
    assert_eq!(cluster.requests.len(), 1, "asked once");
}

#[test]
fn a_victim_that_vanishes_is_gone_and_nobody_takes_its_place() {
    let mut cluster = Cluster::new(pod_kill());
    for _ in 0..500 {
        let injecting = cluster
            .experiment
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .is_some_and(|status| {
                status
                    .targets
                    .iter()
                    .any(|target| target.state == TargetState::Injecting)
            });
        if injecting && cluster.requests.is_empty() {
            // A StatefulSet would make a pod of the same name: its UID tells it apart.
            let victim = cluster.status().targets[0].uid.clone();
            let model = cluster.pods.iter_mut().find(|pod| pod.view.uid == victim).unwrap();
            let observed = cluster.experiment.clone();
            model.view.uid = "stranger".into();
            let name = model.view.name.clone();
            let answer = cluster.evict(&name, &victim, false);
            cluster.requests.push(victim.clone());
            cluster.evictions.insert(victim, answer);
            cluster.experiment = observed;
        }
        let wait = cluster.look(&mut fine).unwrap_or(TimeDelta::seconds(1));
        cluster.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
        if cluster.is_over() {
            break;
        }
    }
    cluster.assert_clean();
    assert_eq!(cluster.evicted, Vec::<String>::new());
    assert_eq!(cluster.status().targets[0].state, TargetState::Gone);
    assert_eq!(cluster.status().reason.as_deref(), Some("TargetsLost"));
}

#[test]
fn a_fault_that_is_not_delivered_is_undone() {
    let mut cluster = Cluster::new(latency());
    cluster.pods[1].reachable = false;
    cluster.run(150, &mut fine);
    let status = cluster.status();
    assert_eq!(status.reason.as_deref(), Some("NotDelivered"), "{status:#?}");
    assert!(!is_true(&status.conditions, RECOVERED), "a silent pod is not believed");
    assert_eq!(status.phase, Some(ChaosPhase::Recovering));
    assert!(!is_ours(&cluster, &cluster.name()));
    cluster.pods[1].reachable = true;
    cluster.run(50, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().verdict, cluster.status().phase),
        (Some(Verdict::Error), Some(ChaosPhase::Failed))
    );
}

#[test]
fn the_safety_lever_stops_what_runs_and_skips_what_has_not_begun() {
    let mut cluster = Cluster::new(latency());
    cluster.run(15, &mut fine);
    assert_eq!(
        cluster.status().phase,
        Some(ChaosPhase::Running),
        "{:#?}",
        cluster.status()
    );
    cluster.stop_order = Some("maintenance".into());
    cluster.run(200, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().verdict, cluster.status().reason.as_deref()),
        (Some(Verdict::Stopped), Some("SafetyLever"))
    );
    assert!(cluster.status().message.as_ref().unwrap().contains("maintenance"));

    let mut cluster = Cluster::new(pod_kill());
    cluster.stop_order = Some("maintenance".into());
    cluster.run(200, &mut fine);
    assert_eq!(
        (cluster.status().phase, cluster.status().verdict),
        (Some(ChaosPhase::Skipped), Some(Verdict::Skipped))
    );
    assert!(cluster.requests.is_empty());
}

#[test]
fn a_deleted_experiment_is_recovered_before_it_goes() {
    for steps in 0..40 {
        let mut cluster = Cluster::new(latency());
        cluster.run(steps, &mut fine);
        let finalized = has_finalizer(cluster.experiment.as_ref().unwrap());
        if !finalized {
            continue;
        }
        let name = cluster.name();
        let deletion = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        cluster.experiment.as_mut().unwrap().metadata.deletion_timestamp = Some(deletion);
        cluster.run(200, &mut fine);
        assert!(
            cluster.experiment.is_none(),
            "after {steps} steps: {:#?}",
            cluster.experiment
        );
        assert!(!is_ours(&cluster, &name));
        for pod in &cluster.pods {
            assert!(
                pod.faults.values().all(|(_, until)| *until <= cluster.now),
                "after {steps} steps a pod is still hurt"
            );
        }
    }
}

/// Whether the process was away while somebody was hurt, or had not been seen to be well again.
fn was_unwatched(cluster: &Cluster) -> bool {
    let (since, until) = cluster.away.unwrap();
    let status = cluster.status();
    let run = cluster.name().text();
    let began = cluster
        .pods
        .iter()
        .filter_map(|pod| pod.faults.get(&run))
        .map(|(from, _)| *from);
    let began = began
        .chain(status.targets.iter().filter_map(|target| target.active_at))
        .min();
    began.is_some_and(|began| began < until) && status.completed_at.is_none_or(|at| at > since)
}

/// Kill -9 at every write, before it leaves and after it was done.
#[test]
fn a_kill_at_any_write_changes_nothing_but_who_watched() {
    for (spec, evictions) in [(pod_kill(), 1), (latency(), 0)] {
        let mut reference = Cluster::new(spec.clone());
        reference.run(500, &mut fine);
        let writes = reference.mutations;
        assert!(writes >= 7, "{writes}");
        for victim in 0..writes {
            for mishap in [Mishap::KilledBefore, Mishap::KilledAfter] {
                let mut cluster = Cluster::new(spec.clone());
                cluster.run(800, &mut |count| if count == victim { mishap } else { Mishap::None });
                let context = format!("{mishap:?} at write {victim}: {:#?}", cluster.experiment);
                assert!(cluster.is_over(), "{context}");
                cluster.assert_clean();
                assert_eq!(cluster.evicted.len(), evictions, "{context}");
                assert!(cluster.requests.len() <= evictions, "one request is enough: {context}");
                let expected = if was_unwatched(&cluster) {
                    "ObservationGap"
                } else {
                    "SteadyStateHeld"
                };
                assert_eq!(cluster.status().reason.as_deref(), Some(expected), "{context}");
            }
        }
    }
}

#[test]
fn an_answer_that_is_lost_is_read_off_the_pod() {
    let mut reference = Cluster::new(pod_kill());
    reference.run(500, &mut fine);
    for victim in 0..reference.mutations {
        let mut cluster = Cluster::new(pod_kill());
        cluster.run(800, &mut |count| {
            if count == victim {
                Mishap::AnswerLost
            } else {
                Mishap::None
            }
        });
        cluster.assert_clean();
        assert_eq!(
            (cluster.evicted.len(), cluster.requests.len()),
            (1, 1),
            "lost answer at write {victim}"
        );
        assert_eq!(
            cluster.status().verdict,
            Some(Verdict::Pass),
            "lost answer at write {victim}: {:#?}",
            cluster.status()
        );
    }
}

fn any_mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        4 => Just(Mishap::None),
        1 => Just(Mishap::Conflict),
        1 => Just(Mishap::Refused),
        1 => Just(Mishap::AnswerLost),
        1 => Just(Mishap::KilledBefore),
        1 => Just(Mishap::KilledAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// From any state, Stop reaches Recovered in bounded steps, and nobody but the recorded victim is ever evicted.
    #[test]
    fn stop_always_recovers(
        kind in prop_oneof![Just(0), Just(1)],
        mishaps in prop::collection::vec(any_mishap(), 0..60),
        before in 0..120_usize,
        lost_pod in prop::option::of(0..2_usize),
        broken in any::<bool>(),
    ) {
        // Long enough that it ends because it was stopped, or not at all.
        let mut spec = if kind == 0 { pod_kill() } else { latency() };
        if kind == 1 {
            spec["duration"] = json!("10m");
        }
        let mut cluster = Cluster::new(spec);
        if broken {
            cluster.answer = |cluster, _| cluster.now.timestamp() % 7 < 3;
        }
        let mut next = mishaps.into_iter();
        cluster.run(before, &mut |_| next.next().unwrap_or(Mishap::None));
        if let Some(index) = lost_pod {
            let now = cluster.now;
            if let Some(pod) = cluster.pods.get_mut(index) {
                pod.view.removal = Removal::Deleted(at(100));
                pod.gone_at = Some(now);
            }
        }
        if let Some(experiment) = cluster.experiment.as_mut() {
            experiment.spec.desired = DesiredState::Stop;
        }
        let steps = cluster.run(300, &mut |_| next.next().unwrap_or(Mishap::None));
        let never_ran = cluster.experiment.as_ref().unwrap().status.as_ref().is_none_or(|status| status.run.is_none());
        if !never_ran {
            prop_assert!(steps < 300, "{:#?}", cluster.experiment);
            cluster.assert_clean();
            let victims: Vec<_> = cluster.status().targets.iter().map(|target| target.uid.clone()).collect();
            prop_assert!(cluster.evicted.len() <= 1);
            prop_assert!(cluster.evicted.iter().all(|uid| victims.contains(uid)));
        }
        prop_assert!(cluster.experiment.as_ref().is_some_and(|experiment| !has_finalizer(experiment)));
    }

    /// Left alone, a run with any mishaps ends with a verdict, and Pass only if nothing was seen to break.
    #[test]
    fn a_run_always_ends(kind in prop_oneof![Just(0), Just(1)], mishaps in prop::collection::vec(any_mishap(), 0..40)) {
        let mut cluster = Cluster::new(if kind == 0 { pod_kill() } else { latency() });
        let mut next = mishaps.into_iter();
        let steps = cluster.run(1_500, &mut |_| next.next().unwrap_or(Mishap::None));
        prop_assert!(steps < 1_500, "{:#?}", cluster.experiment);
        cluster.assert_clean();
        prop_assert!(cluster.evicted.len() <= 1);
        if cluster.status().verdict == Some(Verdict::Pass) && kind == 0 {
            prop_assert_eq!(cluster.evicted.len(), 1);
        }
    }
}
