//! After the fault: it is taken out, read back as gone, the finalizer goes, and the steady state is awaited.
//!
//! Pure. Legal from every state: a target that was never hurt, is gone or has become another pod is recovered.

use super::running::supersedes;
use super::{Action, SOON, Situation, VERY_SOON, has_finalizer};
use crate::chaos_experiment::build::{self, Lock};
use crate::chaos_experiment::faults::pod_kill::Answer;
use crate::chaos_experiment::observed::Removal;
use crate::chaos_experiment::samples::{self, After};
use crate::chaos_experiment::status::{self, decided};
use crate::chaos_experiment::validate::ProbePlan;
use crate::chaos_experiment::verdict::{Ending, Reason, judge, judge_during};
use crate::runtime::conditions::is_true;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use valerix_crds::names::FORCE_FINALIZE_ANNOTATION;
use valerix_crds::names::condition::RECOVERED;
use valerix_crds::{FaultType, TargetState, TargetStatus};
use valerix_policy::FaultState;

/// The one thing to do next after the fault.
pub(super) fn decide(situation: &Situation<'_>) -> Action {
    let Situation {
        experiment,
        status,
        plan,
        observed,
        ..
    } = situation;
    if build::lock(observed.faults(), &situation.name) == Lock::Ours {
        return Action::PutFaults(build::released(&situation.name.text()));
    }
    if !is_true(&status.conditions, RECOVERED) {
        return read_back(situation);
    }
    if has_finalizer(experiment) {
        return Action::RemoveFinalizer;
    }
    if situation.deleting() {
        return Action::Rest { until: None };
    }
    let decided = decided(status);
    let judged = decided.as_ref().is_some_and(|ending| {
        !matches!(
            ending.reason,
            Reason::SteadyStateDeviated | Reason::ObservationGap | Reason::ProbeError
        )
    });
    if let (true, Some(ending)) = (judged, &decided) {
        return situation.finish(status, ending, None);
    }
    if decided.is_none()
        && let Some(stop) = situation.stop()
    {
        return situation.finish(status, &stop, None);
    }
    let Some(ended_at) = status.fault_ended_at else {
        return Action::Write(Box::new(situation.pen().recovered(status, false)));
    };
    if plan.probes.is_empty() && plan.fault_type != FaultType::PodKill {
        // Nothing tells when the system was itself again, so nothing is claimed.
        let ending = judge(decided, false, &After::Met(ended_at), "");
        return situation.finish(status, &ending, None);
    }
    steady(situation, decided, ended_at)
}

fn read_back(situation: &Situation<'_>) -> Action {
    let Situation {
        experiment,
        status,
        observed,
        ..
    } = situation;
    let pen = situation.pen();
    let mut targets = status.targets.clone();
    let mut awaited = Vec::new();
    let live = observed.faults().map(|text| valerix_policy::hash(text.as_bytes()));
    for target in &mut targets {
        if !is_recovered(situation, target, live.as_deref()) {
            awaited.push(target.pod.clone());
        }
    }
    if targets != status.targets {
        return Action::Write(Box::new(pen.targets(status, targets)));
    }
    let forced = experiment
        .annotations()
        .get(FORCE_FINALIZE_ANNOTATION)
        .is_some_and(|value| value == "true");
    if awaited.is_empty() || forced {
        return Action::Write(Box::new(pen.recovered(status, !awaited.is_empty())));
    }
    let names: Vec<_> = awaited.iter().map(String::as_str).collect();
    situation.write_or(pen.awaiting(status, &names), Action::Look(VERY_SOON))
}

/// Whether the fault is over in this pod by evidence; says so in `target`.
fn is_recovered(situation: &Situation<'_>, target: &mut TargetStatus, live: Option<&str>) -> bool {
    let observed = situation.observed;
    if matches!(
        target.state,
        TargetState::Recovered | TargetState::Gone | TargetState::Refused
    ) {
        return true;
    }
    let pod = observed.pod(&target.uid);
    if situation.plan.fault_type == FaultType::PodKill {
        // An eviction cannot be taken back. What is not known yet is read off the pod once more.
        if target.state == TargetState::Injecting
            && (matches!(observed.answers.get(&target.uid), Some(Answer::Accepted(_)))
                || pod.is_none_or(|pod| matches!(pod.removal, Removal::Evicted(_))))
        {
            target.state = TargetState::Active;
        }
        return true;
    }
    let report = observed.reports.get(&target.uid);
    let said = report.and_then(|report| report.fault.as_ref().map(|(state, _)| *state));
    match said {
        Some(FaultState::Ended | FaultState::Refused) => {
            if target.state != TargetState::Intended {
                target.state = TargetState::Recovered;
            }
            true
        }
        _ if pod.is_none() => {
            target.state = TargetState::Gone;
            target.message = Some("the pod is gone, and the fault with it".into());
            true
        }
        Some(FaultState::Active) => false,
        // It has read the document as it stands now, and there is no such fault in it.
        None => report.is_some_and(|report| {
            report.faults_hash.as_deref() == live || (live.is_none() && report.faults_hash.is_none())
        }),
    }
}

