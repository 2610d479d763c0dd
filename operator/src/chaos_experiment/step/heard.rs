//! How the fault ended, by what the pods say of it while their document still names it.
//!
//! Pure. What no pod has said passes nobody: a process that was ended by the fault, or a node that is lost, says nothing.

use super::action::{Action, VERY_SOON};
use super::delivery::{failure, report_of};
use super::situation::Situation;
use crate::chaos_experiment::report::status::decided;
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::runtime::conditions::is_true;
use chrono::{DateTime, TimeDelta, Utc};
use valerix_crds::names::condition::RECOVERED;
use valerix_crds::{TargetState, TargetStatus};
use valerix_policy::FaultState;

/// Whether it still matters to the verdict how the fault ended: nothing is decided, and nobody has asked to stop.
pub(super) fn undecided(situation: &Situation<'_>) -> bool {
    !situation.plan.evicts() && decided(situation.status).is_none() && situation.stop().is_none()
}

/// The first target that has not said how the fault ended in it.
pub(super) fn unheard(targets: &[TargetStatus]) -> Option<&TargetStatus> {
    let silent = |state| matches!(state, TargetState::Active | TargetState::Injecting);
    targets.iter().find(|target| silent(target.state))
}

/// What is decided by what the pods say of the fault's end, while their document still names it.
pub(super) fn outcome(situation: &Situation<'_>, ours: bool) -> Option<Action> {
    let status = situation.status;
    if !undecided(situation) || is_true(&status.conditions, RECOVERED) {
        return None;
    }
    let ending = match failure(&status.targets) {
        Some(ending) => ending,
        None if ours && unheard(&status.targets).is_none() => match was_met(situation) {
            Some(true) => return None,
            Some(false) => nobody_was_hit(situation),
            // A process that has just begun is told by the pods in a moment; a pod that is not ready may never say.
            None if situation.now() < timeout(situation) => return Some(Action::Look(VERY_SOON)),
            None => Ending::new(
                Reason::ObservationGap,
                "not every pod said whether a request met the fault, so there is no verdict",
            ),
        },
        None => return None,
    };
    Some(Action::Write(Box::new(situation.editor().decide(status, &ending))))
}

/// A fault that every pod showed and no request met proves nothing.
fn nobody_was_hit(situation: &Situation<'_>) -> Ending {
    Ending::new(
        Reason::NoRequestAffected,
        format!(
            "no request to {} met the fault, so there is no verdict; correct the fault's routes or peer, or send requests while it is on",
            situation.plan.service
        ),
    )
}

/// Until when the system must be steady again.
fn timeout(situation: &Situation<'_>) -> DateTime<Utc> {
    let ended_at = situation.status.fault_ended_at.unwrap_or(situation.now());
    let timeout = TimeDelta::from_std(situation.plan.recovery_timeout).unwrap_or(TimeDelta::MAX);
    ended_at.checked_add_signed(timeout).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Whether any request met the fault, by the count that each pod gives with its end: one before that is not the whole one.
/// Who does not count may have been met. None while a pod that may have been met does not say.
fn was_met(situation: &Situation<'_>) -> Option<bool> {
    if !situation.plan.fault.kind.counts_hits {
        return Some(true);
    }
    let mut silent = false;
    for target in &situation.status.targets {
        match report_of(situation, &target.uid).filter(|(_, fault)| fault.state == FaultState::Ended) {
            Some((_, fault)) if fault.hits != Some(0) => return Some(true),
            Some(_) => {}
            None => silent = true,
        }
    }
    (!silent).then_some(false)
}
