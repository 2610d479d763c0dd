//! An experiment: its fault, how far its run is, and what came of it and of those before.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use valerix_crds::{CHAOS_FAULTS, ChaosExperiment, ChaosPhase};

use super::{identity, word};

/// A ChaosExperiment.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Option<DateTime<Utc>>,
    /// The field of the spec that is its fault, such as `latency`.
    pub fault: String,
    /// What that field says.
    pub settings: Value,
    /// The service that is hurt.
    pub target: String,
    /// How many pods: a number, or a percentage.
    pub count: String,
    /// How long in each pod.
    pub duration: Option<String>,
    /// When runs start, as cron fields.
    pub schedule: Option<String>,
    /// `Run` or `Stop`.
    pub desired: String,
    /// Where the run stands; empty before the operator has seen it.
    pub phase: String,
    /// Whether a run is under way.
    pub active: bool,
    /// Whether a run waits to begin, and does so by itself unless it is stopped.
    pub waiting: bool,
    /// Whether the system withstood it; empty before.
    pub verdict: String,
    /// One word on why.
    pub reason: String,
    /// A sentence on why.
    pub message: String,
    /// Identity of the run.
    pub run: Option<String>,
    /// The pods that were chosen.
    pub targets: Vec<TargetView>,
    /// What each probe saw.
    pub probes: Vec<ProbeView>,
    /// When the intent was recorded.
    pub intent_at: Option<DateTime<Utc>>,
    /// When the fault was on in every pod.
    pub injected_at: Option<DateTime<Utc>>,
    /// When the fault ends by itself, while it is on.
    pub ends_at: Option<DateTime<Utc>>,
    /// When the fault ended.
    pub fault_ended_at: Option<DateTime<Utc>>,
    /// When the system was steady again.
    pub steady_again_at: Option<DateTime<Utc>>,
    /// How long that took.
    pub time_to_recover: Option<String>,
    /// When the run was over.
    pub completed_at: Option<DateTime<Utc>>,
    /// When the next run starts.
    pub next_run_at: Option<DateTime<Utc>>,
    /// Runs before, the newest first.
    pub history: Vec<RunView>,
}

/// A pod that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TargetView {
    /// Its name.
    pub pod: String,
    /// What was done to it.
    pub state: String,
    /// Why, when something went wrong.
    pub message: Option<String>,
}

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeView {
    /// Its name.
    pub name: String,
    /// Answers as expected.
    pub passed: u32,
    /// Answers that were not.
    pub failed: u32,
    /// What the first failure was.
    pub first_failure: Option<String>,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RunView {
    /// Its identity.
    pub run: String,
    /// Kind of the fault.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was over.
    pub at: DateTime<Utc>,
    /// Whether the system withstood it.
    pub verdict: String,
    /// One word on why.
    pub reason: String,
    /// How long the system took to be steady again.
    pub recovery: Option<String>,
}

impl From<&ChaosExperiment> for ExperimentView {
    fn from(experiment: &ChaosExperiment) -> Self {
        let (namespace, name) = identity(&experiment.metadata);
        let spec = &experiment.spec;
        let status = experiment.status.clone().unwrap_or_default();
        let fields = serde_json::to_value(spec).unwrap_or_default();
        let fault = CHAOS_FAULTS.iter().copied().find(|fault| fields.get(fault).is_some());
        let active = matches!(status.phase, Some(ChaosPhase::Running | ChaosPhase::Recovering));
        // Between the runs of a schedule the phase is the same, and there is no run.
        let waiting = status.phase == Some(ChaosPhase::Pending) && status.run.is_some();
        let lasts = spec.duration.as_ref().and_then(|duration| duration.value().ok());
        let lasts = lasts.and_then(|duration| chrono::Duration::from_std(duration).ok());
        let ends_at = status.injected_at.zip(lasts).map(|(from, duration)| from + duration);
        Self {
            created_at: experiment.metadata.creation_timestamp.as_ref().and_then(super::moment),
            fault: fault.unwrap_or_default().to_owned(),
            settings: fault.map(|fault| fields[fault].clone()).unwrap_or_default(),
            target: spec.target.service.clone(),
            count: match &spec.count {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => text.clone(),
            },
            duration: spec.duration.as_ref().map(ToString::to_string),
            schedule: spec.schedule.clone(),
            desired: word(&spec.desired),
            phase: status.phase.as_ref().map(word).unwrap_or_default(),
            active,
            waiting,
            verdict: status.verdict.as_ref().map(word).unwrap_or_default(),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            run: status.run,
            targets: (status.targets.into_iter())
                .map(|target| TargetView {
                    pod: target.pod,
                    state: word(&target.state),
                    message: target.message,
                })
                .collect(),
            probes: (status.probes.into_iter())
                .map(|probe| ProbeView {
                    name: probe.name,
                    passed: probe.passed,
                    failed: probe.failed,
                    first_failure: probe.first_failure,
                })
                .collect(),
            intent_at: status.intent_at,
            injected_at: status.injected_at,
            ends_at: ends_at.filter(|_| active && status.fault_ended_at.is_none()),
            fault_ended_at: status.fault_ended_at,
            steady_again_at: status.steady_again_at,
            time_to_recover: status.time_to_recover,
            completed_at: status.completed_at,
            next_run_at: status.next_run_at,
            history: (status.history.into_iter())
                .map(|run| RunView {
                    run: run.run,
                    kind: run.kind,
                    at: run.at,
                    verdict: word(&run.verdict),
                    reason: run.reason,
                    recovery: run.recovery,
                })
                .collect(),
            namespace,
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_to_begin_is_told_from_what_waits_for_its_time() {
        let view = |status: Value| {
            let spec = json!({"target": {"service": "order"}, "latency": {"delay": "2s"}, "schedule": "0 10 * * *"});
            let experiment = json!({"metadata": {"name": "slow", "namespace": "shop"}, "spec": spec, "status": status});
            ExperimentView::from(&serde_json::from_value(experiment).unwrap())
        };
        for (status, expected) in [
            (json!({"phase": "Pending", "run": "r-1"}), (false, true)),
            (json!({"phase": "Pending"}), (false, false)),
            (json!({"phase": "Running", "run": "r-1"}), (true, false)),
            (json!({"phase": "Completed", "run": "r-1"}), (false, false)),
        ] {
            let view = view(status);
            assert_eq!((view.active, view.waiting), expected, "{}", view.phase);
        }
    }
}
