//! Step 2: what the user wrote becomes a plan with every default filled in.
//!
//! Pure. In: a spec and the operator's limits. Out: a [`Plan`], or the field that is wrong with the remedy. The API
//! server has checked most of it already; what its rules cannot say (zones, a schedule that never comes) is said here.
//! Whatever passes here is read by the pods too: the bounds of their document are asked as well.

use super::durations::{milliseconds, optional};
use super::faults::{Delivery, Fault};
use super::limits::Limits;
use super::probes::plan::ProbePlan;
use super::schedule::Schedule;
use crate::allowed_url::AllowedUrl;
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
    let lasts = (!fault.kind.ends_the_process).then_some(duration);
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
            .map(|(index, written)| probe(index, written, lasts, limits))
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
            "after",
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

    /// What a message says of a duration that the operator's cap shortened.
    pub fn cut(&self) -> String {
        if self.capped {
            format!(
                "; spec.duration is cut to {:?}, the operator's chaos.maxDuration",
                self.duration
            )
        } else {
            String::new()
        }
    }

    /// Whether the operator evicts the targets itself.
    pub fn evicts(&self) -> bool {
        self.fault.kind.delivery == Delivery::Evicted
    }
}

/// One probe with its defaults; `lasts` is how long the fault is on, none for one that is over at once.
fn probe(index: usize, probe: &Probe, lasts: Option<Duration>, limits: &Limits) -> Result<ProbePlan, Violation> {
    let path = |field: &str| format!("spec.steadyState.probes[{index}].{field}");
    let asks = [
        probe.http.is_some(),
        probe.grpc.is_some(),
        probe.condition.is_some(),
        probe.prometheus.is_some(),
    ];
    if !asks.contains(&true) {
        return Err(Violation::new(
            path("http"),
            "is missing",
            "set exactly one of http, grpc, condition and prometheus",
        ));
    }
    if probe.mode == ProbeMode::OnFault && lasts.is_none() {
        return Err(Violation::new(
            path("mode"),
            "is OnFault, which needs a fault that lasts, and podKill and crash are over at once",
            "use Continuous",
        ));
    }
    if let Some(url) = probe.prometheus.as_ref().and_then(|question| question.url.as_deref()) {
        allowed(url, limits).map_err(|(message, remedy)| Violation::new(path("prometheus.url"), message, remedy))?;
    }
    let interval = optional(&path("interval"), probe.interval.as_ref())?;
    if let (Some(interval), Some(lasts)) = (interval, lasts)
        && probe.mode != ProbeMode::Edge
        && interval > lasts
    {
        return Err(Violation::new(
            path("interval"),
            format!("is {interval:?}, and the fault is over after {lasts:?}, so nobody would be asked while it is on"),
            "shorten it, lengthen spec.duration, or set the probe's mode to Edge",
        ));
    }
    Ok(ProbePlan {
        probe: probe.clone(),
        mode: probe.mode,
        interval: interval
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(200)),
        failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
        percentile: percentile(probe, path("http.expect.latencyPercentile"))?,
        fault_lasts: lasts.is_some(),
    })
}

/// How quick a share of the answers must be, where that is asked for; `field` is its path.
fn percentile(probe: &Probe, field: String) -> Result<Option<(u32, Duration)>, Violation> {
    let expected = probe.http.as_ref().and_then(|question| question.expect.as_ref());
    let Some(wanted) = expected.and_then(|expected| expected.latency_percentile.as_ref()) else {
        return Ok(None);
    };
    if probe.mode == ProbeMode::Edge {
        return Err(Violation::new(
            field,
            "judges the time of the fault, in which mode Edge does not ask",
            "use mode Continuous or OnFault",
        ));
    }
    let max = optional(&format!("{field}.max"), Some(&wanted.max))?.unwrap_or_default();
    Ok(Some((wanted.percent.clamp(1, 100), max)))
}

/// Whether a probe may ask an address outside of its own namespace; else what is wrong, and the remedy.
fn allowed(url: &str, limits: &Limits) -> Result<(), (String, String)> {
    let asked = AllowedUrl::parse(url).map_err(|why| (format!("cannot be asked: {why}"), "correct it".to_owned()))?;
    if limits.probe_urls.iter().any(|own| own.covers(&asked)) {
        return Ok(());
    }
    Err((
        format!("is {url}, and the operator may not ask there"),
        "add it to the chart's value chaos.probeUrls, or set prometheus.service to a Service of this namespace"
            .to_owned(),
    ))
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
mod tests;
