//! What is written of an experiment without a run under way, and of the moment when one is asked for.
//!
//! Pure.

use super::{Start, StatusEditor, milliseconds, summary};
use crate::chaos_experiment::report::history::{remember, skipped, trend};
use crate::chaos_experiment::report::text::next_text;
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::runtime::Violation;
use chrono::{DateTime, Utc};
use valerix_crds::names::RUN_ANNOTATION;
use valerix_crds::names::condition::{COMPLETED, INJECTED, RECOVERED, STEADY_STATE, TARGETS_SELECTED};
use valerix_crds::{ChaosExperimentStatus, ChaosPhase, ConditionStatus, Verdict};

impl StatusEditor {
    /// The status of an object without a run under way. What the last run came to stays as it is: what has happened to
    /// the spec since is said by condition Completed alone.
    pub fn idle(
        &self,
        before: &ChaosExperimentStatus,
        kind: Option<&str>,
        next: Option<DateTime<Utc>>,
    ) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.next_run_at = next.map(milliseconds);
        if status.run.is_none() {
            status.observed_generation = self.generation;
            // What was wrong with the spec is corrected, or nobody has looked at it yet.
            if status.phase.is_none() || status.reason.as_deref() == Some(Reason::InvalidSpec.as_str()) {
                status.phase = Some(ChaosPhase::Pending);
                status.verdict = Some(Verdict::Awaited);
            }
            status.summary = Some(summary(kind, next, &status.history));
            return status;
        }
        if let Some(summary) = &mut status.summary {
            summary.next = next.map(next_text).unwrap_or_default();
            // A version that knew of no such text may have written the history.
            summary.history = trend(&status.history);
        }
        let same_spec = status
            .spec_hash
            .as_ref()
            .map_or(status.observed_generation == self.generation, |hash| {
                *hash == self.spec_hash
            });
        if same_spec {
            status.observed_generation = self.generation;
            let (reason, message) = (
                status.reason.clone().unwrap_or_default(),
                status.message.clone().unwrap_or_default(),
            );
            self.condition(&mut status, COMPLETED, ConditionStatus::True, &reason, &message);
        } else {
            let message = format!(
                "spec was changed after the run, and this status speaks of generation {}; the changed spec runs at the next scheduled time, or when annotation {RUN_ANNOTATION} is set to a new value",
                status.observed_generation
            );
            self.condition(&mut status, COMPLETED, ConditionStatus::False, "SpecChanged", &message);
        }
        status
    }

    /// The status of an object whose spec cannot be acted on. A run that was is not touched by that.
    pub fn invalid(&self, before: &ChaosExperimentStatus, error: &Violation) -> ChaosExperimentStatus {
        let ending = Ending::new(Reason::InvalidSpec, error.to_string());
        if before.run.is_none() {
            let said = before.observed_generation == self.generation
                && before.reason.as_deref() == Some(ending.reason.as_str());
            return if said {
                before.clone()
            } else {
                self.finish(&self.idle(before, None, None), &ending, None, None)
            };
        }
        let mut status = before.clone();
        status.next_run_at = None;
        if let Some(summary) = &mut status.summary {
            summary.next.clear();
        }
        // A run of this very spec was refused for it, so all is said.
        let refused = before.reason.as_deref() == Some(ending.reason.as_str());
        if refused && before.observed_generation == self.generation {
            return status;
        }
        let (reason, message) = (ending.reason.as_str(), ending.message.as_str());
        self.condition(&mut status, COMPLETED, ConditionStatus::False, reason, message);
        status
    }

    /// Says why nothing was begun yet, unless a run has ended before.
    pub fn explain(&self, status: &mut ChaosExperimentStatus, reason: &str, message: &str) {
        if status.phase == Some(ChaosPhase::Pending) {
            self.say(status, reason, message);
        }
    }

    /// A run was asked for: nothing of an earlier one is left but what plans the next.
    pub fn begin(&self, before: &ChaosExperimentStatus, kind: &str, start: &Start) -> ChaosExperimentStatus {
        let mut status = ChaosExperimentStatus {
            observed_generation: self.generation,
            phase: Some(ChaosPhase::Pending),
            verdict: Some(Verdict::Awaited),
            reason: Some("Preparing".into()),
            message: Some("checking the limits and the steady state before the fault".into()),
            run: Some(start.run.clone()),
            spec_hash: Some(self.spec_hash.clone()),
            scheduled_at: start.tick,
            last_requested_run: start.requested.clone().or_else(|| before.last_requested_run.clone()),
            last_scheduled_at: start.tick.or(start.skipped).or(before.last_scheduled_at),
            next_run_at: start.next.map(milliseconds),
            // The cooldown is counted from it until this run has a fault of its own.
            fault_ended_at: before.fault_ended_at,
            history: before.history.clone(),
            conditions: before.conditions.clone(),
            summary: Some(summary(Some(kind), start.next, &before.history)),
            ..ChaosExperimentStatus::default()
        };
        if let Some(tick) = start.skipped {
            let past = skipped(&status, tick, Reason::RunUnderWay);
            remember(&mut status, past);
        }
        for (name, condition) in [
            (TARGETS_SELECTED, ConditionStatus::Unknown),
            (INJECTED, ConditionStatus::False),
            (STEADY_STATE, ConditionStatus::Unknown),
            (RECOVERED, ConditionStatus::Unknown),
            (COMPLETED, ConditionStatus::False),
        ] {
            self.condition(&mut status, name, condition, "Preparing", "the run has not begun yet");
        }
        status
    }

    /// A scheduled time came and is skipped; what the last run came to stays as it is.
    pub fn skip_tick(
        &self,
        before: &ChaosExperimentStatus,
        tick: DateTime<Utc>,
        reason: Reason,
        next: Option<DateTime<Utc>>,
    ) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.last_scheduled_at = Some(tick);
        status.next_run_at = next.map(milliseconds);
        if let Some(summary) = &mut status.summary {
            summary.next = next.map(next_text).unwrap_or_default();
        }
        let past = skipped(before, tick, reason);
        remember(&mut status, past);
        status
    }
}
