//! Step 2: what the user wrote becomes a plan with every default filled in.
//!
//! Pure. In: a spec and the operator's settings. Out: a [`Plan`], or the field that is wrong with the remedy. The API
//! server has checked most of it already; what its rules cannot say (zones, a schedule that never comes) is said here.

use super::schedule::Schedule;
use crate::chaos_experiment::settings::Settings;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::fmt;
use std::time::Duration;
use valerix_crds::{ChaosExperimentSpec, FaultType, Probe, ProbeMode, Safety};

/// Everything that a run needs to know of its spec.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the ResilientService that is hurt.
    pub service: String,
    /// The kind of fault.
    pub fault_type: FaultType,
    /// The fault as the service's library reads it.
    pub fault: valerix_policy::Fault,
    /// podKill: how long the pod may take to end, in seconds; none is the pod's own.
    pub grace_period_seconds: Option<i64>,
    /// How long the fault lasts, capped; zero for podKill.
    pub duration: Duration,
    /// Whether the operator's cap shortened it.
    pub capped: bool,
    /// How many pods.
    pub count: Count,
    /// Ready pods that must be left.
    pub min_available: u32,
    /// Age that a pod must have.
    pub min_pod_age: Duration,
    /// Pause after the last fault on the same target; none is the default for how the run was started.
    pub cooldown: Option<Duration>,
    /// The probes.
    pub probes: Vec<ProbePlan>,
    /// Whether a deviation ends the fault.
    pub stop_on_failure: bool,
    /// How long the system may take to be steady again.
    pub recovery_timeout: Duration,
}

/// How many pods are hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Pods(u32),
    /// So many of a hundred ready ones, rounded down.
    Percent(u32),
}

/// One probe with its defaults.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// What the user wrote: name and question.
    pub probe: Probe,
    /// Whether it also judges while the fault is on.
    pub continuous: bool,
    /// Time between two questions.
    pub interval: Duration,
    /// Failures in a row that count.
    pub failure_threshold: u32,
}

impl ProbePlan {
    /// The longest time without an answer that still counts as watching.
    pub fn tolerated_gap(&self) -> Duration {
        self.interval * self.failure_threshold
    }
}

/// A field that cannot be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSpec {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it and what to write instead.
    pub message: String,
}

impl fmt::Display for InvalidSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.field, self.message)
    }
}

/// Fills in every default.
///
/// # Errors
/// The first field that cannot be acted on.
pub fn validate(spec: &ChaosExperimentSpec, settings: &Settings) -> Result<Plan, InvalidSpec> {
    let wanted = optional_duration("spec.duration", spec.duration.as_ref())?.unwrap_or_default();
    let duration = wanted.min(settings.max_duration);
    let (fault_type, fault) = super::build::fault(spec)?;
    let safety = spec.safety.clone().unwrap_or_default();
    let steady_state = spec.steady_state.clone().unwrap_or_default();
    let Safety {
        min_available,
        min_pod_age,
        cooldown,
    } = safety;
    Ok(Plan {
        service: spec.target.service.clone(),
        fault_type,
        fault,
        grace_period_seconds: spec.pod_kill.as_ref().and_then(|fault| fault.grace_period_seconds),
        duration,
        capped: duration < wanted,
        count: count(&spec.count)?,
        min_available: min_available.unwrap_or(1),
        min_pod_age: optional_duration("spec.safety.minPodAge", min_pod_age.as_ref())?
            .unwrap_or(Duration::from_secs(30)),
        cooldown: optional_duration("spec.safety.cooldown", cooldown.as_ref())?,
        probes: steady_state
            .probes
            .iter()
            .enumerate()
            .map(probe)
            .collect::<Result<_, _>>()?,
        // An absent steadyState has no probe that could fail, so its default here does not matter.
        stop_on_failure: steady_state.stop_on_failure,
        recovery_timeout: optional_duration(
            "spec.steadyState.recoveryTimeout",
            steady_state.recovery_timeout.as_ref(),
        )?
        .unwrap_or(Duration::from_secs(60)),
    })
}

/// When runs start; none is once, at once.
///
/// # Errors
/// What is wrong with the schedule or its zone.
pub fn schedule(spec: &ChaosExperimentSpec) -> Result<Option<Schedule>, InvalidSpec> {
    spec.schedule
        .as_deref()
        .map(|text| Schedule::parse(text, spec.time_zone.as_deref()))
        .transpose()
        .map_err(|error| InvalidSpec {
            field: error.field.to_owned(),
            message: error.message,
        })
}

