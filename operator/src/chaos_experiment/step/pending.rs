//! Before the fault: limits, age, the steady state, then the finalizer and the intent.
//!
//! Pure.

use super::action::{Action, SOON, VERY_SOON};
use super::gates;
use super::situation::{Situation, has_finalizer};
use crate::chaos_experiment::after::may_follow;
use crate::chaos_experiment::hold::Hold;
use crate::chaos_experiment::observed::PodView;
use crate::chaos_experiment::probes::samples::{self, Before};
use crate::chaos_experiment::report::verdict::{Ending, Reason, judge_before};
use crate::chaos_experiment::schedule::{STARTING_DEADLINE, run_id};
use crate::chaos_experiment::validate::schedule;
use crate::runtime::Violation;
use chrono::TimeDelta;
use valerix_crds::names::RUN_ANNOTATION;

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
        let again = if experiment.spec.schedule.is_some() {
            String::new()
        } else {
            format!("; once it is right, set annotation {RUN_ANNOTATION} to a new value to run it")
        };
        let ending = Ending::new(Reason::InvalidSpec, format!("{error}{again}"));
        return situation.finish(status, &ending, None);
    }
    if let Some(stop) = situation.stop() {
        return situation.finish(status, &stop.not_begun(), None);
    }
    if let Some(ending) = too_late(situation).or_else(|| situation.excluded()) {
        return situation.finish(status, &ending, None);
    }
    let follows = experiment.spec.after.as_ref().zip(observed.preceding.as_ref());
    let its_turn = follows.map_or(Ok(()), |(after, preceding)| {
        may_follow(after, preceding, situation.now())
    });
    let chosen = its_turn.and_then(|()| gates::victims(plan, situation.limits, &situation.attempt(), observed));
    let victims = match chosen {
        Ok(victims) => victims,
        Err(Hold::Refused(ending)) => return situation.finish(status, &ending, None),
        Err(Hold::Waiting { reason, message, until }) => {
            let waiting = situation.editor().wait(status, reason, &message);
            // Pods come and go meanwhile, and nobody tells: look again every few seconds at most.
            let wait = (until - situation.now()).clamp(TimeDelta::milliseconds(50), TimeDelta::seconds(5));
            return situation.write_or(waiting, Action::Look(wait.to_std().unwrap_or(SOON)));
        }
    };
    if plan.dry_run {
        return would_hurt(situation, &victims);
    }
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
    let seed = situation.name.seed();
    Action::Write(Box::new(
        situation.editor().intend(status, plan, &victims, ready, &seed),
    ))
}

/// What a run would do at this moment, without any of it.
fn would_hurt(situation: &Situation<'_>, victims: &[PodView]) -> Action {
    let Situation {
        status, plan, observed, ..
    } = situation;
    let spared = gates::spared(plan, observed, victims);
    let chosen = situation
        .editor()
        .would_hurt(status, plan, victims, spared, &situation.name.seed());
    let names: Vec<_> = victims.iter().map(|pod| pod.name.as_str()).collect();
    let ending = Ending::new(
        Reason::DryRun,
        format!(
            "a run at this moment would hurt {} by {}; nothing was asked or done, as spec.dryRun is true",
            names.join(", "),
            plan.fault.kind.name
        ),
    );
    situation.finish(&chosen, &ending, None)
}

/// A scheduled run that could not begin in time does not begin at all: its hour is over.
fn too_late(situation: &Situation<'_>) -> Option<Ending> {
    let status = situation.status;
    // The schedule may be gone by now: the hour is over all the same.
    let planned = schedule(&situation.experiment.spec).ok().flatten();
    let deadline = planned.map_or(STARTING_DEADLINE, |schedule| schedule.deadline());
    let scheduled = status.scheduled_at.filter(|at| situation.now() - *at > deadline)?;
    let why = status.message.as_deref().unwrap_or("it was not ready");
    Some(Ending::new(
        Reason::MissedSchedule,
        format!(
            "the run of {} could not begin within {}s: {why}",
            run_id(scheduled),
            deadline.num_seconds()
        ),
    ))
}
