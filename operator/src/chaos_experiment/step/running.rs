//! The fault: taken, delivered, watched, until it is over or must be.
//!
//! Pure.

use super::{Action, SOON, Situation, VERY_SOON};
use crate::chaos_experiment::build::{self, DELIVERY, Lock};
use crate::chaos_experiment::faults::pod_kill::Answer;
use crate::chaos_experiment::observed::Removal;
use crate::chaos_experiment::samples;
use crate::chaos_experiment::status;
use crate::chaos_experiment::verdict::{Ending, Reason, judge_during};
use chrono::{DateTime, TimeDelta, Utc};
use valerix_crds::{ChaosExperimentStatus, FaultType, TargetState, TargetStatus};
use valerix_policy::FaultState;

/// How long after a fault's own end a pod may take to say so before the clock is believed instead.
const END_REPORT: TimeDelta = TimeDelta::seconds(2);

/// The one thing to do next while the fault is on.
pub(super) fn decide(situation: &Situation<'_>) -> Action {
    if let Some(stop) = situation.stop() {
        return match status::decided(situation.status) {
            // A deviation that was seen before somebody stopped the run was seen all the same.
            Some(_) => Action::Write(Box::new(situation.pen().recovering(situation.status, None))),
            None => situation.give_up(&stop),
        };
    }
    if situation.plan.fault_type == FaultType::PodKill {
        evict(situation)
    } else {
        deliver(situation)
    }
}

fn deadline(status: &ChaosExperimentStatus) -> Option<DateTime<Utc>> {
    status.intent_at.map(|intent| intent + DELIVERY)
}

/// Whether something can be done for the first time: never so late that a slow cluster is hurt twice as long.
fn in_time(situation: &Situation<'_>) -> bool {
    deadline(situation.status).is_some_and(|deadline| situation.now() < deadline)
}

/// Consent is asked again at the moment of firing; nothing has been done yet.
fn consent_withdrawn(situation: &Situation<'_>) -> Option<Ending> {
    let service = situation.observed.service.as_ref();
    if service.is_some_and(|service| service.admitted && !service.paused) {
        return None;
    }
    Some(Ending::new(
        Reason::NotAdmitted,
        format!(
            "ResilientService {} withdrew its consent before the fault began",
            situation.plan.service
        ),
    ))
}

fn put(situation: &Situation<'_>) -> Action {
    let Some(intent_at) = situation.status.intent_at else {
        return situation.give_up(&Ending::new(
            Reason::InjectionFailed,
            "the intent's time is missing from status",
        ));
    };
    if situation.observed.document.is_none() {
        let message = format!("ConfigMap {}-policy is gone", situation.plan.service);
        return situation.give_up(&Ending::new(Reason::InjectionFailed, message));
    }
    let uids = situation
        .status
        .targets
        .iter()
        .map(|target| target.uid.clone())
        .collect();
    Action::PutFaults(build::taken(situation.plan, &situation.name, uids, intent_at))
}

fn busy(other: &str) -> Ending {
    Ending::new(
        Reason::TargetBusy,
        format!(
            "experiment {} took the target first; wait until it has ended",
            build::experiment_of(other)
        ),
    )
}

fn not_delivered(situation: &Situation<'_>, what: &str) -> Action {
    situation.give_up(&Ending::new(
        Reason::NotDelivered,
        format!("{what} within {}s; everything was undone", DELIVERY.num_seconds()),
    ))
}

// --- podKill -------------------------------------------------------------------------------------------------------

fn evict(situation: &Situation<'_>) -> Action {
    let Situation { status, observed, .. } = situation;
    let untouched = status
        .targets
        .iter()
        .all(|target| target.state == TargetState::Intended);
    if untouched {
        if let Some(ending) = consent_withdrawn(situation) {
            return situation.give_up(&ending);
        }
        match build::lock(observed.faults(), &situation.name) {
            Lock::Other(other) => return situation.give_up(&busy(&other)),
            Lock::Free | Lock::Unreadable if in_time(situation) => return put(situation),
            Lock::Free | Lock::Unreadable => return not_delivered(situation, "the target could not be locked"),
            Lock::Ours => {}
        }
    }
    let mut targets = status.targets.clone();
    for index in 0..targets.len() {
        let target = &mut targets[index];
        match target.state {
            TargetState::Intended => {
                (target.state, target.message) = match observed.pod(&target.uid).map(|pod| pod.removal) {
                    Some(Removal::None) if in_time(situation) => (TargetState::Injecting, None),
                    Some(Removal::None) => return not_delivered(situation, "no eviction was sent"),
                    _ => (TargetState::Gone, Some("it was gone before it could be evicted".into())),
                };
                return Action::Write(Box::new(situation.pen().targets(status, targets)));
            }
            TargetState::Injecting => return settle(situation, index),
            _ => {}
        }
    }
    conclude(situation)
}

