//! What the user writes to run an experiment.

use super::faults::{
    AbortFault, CpuStressFault, CrashFault, ErrorsFault, LatencyFault, MemoryStressFault, PartitionFault, PodKillFault,
    RefuseFault,
};
use super::limits::{ChaosTarget, Safety};
use super::occasion::{After, ConcurrencyPolicy, ExcludedWindow};
use super::{probes::SteadyState, status::ChaosExperimentStatus};
use crate::Duration;
use crate::duration::is_duration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Calls a macro with every fault of the spec: the rules of the schema leave none out.
macro_rules! with_faults {
    ($call:ident) => {
        $call!(
            "podKill",
            "latency",
            "errors",
            "abort",
            "refuse",
            "partition",
            "crash",
            "cpuStress",
            "memoryStress"
        )
    };
}

macro_rules! one_of {
    ($first:literal $(, $field:literal)*) => {
        concat!("[has(self.", $first, ")", $(", has(self.", $field, ")",)* "].filter(x, x).size() == 1")
    };
}

/// Each of these optional fields is absent on both sides or the same on both.
macro_rules! unchanged {
    ($($field:literal),*) => {
        concat!($(
            " && (has(self.spec.", $field, ") ? has(oldSelf.spec.", $field, ") && self.spec.", $field,
            " == oldSelf.spec.", $field, " : !has(oldSelf.spec.", $field, "))",
        )*)
    };
}

macro_rules! list {
    ($($field:literal),*) => { &[$($field),*] };
}

/// The fields of a ChaosExperiment's spec of which exactly one is set: the fault.
pub const CHAOS_FAULTS: &[&str] = with_faults!(list);

/// Exactly one fault is set.
const ONE_FAULT: &str = with_faults!(one_of);

/// Everything that a run acts on stays as it is while the run is under way.
const FROZEN: &str = concat!(
    "!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Running', 'Recovering'])",
    " || (self.spec.target == oldSelf.spec.target && self.spec.count == oldSelf.spec.count",
    unchanged!("duration", "dryRun", "safety", "steadyState"),
    with_faults!(unchanged),
    ")"
);

/// An experiment without a schedule runs once, at once: one that never ran is not to do so because its schedule is taken away.
const RUNS_AT_ITS_HOUR: &str = concat!(
    "!has(oldSelf.spec.schedule) || has(self.spec.schedule) || (has(self.spec.desired) && self.spec.desired == 'Stop')",
    " || (has(self.status) && has(self.status.run))"
);

