//! What the user writes to run an experiment.

use super::{probes::SteadyState, status::ChaosExperimentStatus};
use crate::Duration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a route looks like: a method of HTTP and a path without query, of visible ASCII. Whatever passes here is read by
/// the pods too.
const ROUTE: &str = r#"^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT) /[!"$-)+->@-~]*$"#;

/// What a time of the day looks like.
const CLOCK: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

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
    printcolumn(name = "Next", type_ = "string", json_path = ".status.summary.next"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must have at most 63 characters"),
    validation = Rule::new("!has(self.spec.after) || self.spec.after.experiment != self.metadata.name")
        .message("spec.after.experiment must be another experiment: this one would wait for itself"),
    validation = Rule::new(FROZEN)
        .message("spec is frozen while a run is Running or Recovering; set spec.desired: Stop first and wait for condition Completed")
)]
#[cfg_attr(test, kube(cel))]
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
    validation = Rule::new("!has(self.duration) || duration(self.duration) >= duration('1s')")
        .message("duration must be at least 1s")
        .field_path(".duration"),
    validation = Rule::new("!(has(self.podKill) || has(self.crash)) || !has(self.steadyState) || !has(self.steadyState.probes) || !self.steadyState.probes.exists(p, has(p.mode) && p.mode == 'OnFault')")
        .message("mode OnFault needs a fault that lasts, and podKill and crash are over at once; use Continuous")
        .field_path(".steadyState"),
    validation = Rule::new("!has(self.timeZone) || has(self.schedule)")
        .message("timeZone has no meaning without schedule; remove it or set schedule")
        .field_path(".timeZone"),
    validation = Rule::new("!has(self.excludedWindows) || size(self.excludedWindows) == 0 || has(self.schedule)")
        .message("excludedWindows have no meaning without schedule; remove them or set schedule")
        .field_path(".excludedWindows")
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

/// The service that is hurt: always one of the experiment's own namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChaosTarget {
    /// Name of a ResilientService of the same namespace with `chaos.admission: Allowed`. Required.
    #[schemars(length(min = 1, max = 53))]
    pub service: String,
    /// Only pods in this zone, as their EndpointSlices name it. Default: every zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
    /// Only pods with these labels. Default: every pod of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<PodSelector>,
}

/// Labels that pods must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels with their values; a pod must have all of them. Default: none, which every pod has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "label_map")]
    pub match_labels: BTreeMap<String, String>,
}

/// What happens to a scheduled time that comes while a run is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It is skipped.
    #[default]
    Forbid,
    /// The run under way is stopped for it.
    Replace,
    /// A value of a newer version; treated as Forbid.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Hours of the day in which no scheduled run starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExcludedWindow {
    /// Weekdays on which the window begins. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,
    /// When it begins. Unit: hour and minute of the day, for example `09:00`. Required.
    #[schemars(length(max = 5), regex(pattern = CLOCK))]
    pub from: String,
    /// When it ends, itself not excluded; at or before `from` it ends the next day. Unit: hour and minute of the day. Required.
    #[schemars(length(max = 5), regex(pattern = CLOCK))]
    pub to: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
    /// A value of a newer version; the experiment cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Evicts or deletes pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodKillFault {
    /// How the pod goes: Evict asks its PodDisruptionBudget, Delete does not and is for what no budget can hinder, such as a node that is lost. Either needs the namespace in the chart's chaos.namespaces. Default: Evict.
    #[serde(default)]
    pub method: KillMethod,
    /// How long the pod may take to end. Unit: seconds. Default: the pod's own terminationGracePeriodSeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_period_seconds: Option<i64>,
}

/// How a pod is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KillMethod {
    /// By an eviction, which respects PodDisruptionBudgets.
    #[default]
    Evict,
    /// By a deletion, which no PodDisruptionBudget hinders.
    Delete,
    /// A value of a newer version; the experiment cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Delays requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("duration(self.delay) >= duration('1ms') && duration(self.delay) <= duration('5m')")
        .message("delay must be between 1ms and 5m").field_path(".delay"),
    validation = Rule::new("!has(self.jitter) || duration(self.jitter) <= duration(self.delay)")
        .message("jitter must not be longer than delay: a delay cannot be negative").field_path(".jitter")
)]
pub struct LatencyFault {
    /// How long each request is held before it is handled. Unit: duration. Required.
    pub delay: Duration,
    /// Bound of a uniform random part that is added or taken away. Unit: duration. Default: 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// Share of requests that are held. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// Routes that are held, each `METHOD /path`; a segment `{x}` stands for any one segment; there is no query, no `*` and no method for all. Default: all but health, ready, the report and the paths of the service's probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256), regex(pattern = ROUTE)))]
    pub routes: Vec<String>,
}

