//! The heart: from what is written and what is seen to the one thing to do next.
//!
//! Pure. In: the experiment as the API server has it, and what is observed at this moment. Out: one [`Action`]. Nothing
//! is remembered between two calls but what stands in the experiment's status, in the target's document and in the pods,
//! so a process that was killed at any point goes on where it was: it asks the same question and gets the same answer.
//!
//! The order of writes in a run is the write-ahead of every step:
//! finalizer, intent, lock (which is the fault, for faults that pods obey), for an eviction its own mark, then the
//! eviction, then what came of it; at the end the lock is removed, the fault is read back as gone, the finalizer goes.

mod due;
mod pending;
mod recovering;
mod running;
#[cfg(test)]
mod simulation;

pub use due::{Idle, idle};

use super::build::EntryName;
use super::gates::Attempt;
use super::observed::Observed;
use super::settings::Settings;
use super::status::Pen;
use super::validate::{InvalidSpec, Plan};
use super::verdict::{Ending, Reason};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::time::Duration;
use valerix_crds::names::CHAOS_FINALIZER;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase, DesiredState};

/// How soon to look again while something is under way.
pub const SOON: Duration = Duration::from_millis(500);
/// How soon to look again when a time is being measured.
pub const VERY_SOON: Duration = Duration::from_millis(200);

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing, until the object changes or the time has come.
    Rest {
        /// When to look again without a change.
        until: Option<DateTime<Utc>>,
    },
    /// Nothing yet; look again after this.
    Look(Duration),
    /// Begin to ask the probes' questions.
    StartProbes,
    /// Put the finalizer, if the object is still this version.
    AddFinalizer,
    /// Remove the finalizer, if the object is still this version.
    RemoveFinalizer,
    /// Write the status, if the object is still this version.
    Write(Box<ChaosExperimentStatus>),
    /// Write the fault document, if it is still the observed version.
    PutFaults(String),
    /// Evict this pod, if it is still this UID. Once.
    Evict {
        /// Name of the pod.
        pod: String,
        /// UID that was recorded.
        uid: String,
    },
}

/// Everything that one decision is made of.
pub struct Situation<'a> {
    /// The experiment as the API server has it.
    pub experiment: &'a ChaosExperiment,
    /// Its status.
    pub status: &'a ChaosExperimentStatus,
    /// Its spec with every default.
    pub plan: &'a Plan,
    /// What the operator allows.
    pub settings: &'a Settings,
    /// What is seen.
    pub observed: &'a Observed,
    /// The identity of the run.
    pub name: EntryName,
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

/// The one thing to do next for a run that is under way.
pub fn decide(
    experiment: &ChaosExperiment,
    plan: Result<&Plan, &InvalidSpec>,
    settings: &Settings,
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
        settings,
        observed,
        name: entry_name(experiment),
    };
    match (status.phase, invalid) {
        (Some(ChaosPhase::Running), Some(error)) => {
            situation.give_up(&Ending::new(Reason::InvalidSpec, error.to_string()))
        }
        (Some(ChaosPhase::Running), None) => running::decide(&situation),
        (Some(ChaosPhase::Recovering), _) => recovering::decide(&situation),
        (Some(ChaosPhase::Pending), error) if status.run.is_some() => pending::decide(&situation, error),
        // A finalizer without an intent protects nothing: the process ended between the two writes, or the run after it
        // was refused.
        _ if has_finalizer(experiment) => Action::RemoveFinalizer,
        _ => Action::Rest { until: None },
    }
}

/// The identity of the run that status names.
pub fn entry_name(experiment: &ChaosExperiment) -> EntryName {
    let run = experiment
        .status
        .as_ref()
        .and_then(|status| status.run.clone())
        .unwrap_or_default();
    EntryName {
        experiment: experiment.name_any(),
        uid: experiment.uid().unwrap_or_default(),
        run,
    }
}

/// Whether the finalizer stands.
pub fn has_finalizer(experiment: &ChaosExperiment) -> bool {
    experiment.finalizers().iter().any(|name| name == CHAOS_FINALIZER)
}

impl Situation<'_> {
    fn pen(&self) -> Pen {
        Pen {
            generation: self.experiment.metadata.generation.unwrap_or_default(),
            now: self.observed.now,
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.observed.now
    }

    fn deleting(&self) -> bool {
        self.experiment.metadata.deletion_timestamp.is_some()
    }

    /// Why the run must stop, if it must. Whatever this version does not know is read as Stop, the safe side.
    fn stop(&self) -> Option<Ending> {
        if self.deleting() {
            return Some(Ending::new(Reason::AbortedByUser, "the experiment is being deleted"));
        }
        if self.experiment.spec.desired != DesiredState::Run {
            return Some(Ending::new(Reason::AbortedByUser, "stopped by spec.desired: Stop"));
        }
        let reason = self.observed.stop_order.as_ref()?;
        Some(Ending::new(
            Reason::SafetyLever,
            format!(
                "ConfigMap {}/valerix-safety stops every experiment: {reason}",
                self.settings.operator_namespace
            ),
        ))
    }

    /// Writes `next` unless it says what stands already.
    fn write_or(&self, next: ChaosExperimentStatus, otherwise: Action) -> Action {
        if next == *self.status {
            otherwise
        } else {
            Action::Write(Box::new(next))
        }
    }

    /// Ends the fault with this verdict.
    fn give_up(&self, ending: &Ending) -> Action {
        let pen = self.pen();
        Action::Write(Box::new(pen.recovering(&pen.decide(self.status, ending), None)))
    }

    fn attempt(&self) -> Attempt<'_> {
        let tick = self.status.run.as_deref().zip(self.status.last_scheduled_at);
        Attempt {
            namespace: self.experiment.metadata.namespace.as_deref().unwrap_or_default(),
            name: &self.name,
            scheduled: tick.is_some_and(|(run, at)| run == super::schedule::run_id(at)),
        }
    }

    /// When the schedule comes next, from now: what came due while the run was under way is not made up for.
    fn next_run(&self) -> Option<DateTime<Utc>> {
        if self.experiment.spec.suspend {
            return None;
        }
        super::validate::schedule(&self.experiment.spec)
            .ok()
            .flatten()?
            .after(self.now())
    }

    fn finish(&self, from: &ChaosExperimentStatus, ending: &Ending, steady_again_at: Option<DateTime<Utc>>) -> Action {
        let mut last = from.clone();
        if let Some(samples) = &self.observed.samples {
            last.probes = samples.iter().map(super::samples::ProbeSamples::status).collect();
        }
        Action::Write(Box::new(self.pen().finish(
            &last,
            ending,
            steady_again_at,
            self.next_run(),
        )))
    }
}