/// An eviction that was marked as begun: sent now, answered, or to be read off the pod.
fn settle(situation: &Situation<'_>, index: usize) -> Action {
    let Situation { status, observed, .. } = situation;
    let mut targets = status.targets.clone();
    let target = &mut targets[index];
    let answer = observed.answers.get(&target.uid);
    let removal = observed.pod(&target.uid).map(|pod| pod.removal);
    let (state, message, at) = match (answer, removal) {
        (Some(Answer::Accepted(at)), _) => (TargetState::Active, None, Some(*at)),
        (Some(Answer::NotNow(why)), _) => (TargetState::Refused, Some(format!("{BUDGET}: {why}")), None),
        (Some(Answer::Refused(why)), _) => (TargetState::Refused, Some(why.clone()), None),
        (Some(Answer::Gone), _) => (
            TargetState::Gone,
            Some("it was gone when the eviction came".into()),
            None,
        ),
        // No answer that we know of, from this process or from one before it: the pod tells.
        (_, Some(Removal::Evicted(at))) => (TargetState::Active, None, Some(at)),
        (_, Some(Removal::Deleted)) => (TargetState::Gone, Some("it was deleted by somebody else".into()), None),
        (_, None) => (
            TargetState::Active,
            Some("it is gone; the answer to its eviction was not seen".into()),
            Some(observed.now),
        ),
        // It lives. With its UID as a precondition a second request can't kill another pod, so a process that doesn't
        // know of a first one sends it; one that does waits for what the first does.
        (None, Some(Removal::None)) if in_time(situation) => {
            return Action::Evict {
                pod: target.pod.clone(),
                uid: target.uid.clone(),
            };
        }
        (Some(Answer::Unclear(_)), Some(Removal::None)) if in_time(situation) => return Action::Look(SOON),
        (_, Some(Removal::None)) => {
            return not_delivered(situation, "the eviction was not answered and the pod still runs");
        }
    };
    (target.state, target.message) = (state, message);
    let mut next = situation.pen().targets(status, targets);
    if let Some(at) = at {
        let at = at.max(status.intent_at.unwrap_or(at));
        next.injected_at = Some(next.injected_at.map_or(at, |before| before.max(at)));
    }
    Action::Write(Box::new(next))
}

/// How a refusal by a disruption budget begins in a target's message.
const BUDGET: &str = "not now";

/// Every victim is settled: the fault is over the moment the last eviction was accepted.
fn conclude(situation: &Situation<'_>) -> Action {
    let Situation { status, .. } = situation;
    let targets = &status.targets;
    let pen = situation.pen();
    let of = |state| {
        targets
            .iter()
            .filter(move |target: &&TargetStatus| target.state == state)
    };
    let first_message = |state| of(state).find_map(|target| target.message.clone()).unwrap_or_default();
    if let Some(gone) = of(TargetState::Gone).next() {
        let message = format!(
            "pod {} was lost before it could be evicted; no other was taken instead",
            gone.pod
        );
        return give_up_after(situation, &Ending::new(Reason::TargetsLost, message));
    }
    let Some(at) = status.injected_at.filter(|_| of(TargetState::Active).next().is_some()) else {
        let message = first_message(TargetState::Refused);
        let reason = if message.starts_with(BUDGET) {
            Reason::DisruptionBudget
        } else {
            Reason::InjectionFailed
        };
        let hint = if reason == Reason::DisruptionBudget {
            "no pod was evicted, "
        } else {
            "the API server refused: "
        };
        return situation.give_up(&Ending::new(reason, format!("{hint}{message}")));
    };
    Action::Write(Box::new(pen.recovering(&pen.injected(status, at), Some(at))))
}

/// Some victims may be gone by our hand: the moment is kept, the verdict is known.
fn give_up_after(situation: &Situation<'_>, ending: &Ending) -> Action {
    let pen = situation.pen();
    let decided = pen.decide(situation.status, ending);
    Action::Write(Box::new(pen.recovering(&decided, situation.status.injected_at)))
}

// --- faults that pods obey -----------------------------------------------------------------------------------------

