//! A fault that the operator does itself: pods are evicted, one after another, each once.
//!
//! Pure.

use super::action::{Action, SOON};
use super::delivery::judge;
use super::gates;
use super::situation::Situation;
use super::target::{busy, consent_withdrawn, in_time, lock_target, not_delivered};
use crate::chaos_experiment::entry::{self, Lock};
use crate::chaos_experiment::faults::pod_kill::EvictionResult;
use crate::chaos_experiment::observed::Removal;
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use chrono::SubsecRound;
use valerix_crds::{RefusedBy, TargetState, TargetStatus};

/// The one thing to do next until every victim is settled.
pub(super) fn decide(situation: &Situation<'_>) -> Action {
    let Situation {
        status,
        plan,
        limits,
        observed,
        ..
    } = situation;
    if situation.untouched() {
        let lock = entry::lock(observed.faults(), &situation.name);
        if let Lock::Other(other) = lock {
            return situation.give_up(&busy(&other));
        }
        let allowed = gates::at_fire(plan, limits, &situation.attempt(), observed, &status.targets);
        if let Some(ending) = allowed.err().or_else(|| situation.excluded()) {
            return situation.give_up(&ending);
        }
        match lock {
            Lock::Ours(_) => {}
            _ if in_time(situation) => return lock_target(situation),
            _ => return not_delivered(situation, "the target could not be locked"),
        }
    }
    let mut targets = status.targets.clone();
    for index in 0..targets.len() {
        let target = &mut targets[index];
        match target.state {
            TargetState::Intended => {
                if let Some(ending) = no_more(situation) {
                    return situation.give_up_at(&ending, status.injected_at);
                }
                // Those that are gone already may have broken enough: nobody else is sent after them then.
                if let Some(action) = judge(situation, None) {
                    return action;
                }
                match observed.pod(&target.uid).map(|pod| pod.removal) {
                    Some(Removal::None) if !in_time(situation) => {
                        return not_delivered(situation, "no eviction was sent");
                    }
                    Some(Removal::None) => match gates::one_more(plan, observed) {
                        Ok(()) => target.state = TargetState::Injecting,
                        Err(ending) => refuse(target, RefusedBy::MinAvailable, ending.message),
                    },
                    _ => {
                        target.state = TargetState::Gone;
                        target.message = Some("it was gone before it could be evicted".into());
                    }
                }
                return Action::Write(Box::new(situation.editor().targets(status, targets)));
            }
            TargetState::Injecting => return settle(situation, index),
            _ => {}
        }
    }
    conclude(situation)
}

/// Why nobody else may be evicted, whatever was allowed when the run began.
fn no_more(situation: &Situation<'_>) -> Option<Ending> {
    consent_withdrawn(situation).or_else(|| {
        let namespace = situation.attempt().namespace;
        let forbidden = gates::may_evict(situation.limits, namespace).err();
        forbidden.map(Ending::stopped)
    })
}

fn refuse(target: &mut TargetStatus, by: RefusedBy, why: impl Into<String>) {
    target.state = TargetState::Refused;
    target.refused_by = Some(by);
    target.message = Some(why.into());
}

