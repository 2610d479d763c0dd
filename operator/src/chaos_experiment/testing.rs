//! What the tests of this folder share: times, specs, and a world that allows everything.

use super::hold::Hold;
use super::identity::EntryName;
use super::limits::Limits;
use super::observed::{Document, Observed, PodView, Removal, ReportView, ServiceView, WorkloadView};
use super::probes::plan::ProbePlan;
use super::report::verdict::Ending;
use super::step::gates::{Attempt, at_fire, victims};
use super::validate::{Plan, validate};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{ChaosExperiment, ChaosExperimentSpec, TargetState, TargetStatus};

/// Second `second` of the tests' time.
pub fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(100 + second, 0).unwrap()
}

/// A number from the environment: how much a campaign tries, or with which lots; else the one that the gate uses.
pub fn from_environment(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")),
        Err(_) => usual,
    }
}

/// How much a campaign tries, where the gate tries `usual`.
pub fn rounds(usual: u64) -> u64 {
    from_environment("VALERIX_ROUNDS", usual)
}

/// What a campaign's lots are drawn with. A failure names it, so that it can be had again.
pub fn seed() -> u64 {
    from_environment("VALERIX_SEED", 2_026)
}

/// A minimal spec of every kind of fault, by its name; podKill both ways. Nobody is named, lasting or probed.
pub fn every_fault() -> Vec<(&'static str, Value)> {
    vec![
        ("PodKill", json!({"podKill": {}})),
        ("PodKill", json!({"podKill": {"method": "Delete"}})),
        ("Latency", json!({"latency": {"delay": "1s"}, "count": "100%"})),
        ("Errors", json!({"errors": {"percent": 70}, "count": "100%"})),
        ("Abort", json!({"abort": {}, "count": "100%"})),
        ("Refuse", json!({"refuse": {}})),
        ("Partition", json!({"partition": {"peer": "order"}})),
        ("Crash", json!({"crash": {}})),
        ("CpuStress", json!({"cpuStress": {}, "count": "100%"})),
        (
            "MemoryStress",
            json!({"memoryStress": {"size": "64Mi"}, "count": "100%"}),
        ),
    ]
}

/// Limits that allow evictions in `shop`.
pub fn limits() -> Limits {
    Limits {
        operator_namespace: "valerix-system".into(),
        eviction_namespaces: ["shop".to_owned()].into(),
        max_duration: Duration::from_secs(600),
        probe_urls: vec![],
    }
}

/// A spec from JSON, with the defaults of the schema.
pub fn spec(value: Value) -> ChaosExperimentSpec {
    serde_json::from_value(value).unwrap()
}

/// An experiment in `shop` that nobody has looked at.
pub fn experiment(value: Value) -> ChaosExperiment {
    let mut experiment = ChaosExperiment::new("slow", spec(value));
    experiment.metadata.namespace = Some("shop".into());
    experiment.metadata.uid = Some("experiment-uid".into());
    experiment.metadata.generation = Some(1);
    experiment.metadata.resource_version = Some("1".into());
    experiment
}

/// A continuous probe with an interval of 1 s and a threshold of 3.
pub fn probe_plan(name: &str) -> ProbePlan {
    let probe = json!({"name": name, "http": {"service": "order"}});
    ProbePlan {
        probe: serde_json::from_value(probe).unwrap(),
        mode: valerix_crds::ProbeMode::Continuous,
        interval: Duration::from_secs(1),
        failure_threshold: 3,
        percentile: None,
        fault_lasts: true,
    }
}

/// Two ready pods of `inventory` that are old enough, a service that consents, and no lock.
pub struct World {
    pub spec: Value,
    pub namespace: String,
    pub run: String,
    pub scheduled: bool,
    pub observed: Observed,
}

impl World {
    pub fn pod_kill() -> Self {
        Self::of(json!({"target": {"service": "inventory"}, "podKill": {}}))
    }

    pub fn latency() -> Self {
        Self::of(json!({"target": {"service": "inventory"}, "latency": {"delay": "1s"}, "duration": "30s"}))
    }

    fn of(spec: Value) -> Self {
        let mut world = Self {
            spec,
            namespace: "shop".into(),
            run: "run".into(),
            scheduled: false,
            observed: Observed {
                now: at(100),
                service: Some(ServiceView {
                    admitted: true,
                    paused: false,
                    reports: true,
                    guard: None,
                    config_applied: true,
                    probe_paths: vec![],
                }),
                workload: Some(WorkloadView {
                    desired: 2,
                    progressing: false,
                }),
                document: Some(Document {
                    uid: "map-uid".into(),
                    resource_version: "1".into(),
                    faults: None,
                }),
                ..Observed::default()
            },
        };
        world.add_pods(2);
        world
    }

    pub fn add_pods(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.observed.pods.len();
            let uid = format!("pod-uid-{number}");
            self.observed.pods.push(PodView {
                name: format!("inventory-{number}"),
                uid: uid.clone(),
                ready: true,
                ready_since: None,
                labels: std::collections::BTreeMap::new(),
                zone: None,
                process_ended_at: None,
                created_at: at(0),
                removal: Removal::None,
            });
            let report = ReportView {
                received_at: at(99),
                skew: TimeDelta::zero(),
                faults_hash: None,
                fault: None,
            };
            self.observed.reports.insert(uid, report);
        }
    }

    pub fn service(&mut self) -> &mut ServiceView {
        self.observed.service.as_mut().unwrap()
    }

    pub fn workload(&mut self) -> &mut WorkloadView {
        self.observed.workload.as_mut().unwrap()
    }

    pub fn report_of(&mut self, index: usize) -> &mut ReportView {
        let uid = self.observed.pods[index].uid.clone();
        self.observed.reports.get_mut(&uid).unwrap()
    }

    pub fn lock_by_another(&mut self) {
        let other = EntryName {
            experiment: "other".into(),
            uid: "u".into(),
            intent: 0,
            run: "r".into(),
        };
        let text = super::entry::taken(&self.plan(), &other, vec![], vec![], at(0)).unwrap();
        self.observed.document.as_mut().unwrap().faults = Some(text);
    }

    pub fn plan(&self) -> Plan {
        validate(&spec(self.spec.clone()), &limits()).unwrap()
    }

    pub fn victims(&self) -> Result<Vec<PodView>, Hold> {
        let name = self.name();
        victims(&self.plan(), &limits(), &self.attempt(&name), &self.observed)
    }

    pub fn at_fire(&self, targets: &[TargetStatus]) -> Result<(), Ending> {
        let name = self.name();
        at_fire(&self.plan(), &limits(), &self.attempt(&name), &self.observed, targets)
    }

    pub fn target(pod: &PodView) -> TargetStatus {
        TargetStatus {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            state: TargetState::Intended,
            message: None,
            active_at: None,
            refused_by: None,
            replaced_at: None,
            ready_again_at: None,
        }
    }

    fn name(&self) -> EntryName {
        EntryName {
            experiment: "slow".into(),
            uid: "experiment-uid".into(),
            intent: 0,
            run: self.run.clone(),
        }
    }

    fn attempt<'a>(&'a self, name: &'a EntryName) -> Attempt<'a> {
        Attempt {
            namespace: &self.namespace,
            name,
            scheduled: self.scheduled,
        }
    }
}
