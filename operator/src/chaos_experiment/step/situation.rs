//! Everything that one decision is made of, and what every phase asks of it.
//!
//! Pure.

use super::action::Action;
use super::gates::Attempt;
use crate::chaos_experiment::identity::EntryName;
use crate::chaos_experiment::limits::Limits;
use crate::chaos_experiment::observed::Observed;
use crate::chaos_experiment::probes::samples::ProbeSamples;
use crate::chaos_experiment::report::status::{StatusEditor, decided};
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::chaos_experiment::schedule::{Tick, run_id};
use crate::chaos_experiment::validate::{Plan, schedule, spec_hash};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use valerix_crds::names::{CHAOS_FINALIZER, RUN_ANNOTATION};
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase, ConcurrencyPolicy, DesiredState, TargetState};

/// Everything that one decision is made of.
pub struct Situation<'a> {
    /// The experiment as the API server has it.
    pub experiment: &'a ChaosExperiment,
    /// Its status.
    pub status: &'a ChaosExperimentStatus,
    /// Its spec with every default.
    pub plan: &'a Plan,
    /// What the operator allows.
    pub limits: &'a Limits,
    /// What is seen.
    pub observed: &'a Observed,
    /// The identity of the run.
    pub name: EntryName,
}

/// The identity of the run that status names.
pub fn entry_name(experiment: &ChaosExperiment) -> EntryName {
    let status = experiment.status.as_ref();
    EntryName {
        experiment: experiment.name_any(),
        uid: experiment.uid().unwrap_or_default(),
        intent: status
            .and_then(|status| status.intent_at)
            .map(|at| at.timestamp_millis())
            .unwrap_or_default(),
        run: status.and_then(|status| status.run.clone()).unwrap_or_default(),
    }
}

/// Whether a run is under way, so that there is something to decide.
pub fn is_active(experiment: &ChaosExperiment) -> bool {
    let Some(status) = &experiment.status else {
        return has_finalizer(experiment);
    };
    match status.phase {
        Some(ChaosPhase::Running | ChaosPhase::Recovering) => true,
        Some(ChaosPhase::Pending) => status.run.is_some() || has_finalizer(experiment),
        _ => has_finalizer(experiment),
    }
}

/// Whether the finalizer stands.
pub fn has_finalizer(experiment: &ChaosExperiment) -> bool {
    experiment.finalizers().iter().any(|name| name == CHAOS_FINALIZER)
}

/// Who edits the status of this experiment at this moment.
pub fn editor(experiment: &ChaosExperiment, now: DateTime<Utc>) -> StatusEditor {
    StatusEditor {
        generation: experiment.metadata.generation.unwrap_or_default(),
        spec_hash: spec_hash(&experiment.spec),
        now,
    }
}

