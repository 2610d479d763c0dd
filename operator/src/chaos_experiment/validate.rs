//! Step 2: what the user wrote becomes a plan with every default filled in.
//!
//! Pure. In: a spec and the operator's limits. Out: a [`Plan`], or the field that is wrong with the remedy. The API
//! server has checked most of it already; what its rules cannot say (zones, a schedule that never comes) is said here.
//! Whatever passes here is read by the pods too: the bounds of their document are asked as well.

use super::durations::{milliseconds, optional};
use super::faults::{Delivery, Fault};
use super::limits::Limits;
use super::schedule::Schedule;
use crate::runtime::Violation;
use chrono::{DateTime, TimeDelta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use valerix_crds::{ChaosExperimentSpec, ConcurrencyPolicy, KillMethod, Probe, ProbeMode, Safety};
use valerix_policy::{FaultEntry, Faults};

/// Everything that a run needs to know of its spec.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the ResilientService that is hurt.
    pub service: String,
    /// The fault.
    pub fault: Fault,
    /// podKill: how long the pod may take to end, in seconds; none is the pod's own.
    pub grace_period_seconds: Option<i64>,
    /// How long the fault lasts, capped; zero for one that happens once.
    pub duration: Duration,
    /// Whether the operator's cap shortened it.
    pub capped: bool,
    /// podKill: whether pods are deleted rather than evicted.
    pub deletes: bool,
    /// Whether nothing is to be done but to say who would be hurt.
    pub dry_run: bool,
    /// Only pods of this zone.
    pub zone: Option<String>,
    /// Only pods with these labels.
    pub labels: BTreeMap<String, String>,
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

/// Fills in every default.
///
/// # Errors
/// The first field that cannot be acted on.
pub fn validate(spec: &ChaosExperimentSpec, limits: &Limits) -> Result<Plan, Violation> {
    let wanted = optional("spec.duration", spec.duration.as_ref())?.unwrap_or_default();
    let duration = wanted.min(limits.max_duration);
    let fault = Fault::read(spec)?;
    if fault.kind.delivery == Delivery::Obeyed {
        in_bounds(&fault, duration)?;
    }
    let safety = spec.safety.clone().unwrap_or_default();
    let steady_state = spec.steady_state.clone().unwrap_or_default();
    let Safety {
        min_available,
        min_pod_age,
        cooldown,
    } = safety;
    Ok(Plan {
        service: spec.target.service.clone(),
        fault,
        grace_period_seconds: spec.pod_kill.as_ref().and_then(|fault| fault.grace_period_seconds),
        deletes: spec
            .pod_kill
            .as_ref()
            .is_some_and(|fault| fault.method == KillMethod::Delete),
        dry_run: spec.dry_run,
        zone: spec.target.zone.clone(),
        labels: spec.target.pod_selector.clone().unwrap_or_default().match_labels,
        duration,
        capped: duration < wanted,
        count: count(&spec.count)?,
        min_available: min_available.unwrap_or(1),
        min_pod_age: optional("spec.safety.minPodAge", min_pod_age.as_ref())?.unwrap_or(Duration::from_secs(30)),
        cooldown: optional("spec.safety.cooldown", cooldown.as_ref())?
            // A run that replaces another begins right after it: a pause would always skip it.
            .or((spec.concurrency_policy == ConcurrencyPolicy::Replace).then_some(Duration::ZERO)),
        probes: steady_state
            .probes
            .iter()
            .enumerate()
            .map(probe)
            .collect::<Result<_, _>>()?,
        // An absent steadyState has no probe that could fail, so its default here does not matter.
        stop_on_failure: steady_state.stop_on_failure,
        recovery_timeout: optional(
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
pub fn schedule(spec: &ChaosExperimentSpec) -> Result<Option<Schedule>, Violation> {
    spec.schedule
        .as_deref()
        .map(|text| {
            let parsed = Schedule::parse(text, spec.time_zone.as_deref())?.excluding(&spec.excluded_windows)?;
            Ok(match spec.starting_deadline_seconds {
                Some(seconds) => parsed.starting_within(TimeDelta::seconds(seconds.into())),
                None => parsed,
            })
        })
        .transpose()
}

/// Hash of everything in a spec that makes one run differ from another: all but when it is to run.
pub fn spec_hash(spec: &ChaosExperimentSpec) -> String {
    let mut acted_on = serde_json::to_value(spec).unwrap_or_default();
    if let Some(fields) = acted_on.as_object_mut() {
        for when in [
            "desired",
            "schedule",
            "timeZone",
            "suspend",
            "startingDeadlineSeconds",
            "concurrencyPolicy",
            "excludedWindows",
        ] {
            fields.remove(when);
        }
    }
    hex::encode(&Sha256::digest(acted_on.to_string())[..16])
}

/// What the pods' document does not take, as a violation of the spec.
fn in_bounds(fault: &Fault, duration: Duration) -> Result<(), Violation> {
    let entry = FaultEntry {
        run: "run".into(),
        fault: fault.document.clone(),
        pod_uids: Vec::new(),
        duration: milliseconds(duration),
        not_after: DateTime::UNIX_EPOCH,
        intent_at: DateTime::UNIX_EPOCH,
        spared_paths: Vec::new(),
    };
    let document = Faults {
        faults: vec![entry],
        ..Faults::default()
    };
    match document.violations().into_iter().next() {
        None => Ok(()),
        Some(found) => Err(Violation::new(
            found
                .path
                .replace("faults[0].fault.", "spec.")
                .replace("faults[0].", "spec."),
            format!("is {}", found.value),
            found.remedy,
        )),
    }
}

impl Plan {
    /// Enough of a plan to undo a fault whose spec cannot be acted on any more, for example after a downgrade.
    pub fn for_recovery(spec: &ChaosExperimentSpec) -> Self {
        Self {
            service: spec.target.service.clone(),
            fault: Fault::for_recovery(spec),
            grace_period_seconds: None,
            deletes: spec
                .pod_kill
                .as_ref()
                .is_some_and(|fault| fault.method == KillMethod::Delete),
            dry_run: false,
            zone: None,
            labels: BTreeMap::new(),
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

    /// Whether the operator evicts the targets itself.
    pub fn evicts(&self) -> bool {
        self.fault.kind.delivery == Delivery::Evicted
    }
}

fn probe((index, probe): (usize, &Probe)) -> Result<ProbePlan, Violation> {
    let path = |field: &str| format!("spec.steadyState.probes[{index}].{field}");
    if probe.http.is_none() && probe.condition.is_none() {
        return Err(Violation::new(
            path("http"),
            "is missing",
            "set exactly one of http and condition",
        ));
    }
    Ok(ProbePlan {
        probe: probe.clone(),
        continuous: probe.mode != ProbeMode::Edge,
        interval: optional(&path("interval"), probe.interval.as_ref())?
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(200)),
        failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
    })
}

fn count(count: &IntOrString) -> Result<Count, Violation> {
    let (parsed, text) = match count {
        IntOrString::Int(pods) => (
            u32::try_from(*pods).ok().filter(|pods| *pods > 0).map(Count::Pods),
            pods.to_string(),
        ),
        IntOrString::String(text) => (
            text.strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .filter(|percent| (1..=100).contains(percent))
                .map(Count::Percent),
            text.clone(),
        ),
    };
    parsed.ok_or_else(|| {
        Violation::new(
            "spec.count",
            format!("is {text}"),
            "write a number from 1 to 100 or a percentage from 1% to 100%",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{limits, spec};
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in() {
        let plan = validate(
            &spec(json!({"target": {"service": "inventory"}, "podKill": {}})),
            &limits(),
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
        let plan = validate(&spec, &limits()).unwrap();
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
            ("podKill", json!({"method": "Wish"}), "spec.podKill.method"),
            (
                "steadyState",
                json!({"probes": [{"name": "a"}]}),
                "spec.steadyState.probes[0].http",
            ),
        ] {
            let mut wrong = base.clone();
            wrong[field] = value;
            let spec = spec(wrong);
            let error = validate(&spec, &limits())
                .err()
                .or_else(|| schedule(&spec).err())
                .unwrap();
            assert_eq!(error.field, word, "{error}");
        }
    }

    #[test]
    fn what_the_pods_would_not_read_is_refused_by_its_field() {
        for (fault, duration, field) in [
            (
                json!({"errors": {"routes": ["GET /api/inventory?item=ps5"]}}),
                "5s",
                "spec.errors.routes[0]",
            ),
            (
                json!({"latency": {"delay": "1s", "routes": ["GET /", "GET /a#b"]}}),
                "5s",
                "spec.latency.routes[1]",
            ),
            (
                json!({"latency": {"delay": "1s", "routes": ["GET /gr\u{f6}sse"]}}),
                "5s",
                "spec.latency.routes[0]",
            ),
            (json!({"latency": {"delay": "1s"}}), "25h", "spec.duration"),
            (
                json!({"memoryStress": {"size": "65Gi"}}),
                "5s",
                "spec.memoryStress.size",
            ),
            (json!({"crash": {"times": 4}}), "5s", "spec.crash.times"),
            (json!({"cpuStress": {"workers": 65}}), "5s", "spec.cpuStress.workers"),
        ] {
            let mut wrong = json!({"target": {"service": "inventory"}, "duration": duration});
            wrong
                .as_object_mut()
                .unwrap()
                .extend(fault.as_object().unwrap().clone());
            let generous = Limits {
                max_duration: Duration::from_secs(99 * 3_600),
                ..limits()
            };
            let error = validate(&spec(wrong), &generous).unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
    }

    /// Both models of a fault have one set of bounds: the corners of what the schema takes are read by the pods.
    #[test]
    fn what_the_schema_accepts_the_pods_read() {
        let path = (0x21..0x7f_u8)
            .map(char::from)
            .filter(|letter| !"#?*".contains(*letter))
            .collect::<String>();
        let routes: Vec<_> = [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
        ]
        .into_iter()
        .map(|method| format!("{method} /{path}"))
        .chain((0..23).map(|number| format!("GET /{{item}}/{number}{}", "x".repeat(238))))
        .collect();
        assert!(routes.len() == 32 && routes.iter().all(|route| route.len() <= 256));
        for fault in [
            json!({"latency": {"delay": "1ms", "jitter": "1ms", "percent": 1, "routes": routes}}),
            json!({"latency": {"delay": "5m", "jitter": "5m", "percent": 100}}),
            json!({"errors": {"percent": 1, "status": 400, "routes": routes}}),
            json!({"errors": {"percent": 100, "status": 599}}),
            json!({"abort": {"percent": 1, "routes": routes}}),
            json!({"refuse": {}}),
            json!({"partition": {"peer": format!("{}/{}", "n".repeat(63), "s".repeat(53)), "direction": "Egress"}}),
            json!({"crash": {"times": 3}}),
            json!({"cpuStress": {"loadPercent": 1, "workers": 64}}),
            json!({"memoryStress": {"size": "64Gi"}}),
            json!({"memoryStress": {"size": "9999999Ki"}}),
            json!({"memoryStress": {"size": "9999M"}}),
            json!({"memoryStress": {"size": "1"}}),
        ] {
            for duration in ["1s", "99999h"] {
                let mut value = json!({"target": {"service": "inventory"}, "duration": duration});
                value
                    .as_object_mut()
                    .unwrap()
                    .extend(fault.as_object().unwrap().clone());
                let most = Limits {
                    max_duration: Duration::from_secs(24 * 3_600),
                    ..limits()
                };
                validate(&spec(value), &most).unwrap();
            }
        }
    }

    #[test]
    fn only_when_it_runs_makes_no_other_run_of_a_spec() {
        let base = json!({"target": {"service": "inventory"}, "podKill": {}});
        let hash = |field: &str, value: serde_json::Value| {
            let mut changed = base.clone();
            changed[field] = value;
            spec_hash(&spec(changed))
        };
        let same = spec_hash(&spec(base.clone()));
        assert_eq!(hash("desired", json!("Stop")), same);
        assert_eq!(hash("schedule", json!("0 10 * * *")), same);
        assert_eq!(hash("startingDeadlineSeconds", json!(60)), same);
        assert_eq!(hash("concurrencyPolicy", json!("Replace")), same);
        assert_eq!(hash("excludedWindows", json!([{"from": "09:00", "to": "17:00"}])), same);
        assert_ne!(hash("dryRun", json!(true)), same);
        assert_ne!(hash("count", json!(2)), same);
        assert_ne!(hash("podKill", json!({"gracePeriodSeconds": 1})), same);
    }
}
