//! The model: a cluster with its pods, an API server that misbehaves on request, and a clock of its own.

use super::*;
use valerix_crds::ProbeMode;

/// How long a killed pod's successor takes to be ready.
pub const REPLACEMENT: TimeDelta = TimeDelta::milliseconds(3_000);

#[derive(Clone)]
pub struct PodModel {
    pub view: PodView,
    /// When a removed pod is gone.
    pub gone_at: Option<DateTime<Utc>>,
    /// Faults by run: since when, until when.
    pub faults: HashMap<String, (DateTime<Utc>, DateTime<Utc>)>,
    /// Why a fault ended before its time, if it did.
    pub ended_early: Option<String>,
    /// Why it does not obey, if it does not.
    pub refuses: Option<&'static str>,
    /// When it reads a new document after it was written.
    pub reads_after: TimeDelta,
    pub document_since: DateTime<Utc>,
    pub document: Option<String>,
    pub reachable: bool,
    /// How often its process is still to end by the fault, and when the one after it starts.
    pub crashes_left: u32,
    pub starts_at: Option<DateTime<Utc>>,
    /// Whether its status says all the time that it is ready.
    pub seems_ready: bool,
    /// When the process that runs is ready.
    pub ready_at: DateTime<Utc>,
}

/// What goes wrong at one mutating action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
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

pub struct Cluster {
    pub now: DateTime<Utc>,
    pub experiment: Option<ChaosExperiment>,
    pub version: u64,
    pub document: Option<String>,
    /// Whether somebody removed the ConfigMap: pods go on with what they read last.
    pub map_removed: bool,
    pub pods: Vec<PodModel>,
    pub service: ServiceView,
    pub stop_order: Option<String>,
    /// UIDs that somebody else removed.
    pub removed: Vec<String>,
    /// UIDs that an eviction really removed, in order.
    pub evicted: Vec<String>,
    /// Every eviction that reached the API server.
    pub requests: Vec<String>,
    /// Evictions that were sent, whether they reached it or not.
    pub attempts: usize,
    pub budget: bool,
    /// How many pods the Deployment wants, and how many serving ones the PodDisruptionBudget keeps.
    pub replicas: usize,
    pub kept: usize,
    /// What the API server says to evictions that it never will do.
    pub refusal: Option<&'static str>,
    /// What the probe answers, by time.
    pub answer: fn(&Cluster, DateTime<Utc>) -> bool,
    /// Whether the probe's question can be asked, by time.
    pub askable: fn(&Cluster, DateTime<Utc>) -> bool,
    /// Requests that met the fault in each pod.
    pub hits: u64,
    /// From question to question.
    pub interval: TimeDelta,
    /// How long the first answer takes that a process gets.
    pub first_answer_after: TimeDelta,
    /// While the process was away: since when, until when.
    pub away: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    // Memory of the process.
    pub samples: Option<Samples>,
    pub evictions: HashMap<String, EvictionResult>,
    pub mutations: usize,
    /// What the operator's settings allow.
    pub limits: Limits,
}

impl Cluster {
    pub fn new(spec: Value) -> Self {
        let replicas = 2;
        let pods = (0..replicas).map(|number| pod(number, at(0))).collect();
        Self {
            replicas,
            kept: 0,
            now: at(100),
            experiment: Some(experiment(spec)),
            version: 1,
            document: None,
            map_removed: false,
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
            interval: TimeDelta::seconds(1),
            first_answer_after: TimeDelta::zero(),
            away: Vec::new(),
            stop_order: None,
            removed: Vec::new(),
            evicted: Vec::new(),
            requests: Vec::new(),
            attempts: 0,
            budget: false,
            refusal: None,
            answer: |_, _| true,
            askable: |_, _| true,
            samples: None,
            evictions: HashMap::new(),
            mutations: 0,
            limits: limits(),
        }
    }

    pub fn name(&self) -> EntryName {
        entry_name(self.experiment.as_ref().unwrap())
    }

