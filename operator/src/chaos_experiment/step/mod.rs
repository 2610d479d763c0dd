//! The heart: from what is written and what is seen to the one thing to do next.
//!
//! Pure. In: the experiment as the API server has it, and what is observed at this moment. Out: one [`Action`]. Nothing
//! is remembered between two calls but what stands in the experiment's status, in the target's document and in the pods,
//! so a process that was killed at any point goes on where it was: it asks the same question and gets the same answer.
//!
//! The order of writes in a run is the write-ahead of every step:
//! finalizer, intent, lock (which is the fault, for faults that pods obey), for an eviction its own mark, then the
//! eviction, then what came of it; at the end the lock is removed, the fault is read back as gone, the finalizer goes.
//! An entry that hurts nobody (that of evictions) keeps the target until the run is judged.

mod action;
mod delivery;
mod eviction;
pub mod gates;
mod heard;
mod idle;
mod pending;
mod recovering;
mod returned;
mod running;
#[cfg(test)]
mod simulation;
mod situation;
mod target;

pub use action::{Action, SOON, VERY_SOON};
pub use idle::{Idle, idle};
pub use situation::{entry_name, has_finalizer, is_active};

use super::limits::Limits;
use super::observed::Observed;
use super::report::status::decided;
use super::report::verdict::{Ending, Reason};
use super::validate::Plan;
use crate::runtime::Violation;
use situation::Situation;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase};

/// The one thing to do next for a run that is under way.
pub fn decide(
    experiment: &ChaosExperiment,
    plan: Result<&Plan, &Violation>,
    limits: &Limits,
    observed: &Observed,
) -> Action {
    let empty = ChaosExperimentStatus::default();
    let status = experiment.status.as_ref().unwrap_or(&empty);
    let fallback;
    let (plan, invalid) = match plan {
        Ok(plan) => (plan, None),
        Err(error) => {
            fallback = Plan::for_recovery(&experiment.spec);
            (&fallback, Some(error))
        }
    };
    let situation = Situation {
        experiment,
        status,
        plan,
        limits,
        observed,
        name: entry_name(experiment),
    };
    let under_way = match status.phase {
        Some(ChaosPhase::Running | ChaosPhase::Recovering) => true,
        Some(ChaosPhase::Pending) => status.run.is_some(),
        _ => false,
    };
    if under_way
        && invalid.is_none()
        && situation.stop().is_none()
        && let Some(skip) = situation.skip_tick()
    {
        return skip;
    }
    match (status.phase, invalid) {
        (Some(ChaosPhase::Running), Some(error)) => {
            situation.give_up(&Ending::new(Reason::InvalidSpec, error.to_string()))
        }
        (Some(ChaosPhase::Running), None) => running::decide(&situation),
        // What it was to be judged by is not known any more.
        (Some(ChaosPhase::Recovering), Some(error)) if decided(status).is_none() && situation.stop().is_none() => {
            let ending = Ending::new(Reason::InvalidSpec, error.to_string());
            Action::Write(Box::new(situation.editor().decide(status, &ending)))
        }
        (Some(ChaosPhase::Recovering), _) => recovering::decide(&situation),
        (Some(ChaosPhase::Pending), error) if under_way => pending::decide(&situation, error),
        // A finalizer without an intent protects nothing: the process ended between the two writes, or the run after it
        // was refused.
        _ if has_finalizer(experiment) => Action::RemoveFinalizer,
        _ => Action::Rest { until: None },
    }
}
