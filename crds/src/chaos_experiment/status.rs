//! What the operator did and saw of an experiment.

use crate::condition::conditions_schema;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Phase, verdict and recovery, kept apart: whether the run ended, whether the system withstood it, whether the fault is gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChaosExperimentStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator has seen the object. It stays at the run's own while a changed spec has not run yet.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// Where the run stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ChaosPhase>,
    /// Whether the system withstood the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// One word on why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// A sentence on why, with the remedy where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Identity of the run: the scheduled time, the run annotation, or the object's UID. Never run twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub run: Option<String>,
    /// Hash of what the run acted on: fault, target, count, duration, safety and steady state. A spec that differs is shown as changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub spec_hash: Option<String>,
    /// The scheduled time that this run stands for; none for a run that was asked for in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Value of the run annotation that was handled last; only another value asks for a run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_requested_run: Option<String>,
    /// What the lots of the chosen pods were drawn with: by the SHA-256 of seed, a space and UID, the lowest are hurt. The same run draws the same lots, another run others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub seed: Option<String>,
    /// Pods of the target that were ready when the intent was recorded. Unit: pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_before: Option<u32>,
    /// The pods that were chosen, recorded before anything is done to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub targets: Vec<TargetStatus>,
    /// In a dry run, the pods of the target that would not be hurt, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub spared: Vec<SparedPod>,
    /// The newest runs and skipped times, the newest first: what a run came to is not lost to the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub history: Vec<PastRun>,
    /// What each probe saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub probes: Vec<ProbeStatus>,
    /// When the intent was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent_at: Option<DateTime<Utc>>,
    /// When the last target reported the fault as active, or was evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected_at: Option<DateTime<Utc>>,
    /// When the fault ended; for podKill when the eviction was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_ended_at: Option<DateTime<Utc>>,
    /// When the probes passed again and the ready pods were back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_again_at: Option<DateTime<Utc>>,
    /// steadyAgainAt minus faultEndedAt, for example `1.4s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub time_to_recover: Option<String>,
    /// When the run reached a terminal phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
    /// When the next scheduled run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<DateTime<Utc>>,
    /// The scheduled time that was handled last, whether it ran or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled_at: Option<DateTime<Utc>>,
    /// Ready-made texts for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<ChaosSummary>,
    /// Conditions: TargetsSelected, Injected, SteadyState, Recovered, Completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ChaosPhase {
    /// Not begun.
    #[default]
    Pending,
    /// The fault is being injected or is active.
    Running,
    /// The fault is over or being removed, and the system is awaited.
    Recovering,
    /// Ended by itself.
    Completed,
    /// Ended by hand or by the cluster-wide stop.
    Stopped,
    /// Ended because something could not be done.
    Failed,
    /// Not begun, for a reason that `reason` names.
    Skipped,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl ChaosPhase {
    /// Whether the run is over.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Stopped | Self::Failed | Self::Skipped)
    }
}

/// Whether the system withstood the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum Verdict {
    /// Not known yet.
    #[default]
    Awaited,
    /// The steady state held during the fault and after it.
    Pass,
    /// The steady state broke, or did not come back in time.
    Fail,
    /// The run was stopped before it could be judged.
    Stopped,
    /// The run cannot be judged; `reason` says why.
    Error,
    /// The run did not begin.
    Skipped,
    /// There was nothing to judge by: no probe, no request that the fault met, or not all of what was asked was hurt.
    NotEvaluated,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// One pod that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// UID of the pod: a pod of the same name with another UID is a stranger.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// What was done to it.
    pub state: TargetState,
    /// Why, when something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    /// Since when the fault is on in the pod by its own report, or when its eviction was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_at: Option<DateTime<Utc>>,
    /// Who refused, in state Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<RefusedBy>,
    /// When the pod in its place was made, where it was killed; to the second, in the order in which pods went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_at: Option<DateTime<Utc>>,
    /// When the pod in its place, or the process after the one that was ended, was ready; to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_again_at: Option<DateTime<Utc>>,
}

/// A pod that a dry run would spare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SparedPod {
    /// Name of the pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Why it would not be hurt.
    #[schemars(length(max = 256))]
    pub reason: String,
}

/// A run that is over, or a scheduled time that was skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastRun {
    /// Identity of the run, or the scheduled time.
    #[schemars(length(max = 256))]
    pub run: String,
    /// Kind of the fault.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub kind: String,
    /// When it was over, or skipped.
    pub at: DateTime<Utc>,
    /// Whether the system withstood it.
    pub verdict: Verdict,
    /// One word on why.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// How long the system took to be steady again, for example `1.4s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub recovery: Option<String>,
    /// How often the same came in a row, where scheduled times were skipped. Unit: scheduled times. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What asked for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<AskedBy>,
    /// When its intent was recorded; none for a run that hurt nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<DateTime<Utc>>,
    /// A sentence on why it ended as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    /// The first ten of its targets, with their times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub targets: Vec<TargetStatus>,
}

/// What asked for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum AskedBy {
    /// The experiment was made, and has no schedule.
    Creation,
    /// The run annotation was set.
    Annotation,
    /// Its scheduled time came.
    Schedule,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Who refused to have a pod hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum RefusedBy {
    /// The pod itself.
    Pod,
    /// A disruption budget, for now.
    DisruptionBudget,
    /// spec.safety.minAvailable, at the moment of the eviction.
    MinAvailable,
    /// The API server.
    ApiServer,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What was done to a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetState {
    /// Chosen and recorded.
    #[default]
    Intended,
    /// Asked, and the answer is not clear yet.
    Injecting,
    /// The pod reports the fault, or the eviction was accepted.
    Active,
    /// The fault is over in this pod.
    Recovered,
    /// The pod had ended by itself.
    Gone,
    /// The pod or the API server refused.
    Refused,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a probe saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeStatus {
    /// Name of the probe.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Questions that were answered as expected. Unit: probes.
    pub passed: u32,
    /// Questions that were not. Unit: probes.
    pub failed: u32,
    /// What the first failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub first_failure: Option<String>,
    /// When the first failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure_at: Option<DateTime<Utc>>,
    /// When the last answer was judged; longer silence than the probe tolerates makes the verdict Error/ObservationGap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<DateTime<Utc>>,
}

/// Ready-made texts: a printer column shows one JSONPath only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChaosSummary {
    /// Kind of the fault.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Targets in which the fault was seen of targets chosen, for example `2/2`.
    #[schemars(length(max = 32))]
    pub injected: String,
    /// When the next run starts, or empty.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub next: String,
    /// The verdicts of the newest ten of `history`, the newest last: P for Pass, F for Fail, E for Error, S for Stopped, N for NotEvaluated, - for what was skipped.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub history: String,
}

fn unseen() -> i64 {
    -1
}