fn deliver(situation: &Situation<'_>) -> Action {
    let Situation { status, observed, .. } = situation;
    let untouched = status
        .targets
        .iter()
        .all(|target| target.state == TargetState::Intended);
    match build::lock(observed.faults(), &situation.name) {
        Lock::Other(other) if untouched => return situation.give_up(&busy(&other)),
        Lock::Free | Lock::Unreadable if untouched => {
            if let Some(ending) = consent_withdrawn(situation) {
                return situation.give_up(&ending);
            }
            return if in_time(situation) {
                put(situation)
            } else {
                not_delivered(situation, "the fault could not be written")
            };
        }
        Lock::Ours => {}
        _ => {
            let message = format!(
                "somebody removed the fault from ConfigMap {}-policy before its end",
                situation.plan.service
            );
            return situation.give_up(&Ending::new(Reason::FaultRemoved, message));
        }
    }
    let (targets, last_active, last_ended) = read_targets(situation);
    if targets != status.targets {
        return Action::Write(Box::new(situation.pen().targets(status, targets)));
    }
    if let Some(lost) = targets.iter().find(|target| target.state == TargetState::Gone) {
        let message = format!("pod {} was lost before the fault's end", lost.pod);
        return situation.give_up(&Ending::new(Reason::TargetsLost, message));
    }
    if let Some(refused) = targets.iter().find(|target| target.state == TargetState::Refused) {
        let why = refused.message.as_deref().unwrap_or("without a reason");
        let message = format!("pod {} refused the fault: {why}", refused.pod);
        return situation.give_up(&Ending::new(Reason::InjectionFailed, message));
    }
    let Some(injected_at) = status.injected_at else {
        if targets
            .iter()
            .all(|target| matches!(target.state, TargetState::Active | TargetState::Recovered))
        {
            let at = last_active.or(last_ended).unwrap_or(observed.now);
            return Action::Write(Box::new(situation.pen().injected(status, at)));
        }
        if in_time(situation) {
            return Action::Look(SOON);
        }
        let silent: Vec<_> = targets
            .iter()
            .filter(|target| target.state == TargetState::Injecting)
            .map(|target| target.pod.as_str())
            .collect();
        return not_delivered(situation, &format!("{} did not report the fault", silent.join(", ")));
    };
    watch(situation, injected_at, last_ended)
}

/// What the pods say of the fault; when the last one reported it as active, and as ended.
fn read_targets(situation: &Situation<'_>) -> (Vec<TargetStatus>, Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let observed = situation.observed;
    let (mut last_active, mut last_ended) = (None, None);
    let mut targets = situation.status.targets.clone();
    for target in &mut targets {
        let report = observed.reports.get(&target.uid);
        let fault = report.and_then(|report| report.fault.as_ref().map(|fault| (report.received_at, fault)));
        match fault {
            Some((at, (FaultState::Active, _))) => last_active = last_active.max(Some(at)),
            Some((at, (FaultState::Ended, _))) => last_ended = last_ended.max(Some(at)),
            _ => {}
        }
        let lost = observed.pod(&target.uid).is_none_or(|pod| pod.removal != Removal::None);
        (target.state, target.message) = match (target.state, fault) {
            (state @ (TargetState::Recovered | TargetState::Gone | TargetState::Refused), _) => {
                (state, target.message.take())
            }
            (_, Some((_, (FaultState::Ended, _)))) => (TargetState::Recovered, None),
            _ if lost => (
                TargetState::Gone,
                Some("the pod was removed before the fault's end".into()),
            ),
            (_, Some((_, (FaultState::Refused, why)))) => (TargetState::Refused, why.clone()),
            (_, Some((_, (FaultState::Active, _)))) | (TargetState::Active, None) => (TargetState::Active, None),
            (_, None) => (TargetState::Injecting, None),
        };
    }
    (targets, last_active, last_ended)
}

fn watch(situation: &Situation<'_>, injected_at: DateTime<Utc>, last_ended: Option<DateTime<Utc>>) -> Action {
    let Situation {
        status, plan, observed, ..
    } = situation;
    let pen = situation.pen();
    // Every pod runs its own clock for the duration, from before it reported: by then it is over in each of them.
    let over = injected_at + TimeDelta::from_std(plan.duration).unwrap_or_default();
    let all_ended = status
        .targets
        .iter()
        .all(|target| target.state == TargetState::Recovered);
    let ended_at = if all_ended {
        Some(last_ended.map_or(over, |at| at.min(over)).max(injected_at))
    } else {
        (observed.now >= over + END_REPORT).then_some(over)
    };
    if !plan.probes.is_empty() {
        let Some(samples) = &observed.samples else {
            return Action::StartProbes;
        };
        if let Some(recorded) = status::probes(status, samples, observed.now) {
            return Action::Write(Box::new(recorded));
        }
        let during = samples::during(&plan.probes, samples, injected_at, ended_at);
        if let Some(ending) = judge_during(&during).filter(|ending| supersedes(status, ending)) {
            let decided = pen.decide(status, &ending);
            let stop = plan.stop_on_failure && ending.reason == Reason::SteadyStateDeviated;
            return Action::Write(Box::new(if stop {
                pen.recovering(&decided, ended_at)
            } else {
                decided
            }));
        }
    }
    match ended_at {
        Some(at) => Action::Write(Box::new(pen.recovering(status, Some(at)))),
        None => {
            let left = (over - observed.now).to_std().unwrap_or_default();
            Action::Look(if left < SOON { VERY_SOON } else { SOON })
        }
    }
}

/// Whether `ending` says more than what was decided so far: a deviation that was seen outweighs a time that was not.
pub(super) fn supersedes(status: &ChaosExperimentStatus, ending: &Ending) -> bool {
    match status::decided(status) {
        None => true,
        Some(before) => ending.reason == Reason::SteadyStateDeviated && before.reason != ending.reason,
    }
}