    pub fn observed(&self) -> Observed {
        let run = self
            .experiment
            .as_ref()
            .map(|experiment| entry_name(experiment).text())
            .unwrap_or_default();
        let reports = self.pods.iter().filter(|pod| pod.reachable).map(|pod| {
            // A pod says nothing of a fault that its document does not name any more.
            let named = pod.faults.get(&run).filter(|_| names(pod.document.as_deref(), &run));
            let fault = named.map(|(_, until)| FaultView {
                state: if pod.refuses.is_some() {
                    FaultState::Refused
                } else if self.now < *until {
                    FaultState::Active
                } else {
                    FaultState::Ended
                },
                reason: pod.refuses.map(str::to_owned).or_else(|| pod.ended_early.clone()),
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
                desired: u32::try_from(self.replicas).unwrap(),
                progressing: false,
            }),
            pods: self.pods.iter().map(|pod| pod.view.clone()).collect(),
            reports: reports.collect(),
            document: (!self.map_removed).then(|| Document {
                uid: "map".into(),
                resource_version: "1".into(),
                faults: self.document.clone(),
            }),
            stop_order: self.stop_order.clone(),
            last_fault_ended_at: None,
            busy: None,
            unjudged: None,
            preceding: None,
            samples: self.samples.clone(),
            evictions: self.evictions.clone(),
        }
    }

    /// Time passes: pods read the document, faults begin, pods go and come, probes are asked.
    pub fn pass(&mut self, by: TimeDelta) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + TimeDelta::milliseconds(100)).min(end);
            let now = self.now;
            for pod in &mut self.pods {
                if self.map_removed || pod.document == self.document {
                    pod.document_since = now;
                }
                if !self.map_removed && pod.document != self.document && now - pod.document_since >= pod.reads_after {
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
                            None if pod.refuses.is_some() => TimeDelta::zero(),
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
            while self.pods.iter().filter(|pod| pod.view.removal == Removal::None).count() < self.replicas {
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

    pub fn ask(&mut self) {
        let due = self.samples.as_ref().is_some_and(|samples| {
            samples.iter().any(|own| match (own.samples.last(), own.asking_since) {
                (Some(last), _) => self.now - last.started >= self.interval,
                (None, Some(since)) => self.now - since >= self.first_answer_after,
                (None, None) => true,
            })
        });
        if !due {
            return;
        }
        let result = if !(self.askable)(self, self.now) {
            ProbeResult::NotAsked("there is no Service order".into())
        } else if (self.answer)(self, self.now) {
            ProbeResult::Passed
        } else {
            ProbeResult::Failed("status 503".into())
        };
        let modes = self.modes();
        let status = self
            .experiment
            .as_ref()
            .and_then(|experiment| experiment.status.as_ref());
        let on = status.and_then(|status| status.phase) == Some(ChaosPhase::Running);
        for (own, mode) in self.samples.iter_mut().flatten().zip(modes) {
            let silent = match mode {
                ProbeMode::Continuous | ProbeMode::Unknown => false,
                ProbeMode::Edge => on,
                ProbeMode::OnFault => !on,
            };
            if silent {
                own.asking_since = None;
                continue;
            }
            own.push(Sample {
                started: own.asking_since.unwrap_or(self.now),
                finished: self.now,
                result: result.clone(),
            });
        }
    }

    /// When each probe asks.
    fn modes(&self) -> Vec<ProbeMode> {
        let spec = self.experiment.as_ref().map(|experiment| &experiment.spec);
        let probes = spec
            .and_then(|spec| spec.steady_state.as_ref())
            .map(|state| &state.probes);
        probes.into_iter().flatten().map(|probe| probe.mode).collect()
    }

    /// The process dies and another one begins after `after`.
    pub fn restart(&mut self, after: TimeDelta) {
        self.samples = None;
        self.evictions.clear();
        let since = self.now;
        self.pass(after);
        self.away.push((since, self.now));
    }

    /// One look of the controller. Returns how long it wants to wait, or none when it has nothing to do.
    pub fn look(&mut self, mishap: &mut dyn FnMut(usize) -> Mishap) -> Option<TimeDelta> {
        let experiment = self.experiment.clone()?;
        let plan = validate(&experiment.spec, &self.limits);
        let schedule = schedule(&experiment.spec);
        let action = match idle(
            &experiment,
            plan.as_ref(),
            schedule.as_ref().map(Option::as_ref),
            self.now,
        ) {
            Idle::Active => decide(&experiment, plan.as_ref(), &self.limits, &self.observed()),
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

    pub fn mutate(&mut self, action: &Action, mishap: Mishap) {
        self.mutations += 1;
        self.attempts += usize::from(matches!(action, Action::Evict { .. }));
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

    pub fn apply(&mut self, action: &Action, answered: bool) {
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
            Action::Lock(text) | Action::Release(text) => {
                assert!(!self.map_removed, "nobody writes what is not there");
                self.document = Some(text.clone());
            }
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

    pub fn serving(&self) -> usize {
        self.pods.iter().filter(|pod| pod.view.serves()).count()
    }

    pub fn evict(&mut self, name: &str, uid: &str, delete: bool) -> EvictionResult {
        let now = self.now;
        let spent = self.budget || self.serving() <= self.kept;
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.view.name == name) else {
            return EvictionResult::Gone;
        };
        if pod.view.uid != uid {
            return EvictionResult::Gone;
        }
        if spent && !delete && pod.view.removal == Removal::None {
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
    pub fn run(&mut self, steps: usize, mishap: &mut dyn FnMut(usize) -> Mishap) -> usize {
        for step in 0..steps {
            if self.is_over() {
                return step;
            }
            let wait = self.look(mishap).unwrap_or(TimeDelta::seconds(1));
            self.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
        }
        steps
    }

    pub fn is_over(&self) -> bool {
        self.experiment.as_ref().is_none_or(|experiment| {
            experiment
                .status
                .as_ref()
                .is_some_and(|status| status.phase.is_some_and(ChaosPhase::is_terminal))
                && !has_finalizer(experiment)
        })
    }

    pub fn status(&self) -> &valerix_crds::ChaosExperimentStatus {
        self.experiment.as_ref().unwrap().status.as_ref().unwrap()
    }

    /// What must be true of every run that is over, whatever happened on the way.
    pub fn assert_clean(&self) {
        let status = self.status();
        assert!(
            is_true(&status.conditions, RECOVERED) && is_true(&status.conditions, COMPLETED),
            "{status:#?}"
        );
        assert!(!has_finalizer(self.experiment.as_ref().unwrap()));
        assert!(
            self.map_removed || !is_ours(self, &self.name()),
            "the lock is left behind"
        );
        let run = self.name().text();
        for pod in &self.pods {
            assert!(
                pod.faults.get(&run).is_none_or(|(_, until)| *until <= self.now),
                "a pod is still hurt"
            );
        }
    }
}

pub fn pod(number: usize, created_at: DateTime<Utc>) -> PodModel {
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
        refuses: None,
        reads_after: TimeDelta::zero(),
        document_since: created_at,
        document: None,
        reachable: true,
        crashes_left: 0,
        starts_at: None,
        seems_ready: false,
        ready_at: created_at,
    }
}

/// Whether the document is one that names the run; one that cannot be read is not the one that pods go on with.
fn names(document: Option<&str>, run: &str) -> bool {
    let parsed = document.map(|text| Faults::parse(text.as_bytes()));
    parsed.is_none_or(|parsed| parsed.map_or(true, |read| read.document.faults.iter().any(|entry| entry.run == run)))
}

pub fn is_ours(cluster: &Cluster, name: &EntryName) -> bool {
    matches!(lock(cluster.document.as_deref(), name), Lock::Ours(_))
}
