//! Before the fault: limits, age, the steady state, then the finalizer and the intent.
//!
//! Pure.

use super::{Action, SOON, Situation, VERY_SOON, has_finalizer};
use crate::chaos_experiment::gates::{self, Hold};
use crate::chaos_experiment::samples::{self, Before};
use crate::chaos_experiment::status::held;
use crate::chaos_experiment::validate::InvalidSpec;
use crate::chaos_experiment::verdict::{Ending, Reason, judge_before};
use chrono::TimeDelta;

/// The one thing to do next before the fault.
pub(super) fn decide(situation: &Situation<'_>, invalid: Option<&InvalidSpec>) -> Action {
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
    let victims = match gates::victims(plan, situation.settings, &situation.attempt(), observed) {
        Ok(victims) => victims,
        Err(Hold::Refused(ending)) => return situation.finish(status, &ending, None),
        Err(hold @ Hold::Young { until, .. }) => {
            let (reason, message) = held(&hold);
            let waiting = situation.pen().wait(status, reason, message);
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
    Action::Write(Box::new(situation.pen().intend(status, plan, &victims, ready)))
}