fn steady(situation: &Situation<'_>, decided: Option<Ending>, ended_at: DateTime<Utc>) -> Action {
    let Situation {
        status, plan, observed, ..
    } = situation;
    let pen = situation.pen();
    let back = pods_are_back(situation);
    let mut after = After::Met(ended_at);
    if !plan.probes.is_empty() {
        let Some(samples) = &observed.samples else {
            return Action::StartProbes;
        };
        if let Some(recorded) = status::probes(status, samples, observed.now) {
            return Action::Write(Box::new(recorded));
        }
        // A killed pod is missed until its successor is ready: until then the fault is on, as far as its effect goes.
        if plan.fault_type == FaultType::PodKill && !back {
            let during = samples::during(&plan.probes, samples, ended_at, None);
            if let Some(ending) = judge_during(&during).filter(|ending| supersedes(status, ending)) {
                return Action::Write(Box::new(pen.decide(status, &ending)));
            }
        }
        after = samples::after(&plan.probes, samples, ended_at);
    }
    let timeout = TimeDelta::from_std(plan.recovery_timeout).unwrap_or(TimeDelta::MAX);
    let in_words = format!("{:?}", plan.recovery_timeout);
    let late = observed.now >= ended_at + timeout;
    let ready_at = if plan.fault_type == FaultType::PodKill {
        observed.now
    } else {
        ended_at
    };
    match (&after, back) {
        (After::Met(since), true) if !late || *since <= ended_at + timeout => {
            if let Some(gap) = unwatched(situation, ended_at).filter(|_| decided.is_none()) {
                return situation.finish(status, &gap, None);
            }
            let steady_at = (*since).max(ready_at);
            situation.finish(
                status,
                &judge(decided, !plan.probes.is_empty(), &after, &in_words),
                Some(steady_at),
            )
        }
        _ if !late => Action::Look(VERY_SOON),
        (After::Met(_), _) if back => {
            let message = "the steady state came back, but nobody saw when".to_owned();
            let after = After::NotYet {
                message,
                not_asked: false,
                watched: false,
            };
            situation.finish(status, &judge(decided, true, &after, &in_words), None)
        }
        (After::Met(_), _) => {
            let message = format!("{} of {} pods are ready", ready(situation), wanted(situation));
            let after = After::NotYet {
                message,
                not_asked: false,
                watched: true,
            };
            situation.finish(status, &judge(decided, true, &after, &in_words), None)
        }
        (After::NotYet { watched: false, .. }, _) if observed.now < ended_at + timeout + grace(situation) => {
            Action::Look(SOON)
        }
        _ => situation.finish(status, &judge(decided, true, &after, &in_words), None),
    }
}

/// A process that takes over after the time is up asks once before it says that nobody watched.
fn grace(situation: &Situation<'_>) -> TimeDelta {
    let slowest = situation
        .plan
        .probes
        .iter()
        .map(ProbePlan::tolerated_gap)
        .max()
        .unwrap_or_default();
    TimeDelta::from_std(slowest).unwrap_or_default()
}

/// For a killed pod the time until its successor is ready must have been watched, or a deviation may have been missed.
fn unwatched(situation: &Situation<'_>, ended_at: DateTime<Utc>) -> Option<Ending> {
    let Situation { plan, observed, .. } = situation;
    let samples = observed.samples.as_ref()?;
    if plan.fault_type != FaultType::PodKill || samples::watched(&plan.probes, samples, ended_at) {
        return None;
    }
    Some(Ending::new(
        Reason::ObservationGap,
        "nobody watched all the time from the eviction until the pods were back, so there is no verdict",
    ))
}

fn pods_are_back(situation: &Situation<'_>) -> bool {
    situation.plan.fault_type != FaultType::PodKill || ready(situation) >= wanted(situation)
}

fn ready(situation: &Situation<'_>) -> usize {
    let victims = &situation.status.targets;
    let observed = situation.observed;
    let is_victim = |uid: &str| {
        victims
            .iter()
            .any(|target| target.uid == uid && matches!(target.state, TargetState::Active | TargetState::Recovered))
    };
    observed.serving(is_victim).count()
}

/// As many as before, unless somebody wants fewer by now.
fn wanted(situation: &Situation<'_>) -> usize {
    let before = situation.status.ready_before.unwrap_or_default();
    situation
        .observed
        .workload
        .map_or(before, |workload| before.min(workload.desired)) as usize
}