impl Plan {
    /// Enough of a plan to undo a fault whose spec cannot be acted on any more, for example after a downgrade.
    pub fn for_recovery(spec: &ChaosExperimentSpec) -> Self {
        let fault_type = match (&spec.pod_kill, &spec.errors) {
            (Some(_), _) => FaultType::PodKill,
            (None, Some(_)) => FaultType::Errors,
            (None, None) => FaultType::Latency,
        };
        Self {
            service: spec.target.service.clone(),
            fault_type,
            fault: valerix_policy::Fault::default(),
            grace_period_seconds: None,
            duration: Duration::ZERO,
            capped: false,
            count: Count::Pods(1),
            min_available: 1,
            min_pod_age: Duration::ZERO,
            cooldown: None,
            probes: Vec::new(),
            stop_on_failure: true,
            recovery_timeout: Duration::from_secs(60),
        }
    }
}

fn probe((index, probe): (usize, &Probe)) -> Result<ProbePlan, InvalidSpec> {
    let path = |field: &str| format!("spec.steadyState.probes[{index}].{field}");
    if probe.http.is_none() && probe.condition.is_none() {
        return Err(InvalidSpec {
            field: path("http"),
            message: "is missing: set exactly one of http and condition".into(),
        });
    }
    Ok(ProbePlan {
        probe: probe.clone(),
        continuous: probe.mode != ProbeMode::Edge,
        interval: optional_duration(&path("interval"), probe.interval.as_ref())?
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(200)),
        failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
    })
}

fn count(count: &IntOrString) -> Result<Count, InvalidSpec> {
    let parsed = match count {
        IntOrString::Int(pods) => u32::try_from(*pods).ok().filter(|pods| *pods > 0).map(Count::Pods),
        IntOrString::String(text) => text
            .strip_suffix('%')
            .and_then(|number| number.parse().ok())
            .filter(|percent| (1..=100).contains(percent))
            .map(Count::Percent),
    };
    parsed.ok_or_else(|| InvalidSpec {
        field: "spec.count".into(),
        message: "must be a number from 1 to 1000 or a percentage from 1% to 100%".into(),
    })
}

/// Reads a duration and names its field when it is none.
///
/// # Errors
/// When the text is not a duration.
pub fn optional_duration(
    field: &str,
    duration: Option<&valerix_crds::Duration>,
) -> Result<Option<Duration>, InvalidSpec> {
    duration
        .map(valerix_crds::Duration::value)
        .transpose()
        .map_err(|error| InvalidSpec {
            field: field.to_owned(),
            message: format!("cannot be read: {error}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{settings, spec};
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in() {
        let plan = validate(
            &spec(json!({"target": {"service": "inventory"}, "podKill": {}})),
            &settings(),
        )
        .unwrap();
        assert_eq!(plan.count, Count::Pods(1));
        assert_eq!(plan.min_available, 1);
        assert_eq!(plan.min_pod_age, Duration::from_secs(30));
        assert_eq!(plan.recovery_timeout, Duration::from_secs(60));
        assert_eq!((plan.cooldown, plan.duration), (None, Duration::ZERO));
    }

    #[test]
    fn the_operator_caps_the_duration() {
        let spec = spec(json!({"target": {"service": "inventory"}, "duration": "2h", "latency": {"delay": "1s"}}));
        let plan = validate(&spec, &settings()).unwrap();
        assert_eq!((plan.duration, plan.capped), (Duration::from_secs(600), true));
    }

    #[test]
    fn what_cannot_be_acted_on_is_named() {
        let base = json!({"target": {"service": "inventory"}, "podKill": {}});
        for (field, value, word) in [
            ("count", json!("0%"), "spec.count"),
            ("count", json!(0), "spec.count"),
            ("schedule", json!("0 25 * * *"), "spec.schedule"),
            ("safety", json!({"minPodAge": "soon"}), "spec.safety.minPodAge"),
            (
                "steadyState",
                json!({"probes": [{"name": "a"}]}),
                "spec.steadyState.probes[0].http",
            ),
        ] {
            let mut wrong = base.clone();
            wrong[field] = value;
            let spec = spec(wrong);
            let error = validate(&spec, &settings())
                .err()
                .or_else(|| schedule(&spec).err())
                .unwrap();
            assert_eq!(error.field, word, "{error}");
        }
    }
}
