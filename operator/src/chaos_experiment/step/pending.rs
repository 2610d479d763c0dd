//! Before the fault: limits, age, the steady state, then the finalizer and the intent.
//!
//! Pure.

use super::action::{Action, SOON, VERY_SOON};
use super::gates::{self, Hold};
use super::situation::{Situation, has_finalizer};
use crate::chaos_experiment::probes::samples::{self, Before};
use crate::chaos_experiment::report::verdict::{Ending, Reason, judge_before};
use crate::chaos_experiment::schedule::{STARTING_DEADLINE, run_id};
use crate::runtime::Violation;
use chrono::TimeDelta;

/// The one thing to do next before the fault.
pub(super) fn decide(situation: &Situation<'_>, invalid: Option<&Violation>) -> Action {
    let Situation {
        experiment,
        status,
        plan,
        observed,
        ..
    } = situation;
    if situation.deleting() {
        return if has_finalizer(experiment) {
            Action::RemoveFinalizer
        } else {
            Action::Rest { until: None }
        };
    }
    if let Some(error) = invalid {
        return situation.finish(status, &Ending::new(Reason::InvalidSpec, error.to_string()), None);
    }
    if let Some(stop) = situation.stop() {
        return situation.finish(status, &stop.not_begun(), None);
    }
    if let Some(ending) = too_late(situation) {
        return situation.finish(status, &ending, None);
    }
    let victims = match gates::victims(plan, situation.limits, &situation.attempt(), observed) {
        Ok(victims) => victims,
        Err(Hold::Refused(ending)) => return situation.finish(status, &ending, None),
        Err(Hold::Waiting { reason, message, until }) => {
            let waiting = situation.editor().wait(status, reason, &message);
            // Pods come and go meanwhile, and nobody tells: look again every few seconds at most.
            let wait = (until - situation.now()).clamp(TimeDelta::milliseconds(50), TimeDelta::seconds(5));
            return situation.write_or(waiting, Action::Look(wait.to_std().unwrap_or(SOON)));
        }
    };
    if !plan.probes.is_empty() {
        let Some(samples) = &observed.samples else {
            return Action::StartProbes;
        };
        let before = samples::before(&plan.probes, samples);
        if let Some(ending) = judge_before(&before) {
            return situation.finish(status, &ending, None);
        }
        if before == Before::Awaited {
            return Action::Look(VERY_SOON);
        }
    }
    if !has_finalizer(experiment) {
        return Action::AddFinalizer;
    }
    let ready = observed.serving(|_| false).count();
    Action::Write(Box::new(situation.editor().intend(status, plan, &victims, ready)))
}

/// A scheduled run that could not begin in time does not begin at all: its hour is over.
fn too_late(situation: &Situation<'_>) -> Option<Ending> {
    let status = situation.status;
    let scheduled = status
        .scheduled_at
        .filter(|at| situation.now() - *at > STARTING_DEADLINE)?;
    let why = status.message.as_deref().unwrap_or("it was not ready");
    Some(Ending::new(
        Reason::MissedSchedule,
        format!(
            "the run of {} could not begin within {} minutes: {why}",
            run_id(scheduled),
            STARTING_DEADLINE.num_minutes()
        ),
    ))
}
