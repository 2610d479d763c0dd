//! Whether a run is to begin: the only part that decides from the cache alone, so that rest costs no request.
//!
//! Pure.

use super::situation::{editor, is_active};
use crate::chaos_experiment::report::status::{Start, StatusEditor};
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::chaos_experiment::requested::{identity, is_handled, kept};
use crate::chaos_experiment::schedule::{Schedule, Tick, run_id};
use crate::chaos_experiment::validate::Plan;
use crate::runtime::Violation;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use valerix_crds::names::RUN_ANNOTATION;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, DesiredState};

/// What an experiment without a run under way needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Idle {
    /// A run is under way: observe and decide.
    Active,
    /// Nothing, until the object changes or the time has come.
    Rest {
        /// When to look again without a change.
        until: Option<DateTime<Utc>>,
    },
    /// Write this status: a run begins, or the plan has changed.
    Write(Box<ChaosExperimentStatus>),
}

/// What an experiment needs now.
pub fn idle(
    experiment: &ChaosExperiment,
    plan: Result<&Plan, &Violation>,
    schedule: Result<Option<&Schedule>, &Violation>,
    now: DateTime<Utc>,
) -> Idle {
    if is_active(experiment) {
        return Idle::Active;
    }
    if experiment.metadata.deletion_timestamp.is_some() {
        return Idle::Rest { until: None };
    }
    let empty = ChaosExperimentStatus::default();
    let status = experiment.status.as_ref().unwrap_or(&empty);
    let editor = editor(experiment, now);
    let (plan, schedule) = match (plan, schedule) {
        (Ok(plan), Ok(schedule)) => (plan, schedule),
        (Err(error), _) => return refused(experiment, status, &editor, error, true),
        (_, Err(error)) => return refused(experiment, status, &editor, error, false),
    };
    let kind = plan.fault.kind.name;
    // Nothing begins: why, as long as nothing has run yet.
    let explained = |next, reason, message| {
        let mut told = editor.idle(status, Some(kind), next);
        editor.explain(&mut told, reason, message);
        rest(status, told, next)
    };
    if experiment.spec.desired != DesiredState::Run {
        return explained(None, "NotStarted", "spec.desired is Stop; set it to Run to start");
    }
    let planned = schedule
        .filter(|_| !experiment.spec.suspend)
        .and_then(|schedule| plan_next(schedule, status, now));
    let begin = |start: &Start| editor.begin(status, kind, start);
    if let Some(requested) = requested(experiment, status) {
        // A tick that is due at the same moment is skipped for it, as it would be while a run is under way.
        let due = schedule
            .zip(planned)
            .and_then(|(schedule, planned)| schedule.due(planned, now));
        return Idle::Write(Box::new(begin(&Start {
            run: identity(&requested),
            tick: None,
            requested: Some(kept(&requested)),
            skipped: due.map(|tick| tick.at),
            next: schedule.and_then(|schedule| planned.and(schedule.after(now))),
        })));
    }
    let Some(schedule) = schedule else {
        if status.run.is_none() {
            return Idle::Write(Box::new(begin(&Start {
                run: experiment.uid().unwrap_or_default(),
                tick: None,
                requested: None,
                skipped: None,
                next: None,
            })));
        }
        return rest(status, editor.idle(status, Some(kind), None), None);
    };
    let Some(planned) = planned else {
        return explained(None, "Suspended", "spec.suspend is true; scheduled runs do not start");
    };
    let Some(tick) = schedule.due(planned, now) else {
        let message = "waiting for the next scheduled time, see status.nextRunAt";
        return explained(Some(planned), "Scheduled", message);
    };
    let next = schedule.after(now);
    // A tick that was handled before its successor was planned cannot come twice, whatever else went wrong.
    if status.last_scheduled_at.is_some_and(|last| last >= tick.at) {
        return rest(status, editor.idle(status, Some(kind), next), next);
    }
    if schedule.excludes(tick.at, now) {
        let skipped = editor.skip_tick(status, tick.at, Reason::ExcludedWindow, next);
        return Idle::Write(Box::new(skipped));
    }
    Idle::Write(Box::new(scheduled(&editor, status, kind, tick, next)))
}

/// What becomes of a spec that cannot be acted on. A run that is asked for begins, where `begins` says so, and is refused as
/// one: whatever makes the spec right later, the user or the operator's settings, starts nothing at an hour that nobody chose.
fn refused(
    experiment: &ChaosExperiment,
    status: &ChaosExperimentStatus,
    editor: &StatusEditor,
    error: &Violation,
    begins: bool,
) -> Idle {
    let requested = requested(experiment, status);
    let once = status.run.is_none() && experiment.spec.schedule.is_none();
    let run = match &requested {
        Some(requested) => Some(identity(requested)),
        None => experiment.uid().filter(|_| once),
    };
    let start = run.map(|run| Start {
        run,
        tick: None,
        requested: requested.as_deref().map(kept),
        skipped: None,
        next: None,
    });
    if let Some(start) = start.filter(|_| begins && experiment.spec.desired == DesiredState::Run) {
        let kind = Plan::for_recovery(&experiment.spec).fault.kind.name;
        return Idle::Write(Box::new(editor.begin(status, kind, &start)));
    }
    let mut next = editor.invalid(status, error);
    next.last_requested_run = requested.as_deref().map(kept).or(next.last_requested_run);
    rest(status, next, None)
}

/// Writes what differs, or rests.
fn rest(status: &ChaosExperimentStatus, next: ChaosExperimentStatus, until: Option<DateTime<Utc>>) -> Idle {
    if next == *status {
        Idle::Rest { until }
    } else {
        Idle::Write(Box::new(next))
    }
}

/// The run of a tick begins, or is skipped because its time is over.
fn scheduled(
    editor: &StatusEditor,
    status: &ChaosExperimentStatus,
    kind: &str,
    tick: Tick,
    next: Option<DateTime<Utc>>,
) -> ChaosExperimentStatus {
    let start = Start {
        run: run_id(tick.at),
        tick: Some(tick.at),
        requested: None,
        skipped: None,
        next,
    };
    let begun = editor.begin(status, kind, &start);
    if !tick.missed {
        return begun;
    }
    let message = format!(
        "the scheduled time {} was missed by too much; the next one is planned",
        start.run
    );
    editor.finish(&begun, &Ending::new(Reason::MissedSchedule, message), None, next)
}

/// The next planned time: the one that stands, if this schedule made it, else the first from now on.
fn plan_next(schedule: &Schedule, status: &ChaosExperimentStatus, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    status
        .next_run_at
        .filter(|planned| schedule.is_tick(*planned))
        .or_else(|| schedule.after(now))
}

/// The annotation's value, if it asks for a run that has not been handled.
fn requested(experiment: &ChaosExperiment, status: &ChaosExperimentStatus) -> Option<String> {
    let value = experiment.annotations().get(RUN_ANNOTATION)?;
    (!value.is_empty() && !is_handled(value, status)).then(|| value.clone())
}

#[cfg(test)]
mod tests;