/// Answers with an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorsFault {
    /// Share of requests that are answered with the error. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// Status of the answer. Unit: HTTP status. Default: 503.
    #[serde(default = "unavailable")]
    #[schemars(range(min = 400, max = 599))]
    pub status: u32,
    /// Routes that fail, each `METHOD /path`; a segment `{x}` stands for any one segment; there is no query, no `*` and no method for all. Default: all but health, ready, the report and the paths of the service's probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256), regex(pattern = ROUTE)))]
    pub routes: Vec<String>,
}

/// Closes the connection of a request without an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AbortFault {
    /// Share of requests that are closed. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// Routes that are closed, each `METHOD /path`; a segment `{x}` stands for any one segment; there is no query, no `*` and no method for all. Default: all but health, ready, the report and the paths of the service's probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256), regex(pattern = ROUTE)))]
    pub routes: Vec<String>,
}

/// Resets every connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefuseFault {}

/// Cuts the pods off from one peer. It is done by the pods themselves, which refuse to call the peer and reset what it asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionFault {
    /// Which way is cut: Ingress is what the peer asks, Egress what the peer is asked. Default: Both.
    #[serde(default)]
    pub direction: PartitionDirection,
    /// The peer, as `name` for a service of the same namespace, a target of `resilience.targets` or a caller of any namespace, or as `namespace/name`. Required.
    #[schemars(
        length(max = 117),
        regex(pattern = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")
    )]
    pub peer: String,
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PartitionDirection {
    /// Requests of the peer are reset.
    Ingress,
    /// Calls to the peer fail before they leave.
    Egress,
    /// Both.
    #[default]
    Both,
    /// A value of a newer version; the experiment cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Ends the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrashFault {
    /// How often the process of each pod is ended; each restart after the first is delayed by Kubernetes, 10s and then 20s. Unit: crashes. Default: 1.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 3))]
    pub times: u32,
}

/// Uses up processor time in the process of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuStressFault {
    /// Share of one processor that each worker uses. Unit: percent. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub load_percent: u32,
    /// Threads that work. Unit: threads. Default: 1.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: u32,
}

/// Uses up memory in the process of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStressFault {
    /// How much is held, at most 64Gi. Unit: bytes, as a whole number with k, M, G, Ki, Mi or Gi. Required.
    #[schemars(
        length(max = 12),
        regex(
            pattern = r"^([1-9][0-9]{0,9}|[1-9][0-9]{0,6}(k|Ki)|[1-9][0-9]{0,3}(M|Mi)|([1-9]|[1-5][0-9]|6[0-4])(G|Gi))$"
        )
    )]
    pub size: String,
}

/// An experiment that must have ended before a run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct After {
    /// Name of a ChaosExperiment of the same namespace. Its last run counts, of the spec that it has now; one that is under way or asked for is awaited. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub experiment: String,
    /// The verdict that it must have ended with; Any is every one of them. Default: Pass.
    #[serde(default)]
    pub verdict: RequiredVerdict,
}

/// A verdict that another experiment must have ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequiredVerdict {
    /// The system withstood the fault.
    #[default]
    Pass,
    /// It did not.
    Fail,
    /// The run was stopped.
    Stopped,
    /// The run could not be judged.
    Error,
    /// The run did not begin.
    Skipped,
    /// There was nothing to judge by.
    NotEvaluated,
    /// However it ended.
    Any,
    /// A value of a newer version; treated as Pass.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Limits that a run must keep, checked when it fires.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Safety {
    /// Ready pods that must be left when pods are taken away. Unit: pods. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_available: Option<u32>,
    /// Age that a pod must have before it is hurt. Unit: duration. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_pod_age: Option<Duration>,
    /// Pause after the last fault on the same target. Unit: duration. Default: 0s for a run by hand, 5m for a scheduled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
}

fn one() -> IntOrString {
    IntOrString::Int(1)
}

fn once() -> u32 {
    1
}

fn hundred() -> u32 {
    100
}

fn unavailable() -> u32 {
    503
}

fn label_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
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