/// An eviction that was marked as begun: sent now, answered, or to be read off the pod.
fn settle(situation: &Situation<'_>, index: usize) -> Action {
    let Situation { status, observed, .. } = situation;
    let mut targets = status.targets.clone();
    let target = &mut targets[index];
    let result = observed.evictions.get(&target.uid);
    let removal = observed.pod(&target.uid).map(|pod| pod.removal);
    let mut evicted = None;
    match (result, removal) {
        (Some(EvictionResult::Accepted(at)), _) => evicted = Some(*at),
        (Some(EvictionResult::NotNow(why)), _) => refuse(target, RefusedBy::DisruptionBudget, why),
        (Some(EvictionResult::Refused(why)), _) => refuse(target, RefusedBy::ApiServer, why),
        (Some(EvictionResult::Gone), _) => {
            target.state = TargetState::Gone;
            target.message = Some("it was gone when the eviction came".into());
        }
        // No answer that we know of, from this process or from one before it: the pod tells.
        (_, Some(Removal::Evicted(at))) => evicted = Some(at),
        // A deletion bears no name. It was begun for this run, so it is taken for its own.
        (_, Some(Removal::Deleted(at))) if situation.plan.deletes => evicted = Some(at),
        (_, Some(Removal::Deleted(_))) => {
            target.state = TargetState::Gone;
            target.message = Some("it was deleted by somebody else".into());
        }
        (_, None) => {
            evicted = Some(observed.now);
            target.message = Some("it is gone; the answer to its eviction was not seen".into());
        }
        // It lives. With its UID as a precondition a second request can't kill another pod, so a process that doesn't
        // know of a first one sends it; one that does waits for what the first does.
        (None, Some(Removal::None)) if in_time(situation) => {
            // The mark may be of a process before this one, and what allowed it of that time.
            if let Some(ending) = no_more(situation) {
                return situation.give_up_at(&ending, status.injected_at);
            }
            if let Err(ending) = gates::one_more(situation.plan, observed) {
                refuse(target, RefusedBy::MinAvailable, ending.message);
                return Action::Write(Box::new(situation.editor().targets(status, targets)));
            }
            return Action::Evict {
                pod: target.pod.clone(),
                uid: target.uid.clone(),
                delete: situation.plan.deletes,
                grace_period_seconds: situation.plan.grace_period_seconds,
            };
        }
        (Some(EvictionResult::Unclear(_)), Some(Removal::None)) if in_time(situation) => return Action::Look(SOON),
        (Some(EvictionResult::Unclear(why)), Some(Removal::None)) => {
            let what = format!(
                "pod {} still runs; its eviction was answered with: {why}; no eviction was seen",
                target.pod
            );
            return not_delivered(situation, &what);
        }
        (None, Some(Removal::None)) => {
            return not_delivered(situation, "the eviction was not answered and the pod still runs");
        }
    }
    if let Some(at) = evicted {
        target.state = TargetState::Active;
        target.active_at = Some(at.max(status.intent_at.unwrap_or(at)).trunc_subsecs(3));
    }
    let mut next = situation.editor().targets(status, targets);
    next.injected_at = next.targets.iter().filter_map(|target| target.active_at).max();
    Action::Write(Box::new(next))
}

/// Every victim is settled: the fault is over the moment the last eviction was accepted.
fn conclude(situation: &Situation<'_>) -> Action {
    let Situation { status, .. } = situation;
    let of = |state| status.targets.iter().filter(move |target| target.state == state);
    let ended_at = status.injected_at;
    if let Some(gone) = of(TargetState::Gone).next() {
        let message = format!(
            "pod {} was lost before it could be evicted; no other was taken instead",
            gone.pod
        );
        return give_up(situation, &Ending::new(Reason::TargetsLost, message));
    }
    let evicted = of(TargetState::Active).count();
    let Some(refused) = of(TargetState::Refused).next() else {
        let editor = situation.editor();
        let at = ended_at.unwrap_or(situation.now());
        return Action::Write(Box::new(
            editor.recovering(&editor.injected(status, situation.plan, at), Some(at)),
        ));
    };
    let why = refused.message.as_deref().unwrap_or("no reason was given");
    let all = status.targets.len();
    let ending = match (refused.refused_by, evicted) {
        (Some(RefusedBy::DisruptionBudget), 0) => {
            Ending::new(Reason::DisruptionBudget, format!("no pod was evicted, not now: {why}"))
        }
        (Some(RefusedBy::MinAvailable), 0) => Ending::new(Reason::NotEnoughPods, why),
        (Some(RefusedBy::DisruptionBudget | RefusedBy::MinAvailable), _) => Ending::new(
            Reason::PartlyInjected,
            format!(
                "{evicted} of {all} pods were evicted, so there is no verdict; pod {}: {why}",
                refused.pod
            ),
        ),
        _ => Ending::new(
            Reason::InjectionFailed,
            format!(
                "{evicted} of {all} pods were evicted; the API server refused pod {}: {why}",
                refused.pod
            ),
        ),
    };
    give_up(situation, &ending)
}

/// Some victims may be gone by our hand: that is kept, the verdict is known.
fn give_up(situation: &Situation<'_>, ending: &Ending) -> Action {
    let (editor, status) = (situation.editor(), situation.status);
    let at = status.injected_at;
    let hurt = at.map_or_else(|| status.clone(), |at| editor.injected(status, situation.plan, at));
    Action::Write(Box::new(editor.recovering(&editor.decide(&hurt, ending), at)))
}
