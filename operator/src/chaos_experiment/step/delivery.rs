//! A fault that pods obey: written into their document, reported by them, and watched until it is over.
//!
//! Pure. What counts is what the pods say of this run: that the fault is on, since when, and how it ended.

use super::action::{Action, SOON, VERY_SOON};
use super::gates;
use super::situation::Situation;
use super::target::{busy, consent_withdrawn, in_time, lock_target, not_delivered, supersedes};
use crate::chaos_experiment::entry::{self, Lock};
use crate::chaos_experiment::observed::{FaultView, PodView, Removal};
use crate::chaos_experiment::probes::samples::{self, Window};
use crate::chaos_experiment::report::status;
use crate::chaos_experiment::report::verdict::{Ending, Reason, judge_during};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use valerix_crds::{RefusedBy, TargetState, TargetStatus};
use valerix_policy::{FaultEntry, FaultState};

/// How long after a fault's own end a pod may take to say so before the clock is believed instead.
pub(super) const END_REPORT: TimeDelta = TimeDelta::seconds(2);
/// How much before its time a fault may end by a pod's own clock.
const EARLY: TimeDelta = TimeDelta::seconds(2);

/// The one thing to do next until the fault is over.
pub(super) fn decide(situation: &Situation<'_>) -> Action {
    let Situation {
        status,
        plan,
        limits,
        observed,
        ..
    } = situation;
    let untouched = situation.untouched();
    let entry = match entry::lock(observed.faults(), &situation.name) {
        Lock::Ours(entry) => entry,
        Lock::Other(other) if untouched => return situation.give_up(&busy(&other)),
        Lock::Free | Lock::Unreadable if untouched => {
            let allowed = gates::at_fire(plan, limits, &situation.attempt(), observed, &status.targets);
            if let Some(ending) = allowed.err().or_else(|| situation.excluded()) {
                return situation.give_up(&ending);
            }
            return if in_time(situation) {
                lock_target(situation)
            } else {
                not_delivered(situation, "the fault could not be written")
            };
        }
        _ => {
            let message = format!(
                "somebody removed the fault from ConfigMap {}-policy before its end",
                plan.service
            );
            return situation.give_up(&Ending::new(Reason::FaultRemoved, message));
        }
    };
    if let Some(ending) = consent_withdrawn(situation) {
        return situation.give_up(&ending);
    }
    let targets = read_targets(situation, &entry);
    if targets != status.targets {
        return Action::Write(Box::new(situation.editor().targets(status, targets)));
    }
    if let Some(ending) = failure(&targets) {
        return situation.give_up(&ending);
    }
    // What the pods were told, whatever this process would allow by now.
    let duration = TimeDelta::from_std(entry.duration.get()).unwrap_or_default();
    let Some(injected_at) = status.injected_at else {
        if targets.iter().all(|target| target.active_at.is_some()) {
            let at = targets.iter().filter_map(|target| target.active_at).max();
            return Action::Write(Box::new(situation.editor().injected(
                status,
                plan,
                at.unwrap_or(observed.now),
            )));
        }
        // A process that is ended several times is started again more slowly each time.
        let awaited = if plan.fault.kind.ends_the_process {
            observed.now < entry.not_after
        } else {
            in_time(situation)
        };
        if !awaited {
            let silent: Vec<_> = targets
                .iter()
                .filter(|target| target.active_at.is_none())
                .map(|target| target.pod.as_str())
                .collect();
            return not_delivered(situation, &format!("{} did not report the fault", silent.join(", ")));
        }
        // Whoever is hurt already is judged already.
        return judge(situation, None).unwrap_or(Action::Look(SOON));
    };
    // Every pod runs its own clock for the duration, from before it reported: by then it is over in each of them.
    let over = injected_at + duration;
    let all_ended = targets.iter().all(|target| target.state == TargetState::Recovered);
    let ended_at = if plan.fault.kind.ends_the_process {
        Some(injected_at)
    } else if all_ended {
        Some(last_end(situation).map_or(over, |at| at.min(over)).max(injected_at))
    } else {
        (observed.now >= over + END_REPORT).then_some(over)
    };
    if let Some(action) = judge(situation, ended_at) {
        return action;
    }
    match ended_at {
        // How it ended where nobody has said so yet, and whether any request met it, is asked before the fault is taken out.
        Some(at) => Action::Write(Box::new(situation.editor().recovering(status, Some(at)))),
        None => {
            let left = (over - observed.now).to_std().unwrap_or_default();
            Action::Look(if left < SOON { VERY_SOON } else { SOON })
        }
    }
}

pub(super) fn report_of<'a>(situation: &'a Situation<'_>, uid: &str) -> Option<(DateTime<Utc>, &'a FaultView)> {
    let report = situation.observed.reports.get(uid)?;
    Some((report.received_at, report.fault.as_ref()?))
}

