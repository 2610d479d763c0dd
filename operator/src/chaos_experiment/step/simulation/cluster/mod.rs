//! The model: a cluster with its pods, an API server that misbehaves on request, and a clock of its own.

mod look;
mod pod;
mod time;

pub use look::*;
pub use pod::*;

use super::*;

/// How long a killed pod's successor takes to be ready.
pub const REPLACEMENT: TimeDelta = TimeDelta::milliseconds(3_000);

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

/// Whether the document is one that names the run; one that cannot be read is not the one that pods go on with.
fn names(document: Option<&str>, run: &str) -> bool {
    let parsed = document.map(|text| Faults::parse(text.as_bytes()));
    parsed.is_none_or(|parsed| parsed.map_or(true, |read| read.document.faults.iter().any(|entry| entry.run == run)))
}

pub fn is_ours(cluster: &Cluster, name: &EntryName) -> bool {
    matches!(lock(cluster.document.as_deref(), name), Lock::Ours(_))
}
