//! What a run sees of the world at one moment: plain values, gathered by `dereference`, judged by `step`.
//!
//! Pure: nothing here asks anybody.

use super::faults::pod_kill::EvictionResult;
use super::probes::samples::Samples;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use valerix_crds::Verdict;
use valerix_policy::FaultState;

/// Everything that a decision may depend on beside the experiment itself.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The operator's clock.
    pub now: DateTime<Utc>,
    /// The target, if it exists.
    pub service: Option<ServiceView>,
    /// The target's Deployment, if it exists.
    pub workload: Option<WorkloadView>,
    /// The target's pods.
    pub pods: Vec<PodView>,
    /// What the pods reported last, by pod UID.
    pub reports: HashMap<String, ReportView>,
    /// The target's document with the fault and the lock, if it exists.
    pub document: Option<Document>,
    /// Why every experiment must stop, if it must.
    pub stop_order: Option<String>,
    /// When the last fault of any other experiment on the same target ended.
    pub last_fault_ended_at: Option<DateTime<Utc>>,
    /// The experiment that is under way on the same target, if there is another.
    pub busy: Option<String>,
    /// The experiment that has hurt the same target and is not judged yet, if there is one.
    pub unjudged: Option<String>,
    /// How the experiment stands that must have ended before, if one must.
    pub preceding: Option<Preceding>,
    /// What the probes saw; none before they were started in this process.
    pub samples: Option<Samples>,
    /// What this process was answered to its evictions of this run, by pod UID.
    pub evictions: HashMap<String, EvictionResult>,
}

/// How the experiment stands that must have ended before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preceding {
    /// It waits for this one, maybe through others: their names, from this one to this one.
    Circle(Vec<String>),
    /// It has not ended; why, as the end of a sentence.
    Awaited(String),
    /// It has ended; how, and why.
    Ended(Verdict, String),
}

/// What an experiment needs to know of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Whether the service consents to experiments.
    pub admitted: bool,
    /// Whether the service is paused.
    pub paused: bool,
    /// Whether its pods report, and so can be told of a fault.
    pub reports: bool,
    /// Who obeys faults in the place of its image, if somebody does.
    pub guard: Option<GuardView>,
    /// Whether every ready pod runs what the spec says now, its consent included.
    pub config_applied: bool,
    /// Paths that the kubelet asks; no fault touches them.
    pub probe_paths: Vec<String>,
}

/// What an experiment needs to know of the guard of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardView {
    /// Whether requests come in through it, and not connections alone.
    pub sees_requests: bool,
}

/// What an experiment needs to know of the target's Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadView {
    /// Pods that are wanted.
    pub desired: u32,
    /// Whether a rollout is under way.
    pub progressing: bool,
}

/// One pod of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Since when, to the second.
    pub ready_since: Option<DateTime<Utc>>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The zone in which it runs, if its EndpointSlices name one.
    pub zone: Option<String>,
    /// When a process of it ended last, to the second; none while it runs its first one.
    pub process_ended_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Whether and by what it is being removed.
    pub removal: Removal,
}

/// Whether a pod is being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not.
    None,
    /// By an eviction, asked for at that time as far as the pod tells.
    Evicted(DateTime<Utc>),
    /// By a plain deletion or anything else, asked for at that time as far as the pod tells.
    Deleted(DateTime<Utc>),
}

impl PodView {
    /// Whether the pod serves and is to go on serving.
    pub fn serves(&self) -> bool {
        self.ready && self.removal == Removal::None
    }
}

/// What a pod reported last, as far as one run is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportView {
    /// When the operator got it.
    pub received_at: DateTime<Utc>,
    /// The pod's clock minus the operator's, then.
    pub skew: TimeDelta,
    /// Hash of the fault document that the pod has read.
    pub faults_hash: Option<String>,
    /// What became of this run's fault in the pod.
    pub fault: Option<FaultView>,
}

/// What a pod says of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultView {
    /// What became of it.
    pub state: FaultState,
    /// Why it was refused or ended early.
    pub reason: Option<String>,
    /// How long it was to go on when the pod said so; none when it did not say.
    pub remaining: Option<Duration>,
    /// Requests that it was done to, if the pod counts them.
    pub hits: Option<u64>,
}

/// The ConfigMap that holds the fault document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// UID of the ConfigMap.
    pub uid: String,
    /// The version that was read; a write must meet it.
    pub resource_version: String,
    /// The fault document, if the key stands.
    pub faults: Option<String>,
}

impl Observed {
    /// The pod of this UID, if it still exists.
    pub fn pod(&self, uid: &str) -> Option<&PodView> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    /// The text of the fault document.
    pub fn faults(&self) -> Option<&str> {
        self.document.as_ref()?.faults.as_deref()
    }

    /// Pods that serve, without those of `except`.
    pub fn serving<'a>(&'a self, except: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a PodView> {
        self.pods.iter().filter(move |pod| pod.serves() && !except(&pod.uid))
    }
}