/// The fault, its target, its limits and how the system is judged meanwhile.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "resilience.valerix.io",
    version = "v1alpha1",
    kind = "ChaosExperiment",
    plural = "chaosexperiments",
    shortname = "chaos",
    category = "valerix",
    namespaced,
    status = "ChaosExperimentStatus",
    derive = "PartialEq",
    doc = "One fault that is injected into one service, now or on a schedule, within safety limits, and the verdict on whether the system withstood it.",
    printcolumn(name = "Type", type_ = "string", json_path = ".status.summary.type"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.service"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict"),
    printcolumn(name = "Injected", type_ = "string", json_path = ".status.summary.injected"),
    printcolumn(name = "Recovery", type_ = "string", json_path = ".status.timeToRecover"),
    printcolumn(name = "History", type_ = "string", json_path = ".status.summary.history"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.summary.next"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must have at most 63 characters"),
    validation = Rule::new("!has(self.spec.after) || self.spec.after.experiment != self.metadata.name")
        .message("spec.after.experiment must be another experiment: this one would wait for itself"),
    validation = Rule::new(RUNS_AT_ITS_HOUR)
        .message("without spec.schedule an experiment that never ran begins at once; set spec.desired: Stop with it, or keep the schedule and set spec.suspend: true"),
    validation = Rule::new(FROZEN)
        .message("spec is frozen while a run is Running or Recovering; set spec.desired: Stop first and wait for condition Completed")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(ONE_FAULT)
        .message("exactly one fault must be set: podKill, latency, errors, abort, refuse, partition, crash, cpuStress or memoryStress"),
    validation = Rule::new("has(self.podKill) || has(self.duration)")
        .message("duration is required for every fault but podKill: a fault must have an end")
        .field_path(".duration"),
    validation = Rule::new("!has(self.podKill) || !has(self.duration)")
        .message("duration has no meaning for podKill, which happens once; remove it")
        .field_path(".duration"),
    validation = Rule::new(concat!("!has(self.duration) || ", is_duration!("self.duration"), " && duration(self.duration) >= duration('1s')"))
        .message("duration must be at least 1s, for example 30s or 1m30s")
        .field_path(".duration"),
    validation = Rule::new("!(has(self.podKill) || has(self.crash)) || !has(self.steadyState) || !has(self.steadyState.probes) || !self.steadyState.probes.exists(p, has(p.mode) && p.mode == 'OnFault')")
        .message("mode OnFault needs a fault that lasts, and podKill and crash are over at once; use Continuous")
        .field_path(".steadyState"),
    validation = Rule::new("!has(self.timeZone) || has(self.schedule)")
        .message("timeZone has no meaning without schedule; remove it or set schedule")
        .field_path(".timeZone"),
    validation = Rule::new("!has(self.excludedWindows) || size(self.excludedWindows) == 0 || has(self.schedule)")
        .message("excludedWindows have no meaning without schedule; remove them or set schedule")
        .field_path(".excludedWindows"),
    validation = Rule::new("!has(self.startingDeadlineSeconds) || has(self.schedule)")
        .message("startingDeadlineSeconds has no meaning without schedule; remove it or set schedule")
        .field_path(".startingDeadlineSeconds"),
    validation = Rule::new("!has(self.concurrencyPolicy) || self.concurrencyPolicy != 'Replace' || has(self.schedule)")
        .message("concurrencyPolicy: Replace has no meaning without schedule; remove it or set schedule")
        .field_path(".concurrencyPolicy"),
    validation = Rule::new("!has(self.suspend) || !self.suspend || has(self.schedule)")
        .message("suspend holds back scheduled runs only, and without schedule the one run would begin at once; set desired: Stop instead")
        .field_path(".suspend"),
    validation = Rule::new(concat!(
        "!has(self.duration) || has(self.crash) || !has(self.steadyState) || !has(self.steadyState.probes) || self.steadyState.probes.all(p, !has(p.interval) || (has(p.mode) && p.mode == 'Edge') || ",
        "!", is_duration!("p.interval"), " || !", is_duration!("self.duration"), " || duration(p.interval) <= duration(self.duration))"
    ))
        .message("a probe whose interval is longer than duration would not be asked while the fault is on; shorten its interval, lengthen duration, or set its mode to Edge")
        .field_path(".steadyState")
)]
pub struct ChaosExperimentSpec {
    /// Run starts and keeps going, Stop recovers at once; may be changed at any time. A run that is asked for by annotation meanwhile starts when this is set to Run. Default: Run.
    #[serde(default)]
    pub desired: DesiredState,
    /// The service that is hurt. Required.
    pub target: ChaosTarget,
    /// Kills pods, by an eviction that respects their PodDisruptionBudget or by a deletion that does not. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_kill: Option<PodKillFault>,
    /// Delays requests that the service receives. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyFault>,
    /// Answers requests with an error instead of handling them. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorsFault>,
    /// Closes connections without an answer. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortFault>,
    /// Resets every connection to the service's own port, open ones too, while health and the report stay: the service is down for a time. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse: Option<RefuseFault>,
    /// Cuts the pods off from another service. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionFault>,
    /// Ends the process abruptly, without a shutdown; the container starts again in the same pod. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashFault>,
    /// Uses up processor time. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_stress: Option<CpuStressFault>,
    /// Uses up memory. A container that passes its limit is ended by the kernel, and then the run has no verdict. Default: none; exactly one fault is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_stress: Option<MemoryStressFault>,
    /// How many pods are hurt: a number, or a percentage of the ready pods, rounded down; if nothing is left, the run is refused. Unit: pods or percent. Default: 1.
    #[serde(default = "one")]
    #[schemars(schema_with = "count_schema")]
    pub count: IntOrString,
    /// How long the fault lasts in each pod, ended by the pod's own clock; capped by the operator's chaos.maxDuration; for crash, how long a process may go on being ended. Unit: duration. Default: none, required for every fault but podKill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// When runs start, as five cron fields (minute hour day month weekday) of numbers, names, `*`, `,`, `-` and `/`. Default: none, one run at once: creating the object runs it, also when it is restored from a backup; restore it with `desired: Stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 9, max = 128),
        regex(pattern = r"^[0-9A-Za-z*/,-]+( +[0-9A-Za-z*/,-]+){4}$")
    )]
    pub schedule: Option<String>,
    /// IANA zone in which schedule is read, for example Europe/Berlin. Default: Etc/UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// How late a scheduled run may start; later it is skipped, because a fault at an hour that nobody chose is worse than none. Unit: seconds. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub starting_deadline_seconds: Option<u32>,
    /// What happens to a scheduled time that comes while a run is under way: Forbid skips it, Replace stops the run under way for it. Default: Forbid.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Hours in which no scheduled run starts, read in timeZone; a run by annotation starts all the same. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub excluded_windows: Vec<ExcludedWindow>,
    /// Starts no further scheduled run while true; a run under way goes on. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Runs everything but the fault: who would be hurt and who not and why stand in status, and nothing is asked, locked or hurt. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Another experiment of the same namespace that must have ended first: a run waits for it, and is skipped when it ended otherwise. A circle of them is refused. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Limits that a run must keep. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety: Option<Safety>,
    /// How the system is judged before, during and after the fault. Default: none, and then the verdict is NotEvaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_state: Option<SteadyState>,
}

/// The start and stop button.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// Runs.
    #[default]
    Run,
    /// Stops and recovers.
    Stop,
    /// A value of a newer version; treated as Stop, the safe side.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

fn one() -> IntOrString {
    IntOrString::Int(1)
}

fn count_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{
            "rule": "string(self).matches('^([1-9][0-9]?|100|([1-9][0-9]?|100)%)$')",
            "message": "count must be a number from 1 to 100 or a percentage from 1% to 100%",
        }],
    })
}