/// What the pods say of the fault, and what is recorded of them.
fn read_targets(situation: &Situation<'_>, entry: &FaultEntry) -> Vec<TargetStatus> {
    let duration = TimeDelta::from_std(entry.duration.get()).unwrap_or_default();
    let mut targets = situation.status.targets.clone();
    for target in &mut targets {
        if matches!(
            target.state,
            TargetState::Recovered | TargetState::Gone | TargetState::Refused
        ) {
            continue;
        }
        let said = report_of(situation, &target.uid);
        let pod = situation.observed.pod(&target.uid);
        match said {
            Some((_, fault)) if situation.plan.fault.kind.ends_the_process && fault.state == FaultState::Ended => {
                process_ended(target, pod, fault, entry);
            }
            Some((at, fault)) if fault.state == FaultState::Ended => ended(target, at, fault, duration),
            _ if pod.is_none_or(|pod| pod.removal != Removal::None) => {
                lost(target, "the pod was removed before the fault's end");
            }
            Some((_, fault)) if fault.state == FaultState::Refused => {
                target.state = TargetState::Refused;
                target.refused_by = Some(RefusedBy::Pod);
                target.message.clone_from(&fault.reason);
            }
            Some((at, fault)) => {
                target.state = TargetState::Active;
                target.active_at.get_or_insert_with(|| began(at, fault, entry));
            }
            None if target.state == TargetState::Active => {}
            None => target.state = TargetState::Injecting,
        }
    }
    targets
}

/// When a fault that is on began, by what it has left: the report may have come late.
fn began(received_at: DateTime<Utc>, fault: &FaultView, entry: &FaultEntry) -> DateTime<Utc> {
    let gone = fault.remaining.map_or(TimeDelta::zero(), |left| {
        TimeDelta::from_std(entry.duration.get().saturating_sub(left)).unwrap_or_default()
    });
    (received_at - gone).max(entry.intent_at).trunc_subsecs(3)
}

fn ended(target: &mut TargetStatus, at: DateTime<Utc>, fault: &FaultView, duration: TimeDelta) {
    if let Some(why) = &fault.reason {
        return lost(target, &format!("the fault ended early: {why}"));
    }
    match target.active_at {
        Some(active_at) if at < active_at + duration - EARLY => {
            let missing = (active_at + duration - at).as_seconds_f64();
            lost(target, &format!("the fault ended {missing:.1}s early"));
        }
        _ => target.state = TargetState::Recovered,
    }
}

/// The process says that it was ended as often as asked. That it was is seen when the pod's status says so too: only then
/// does the pod's readiness speak of the process that came after.
fn process_ended(target: &mut TargetStatus, pod: Option<&PodView>, fault: &FaultView, entry: &FaultEntry) {
    if let Some(why) = &fault.reason {
        return lost(target, &format!("the process was not ended by the fault: {why}"));
    }
    let Some(pod) = pod else {
        return lost(target, "the pod was removed before the fault's end");
    };
    // Kubernetes cuts its times to the second.
    let ended_at = pod
        .process_ended_at
        .filter(|at| *at + TimeDelta::seconds(1) > entry.intent_at);
    match ended_at {
        Some(at) => {
            target.state = TargetState::Recovered;
            target.active_at = Some(at.max(entry.intent_at));
        }
        None => target.state = TargetState::Injecting,
    }
}

pub(super) fn lost(target: &mut TargetStatus, why: &str) {
    target.state = TargetState::Gone;
    target.message = Some(why.to_owned());
}

/// Why the fault is not, or not any more, in every target as it was asked for.
pub(super) fn failure(targets: &[TargetStatus]) -> Option<Ending> {
    let of = |state| targets.iter().find(|target| target.state == state);
    let why = |target: &TargetStatus| target.message.clone().unwrap_or_else(|| "without a reason".into());
    if let Some(gone) = of(TargetState::Gone) {
        let message = format!("pod {} was lost before the fault's end: {}", gone.pod, why(gone));
        return Some(Ending::new(Reason::TargetsLost, message));
    }
    if let Some(refused) = of(TargetState::Refused) {
        let message = format!("pod {} refused the fault: {}", refused.pod, why(refused));
        return Some(Ending::new(Reason::InjectionFailed, message));
    }
    let unseen = targets
        .iter()
        .find(|target| target.state == TargetState::Recovered && target.active_at.is_none())?;
    Some(Ending::new(
        Reason::ObservationGap,
        format!(
            "the fault was over in pod {} before anybody saw it on, so there is no verdict",
            unseen.pod
        ),
    ))
}

/// When the last pod said that its fault is over.
fn last_end(situation: &Situation<'_>) -> Option<DateTime<Utc>> {
    let targets = situation.status.targets.iter();
    targets
        .filter_map(|target| report_of(situation, &target.uid))
        .filter(|(_, fault)| fault.state == FaultState::Ended)
        .map(|(at, _)| at)
        .max()
}

/// What the probes say of the time since the first pod was hurt, if it must be written.
pub(super) fn judge(situation: &Situation<'_>, ended_at: Option<DateTime<Utc>>) -> Option<Action> {
    let Situation {
        status, plan, observed, ..
    } = situation;
    let from = situation.first_active().filter(|_| !plan.probes.is_empty())?;
    let Some(samples) = &observed.samples else {
        return Some(Action::StartProbes);
    };
    if let Some(recorded) = status::probes(status, samples, observed.now) {
        return Some(Action::Write(Box::new(recorded)));
    }
    let window = Window {
        from,
        // A process that was ended is missed until the one after it is ready, which is judged then.
        until: ended_at.filter(|_| !plan.fault.kind.ends_the_process),
        now: observed.now,
    };
    let during = samples::during(&plan.probes, samples, window);
    let ending = judge_during(&during).filter(|ending| supersedes(status, ending))?;
    if plan.stop_on_failure && ending.reason == Reason::SteadyStateDeviated {
        return Some(situation.give_up_at(&ending, ended_at));
    }
    Some(Action::Write(Box::new(situation.editor().decide(status, &ending))))
}