impl Situation<'_> {
    pub(super) fn editor(&self) -> StatusEditor {
        editor(self.experiment, self.observed.now)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.observed.now
    }

    pub(super) fn deleting(&self) -> bool {
        self.experiment.metadata.deletion_timestamp.is_some()
    }

    /// Whether nothing has been done to any target yet.
    pub(super) fn untouched(&self) -> bool {
        let targets = &self.status.targets;
        targets.iter().all(|target| target.state == TargetState::Intended)
    }

    /// When the first target was hurt: the judgement begins there. Where pods end their own process, only the last time
    /// is known, so it begins with the intent.
    pub(super) fn first_active(&self) -> Option<DateTime<Utc>> {
        let first = self.status.targets.iter().filter_map(|target| target.active_at).min()?;
        let intent = self.status.intent_at.filter(|_| self.restarts());
        Some(intent.unwrap_or(first))
    }

    /// Whether the targets end their own process and come back themselves.
    pub(super) fn restarts(&self) -> bool {
        self.plan.fault.kind.ends_the_process && !self.plan.evicts()
    }

    /// Why the run must stop, if it must. Whatever this version does not know is read as Stop, the safe side.
    pub(super) fn stop(&self) -> Option<Ending> {
        if self.deleting() {
            return Some(Ending::new(Reason::AbortedByUser, "the experiment is being deleted"));
        }
        if self.experiment.spec.desired != DesiredState::Run {
            let again = if self.experiment.spec.schedule.is_some() {
                "set it to Run for the next scheduled run".to_owned()
            } else {
                format!("to run it again, set it to Run and annotation {RUN_ANNOTATION} to a new value")
            };
            return Some(Ending::new(
                Reason::AbortedByUser,
                format!("stopped by spec.desired: Stop; {again}"),
            ));
        }
        let Some(reason) = &self.observed.stop_order else {
            return self.replaced();
        };
        Some(Ending::new(
            Reason::SafetyLever,
            format!(
                "ConfigMap {}/valerix-safety stops every experiment: {reason}",
                self.limits.operator_namespace
            ),
        ))
    }

    /// The scheduled time that came while this run is under way, if one did.
    fn due(&self) -> Option<Tick> {
        let planned = self.status.next_run_at.filter(|planned| *planned <= self.now())?;
        if self.experiment.spec.suspend {
            return None;
        }
        let schedule = schedule(&self.experiment.spec).ok().flatten()?;
        schedule
            .due(planned, self.now())
            .filter(|tick| !schedule.excludes(tick.at, self.now()))
    }

    /// Why nobody may be hurt at this hour, whenever the run was planned or began to wait.
    pub(super) fn excluded(&self) -> Option<Ending> {
        let scheduled = self.status.scheduled_at?;
        let schedule = schedule(&self.experiment.spec).ok().flatten()?;
        let message = format!(
            "the run of {} could not begin before an hour in which spec.excludedWindows lets none start",
            run_id(scheduled)
        );
        schedule
            .excludes(scheduled, self.now())
            .then(|| Ending::new(Reason::ExcludedWindow, message))
    }

    fn replaces(&self) -> bool {
        self.experiment.spec.concurrency_policy == ConcurrencyPolicy::Replace
    }

    /// The run makes room for the scheduled one, where that is asked for.
    fn replaced(&self) -> Option<Ending> {
        let tick = self.due().filter(|_| self.replaces())?;
        let message = format!(
            "stopped for the run of {}, as spec.concurrencyPolicy is Replace",
            run_id(tick.at)
        );
        Some(Ending::new(Reason::Replaced, message))
    }

    /// Writes `next` unless it says what stands already.
    pub(super) fn write_or(&self, next: ChaosExperimentStatus, otherwise: Action) -> Action {
        if next == *self.status {
            otherwise
        } else {
            Action::Write(Box::new(next))
        }
    }

    /// Ends the fault with this verdict, unless a deviation was seen before: that was seen all the same.
    pub(super) fn give_up(&self, ending: &Ending) -> Action {
        self.give_up_at(ending, None)
    }

    /// The same, for a fault that ended at a known time.
    pub(super) fn give_up_at(&self, ending: &Ending, ended_at: Option<DateTime<Utc>>) -> Action {
        let editor = self.editor();
        let seen = decided(self.status).is_some_and(|before| before.reason == Reason::SteadyStateDeviated);
        let status = if seen {
            self.status.clone()
        } else {
            editor.decide(self.status, ending)
        };
        Action::Write(Box::new(editor.recovering(&status, ended_at)))
    }

    pub(super) fn attempt(&self) -> Attempt<'_> {
        Attempt {
            namespace: self.experiment.metadata.namespace.as_deref().unwrap_or_default(),
            name: &self.name,
            scheduled: self.status.scheduled_at.is_some(),
        }
    }

    /// When the schedule comes next, from now: what came due while the run was under way is not made up for, unless it was
    /// to replace the run.
    fn next_run(&self) -> Option<DateTime<Utc>> {
        if self.experiment.spec.suspend {
            return None;
        }
        if self.replaces()
            && let Some(tick) = self.due()
        {
            return Some(tick.at);
        }
        schedule(&self.experiment.spec).ok().flatten()?.after(self.now())
    }

    /// Records a scheduled time that came while this run was under way: it is skipped, and said to be.
    pub(super) fn skip_tick(&self) -> Option<Action> {
        let planned = self.status.next_run_at.filter(|planned| *planned <= self.now())?;
        if self.experiment.spec.suspend {
            return None;
        }
        let schedule = schedule(&self.experiment.spec).ok().flatten()?;
        let tick = schedule.due(planned, self.now())?;
        let reason = if schedule.excludes(tick.at, self.now()) {
            Reason::ExcludedWindow
        } else if self.replaces() {
            return None;
        } else {
            Reason::RunUnderWay
        };
        let next = schedule.after(self.now());
        let skipped = self.editor().skip_tick(self.status, tick.at, reason, next);
        Some(Action::Write(Box::new(skipped)))
    }

    pub(super) fn finish(
        &self,
        from: &ChaosExperimentStatus,
        ending: &Ending,
        steady_again_at: Option<DateTime<Utc>>,
    ) -> Action {
        let mut last = from.clone();
        if let Some(samples) = &self.observed.samples {
            last.probes = samples.iter().map(ProbeSamples::status).collect();
        }
        let mut ending = ending.clone();
        if last.injected_at.is_some() {
            ending.message.push_str(&self.plan.cut());
        }
        Action::Write(Box::new(self.editor().finish(
            &last,
            &ending,
            steady_again_at,
            self.next_run(),
        )))
    }
}
