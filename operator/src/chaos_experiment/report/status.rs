//! Step 5: what the user reads.
//!
//! Pure. In: the status so far and what happened. Out: the status to write. Each function is one step of a run, so the
//! words, the conditions and the ready-made texts of that step stand in one place.

use super::history::{self, remember, skipped};
use super::verdict::{Ending, Reason};
use crate::chaos_experiment::observed::PodView;
use crate::chaos_experiment::probes::samples::Samples;
use crate::chaos_experiment::validate::Plan;
use crate::runtime::Violation;
use crate::runtime::conditions::{ConditionUpdate, set_condition};
use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use valerix_crds::names::RUN_ANNOTATION;
use valerix_crds::names::condition::{COMPLETED, INJECTED, RECOVERED, STEADY_STATE, TARGETS_SELECTED};
use valerix_crds::{
    ChaosExperimentStatus, ChaosPhase, ChaosSummary, ConditionStatus, SparedPod, TargetState, TargetStatus, Verdict,
};

/// Reason of condition Recovered when somebody made us believe it.
pub const FORCED: &str = "Forced";
/// The longest message that status takes.
const MESSAGE_LIMIT: usize = 1_024;
/// The longest message of one target.
pub(super) const TARGET_MESSAGE_LIMIT: usize = 256;

/// What asked for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Identity of the run.
    pub run: String,
    /// The tick, if a schedule asked.
    pub tick: Option<DateTime<Utc>>,
    /// The annotation's value, if the annotation asked.
    pub requested: Option<String>,
    /// A tick that came due at the same moment and is skipped for this run.
    pub skipped: Option<DateTime<Utc>>,
    /// When the schedule comes next, if there is one.
    pub next: Option<DateTime<Utc>>,
}

/// Writes statuses of one spec at one moment.
#[derive(Clone, Debug)]
pub struct StatusEditor {
    /// Generation of the spec that is acted on.
    pub generation: i64,
    /// Hash of what a run of it acts on.
    pub spec_hash: String,
    /// Now.
    pub now: DateTime<Utc>,
}

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
            status.summary = Some(summary(kind, String::new(), next));
            return status;
        }
        if let Some(summary) = &mut status.summary {
            summary.next = next.map(next_text).unwrap_or_default();
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
            summary: Some(summary(Some(kind), String::new(), start.next)),
            ..ChaosExperimentStatus::default()
        };
        if let Some(tick) = start.skipped {
            let past = skipped(&status, tick, Reason::RunUnderWay);
            remember(&mut status.history, past);
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
        remember(&mut status.history, past);
        status
    }

    /// The run waits for something that will come.
    pub fn wait(&self, before: &ChaosExperimentStatus, reason: &str, message: &str) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.observed_generation = self.generation;
        self.say(&mut status, reason, message);
        status
    }

    /// The intent: who will be hurt, written before anybody is.
    pub fn intend(
        &self,
        before: &ChaosExperimentStatus,
        plan: &Plan,
        victims: &[PodView],
        ready: usize,
        seed: &str,
    ) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.observed_generation = self.generation;
        status.spec_hash = Some(self.spec_hash.clone());
        status.phase = Some(ChaosPhase::Running);
        status.verdict = Some(Verdict::Awaited);
        status.intent_at = Some(milliseconds(self.now));
        status.fault_ended_at = None;
        status.ready_before = Some(u32::try_from(ready).unwrap_or(u32::MAX));
        status.targets = intended(victims);
        status.seed = Some(seed.to_owned());
        let capped = if plan.capped {
            format!(
                "; spec.duration is cut to {:?}, the operator's chaos.maxDuration",
                plan.duration
            )
        } else {
            String::new()
        };
        let injecting = format!("{} is being injected{capped}", plan.fault.kind.name);
        self.say(&mut status, "Injecting", &injecting);
        let selected = format!("{} of {ready} ready pods{capped}", victims.len());
        self.condition(
            &mut status,
            TARGETS_SELECTED,
            ConditionStatus::True,
            "Selected",
            &selected,
        );
        self.condition(
            &mut status,
            INJECTED,
            ConditionStatus::False,
            "Injecting",
            "no target has reported the fault yet",
        );
        if !plan.probes.is_empty() {
            self.condition(
                &mut status,
                STEADY_STATE,
                ConditionStatus::True,
                "HeldBefore",
                "every probe passed before the fault",
            );
        }
        self.condition(
            &mut status,
            RECOVERED,
            ConditionStatus::False,
            "FaultIntended",
            "the fault is not over",
        );
        count_injected(&mut status);
        status
    }

    /// Who would be hurt and who would not, of a run that hurts nobody.
    pub fn would_hurt(
        &self,
        before: &ChaosExperimentStatus,
        victims: &[PodView],
        spared: Vec<SparedPod>,
        seed: &str,
    ) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.targets = intended(victims);
        status.spared = spared;
        status.seed = Some(seed.to_owned());
        status
    }

    /// One target or more changed.
    pub fn targets(&self, before: &ChaosExperimentStatus, targets: Vec<TargetStatus>) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.targets = targets
            .into_iter()
            .map(|mut target| {
                target.message = target.message.map(|message| cut(&message, TARGET_MESSAGE_LIMIT));
                target
            })
            .collect();
        if status.phase == Some(ChaosPhase::Running) {
            count_injected(&mut status);
        }
        status
    }

    /// Every target that could be is hurt, since `at`.
    pub fn injected(&self, before: &ChaosExperimentStatus, at: DateTime<Utc>) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.injected_at = Some(milliseconds(at));
        let all = status.targets.iter().all(hurt);
        let (reason, message) = if all {
            ("Injected", "every target reports the fault or was evicted")
        } else {
            ("PartlyInjected", "some targets were refused; see status.targets")
        };
        self.condition(&mut status, INJECTED, ConditionStatus::True, reason, message);
        self.say(&mut status, "FaultActive", "the fault is on");
        status
    }

    /// The verdict is known before the run has ended; what follows does not change it.
    pub fn decide(&self, before: &ChaosExperimentStatus, ending: &Ending) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.verdict = Some(ending.verdict);
        self.say(&mut status, ending.reason.as_str(), &ending.message);
        if ending.reason == Reason::SteadyStateDeviated {
            self.condition(
                &mut status,
                STEADY_STATE,
                ConditionStatus::False,
                "Deviated",
                &ending.message,
            );
        }
        if status.injected_at.is_none() {
            self.condition(
                &mut status,
                INJECTED,
                ConditionStatus::False,
                ending.reason.as_str(),
                &ending.message,
            );
        }
        status
    }

    /// The fault is over, or must be.
    pub fn recovering(&self, before: &ChaosExperimentStatus, ended_at: Option<DateTime<Utc>>) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.phase = Some(ChaosPhase::Recovering);
        status.fault_ended_at = ended_at.map(milliseconds).or(status.fault_ended_at);
        if status.verdict == Some(Verdict::Awaited) {
            self.say(
                &mut status,
                "Recovering",
                "the fault is over; the steady state is awaited",
            );
        }
        self.condition(
            &mut status,
            RECOVERED,
            ConditionStatus::False,
            "Recovering",
            "the fault is being read back as gone",
        );
        status
    }

    /// Who has not said yet that the fault is gone.
    pub fn awaiting(&self, before: &ChaosExperimentStatus, pods: &[&str]) -> ChaosExperimentStatus {
        let mut status = before.clone();
        let message = format!(
            "waiting for a report without the fault from {}; a pod that is deleted counts as recovered, and annotation {}=true gives up waiting",
            pods.join(", "),
            valerix_crds::names::FORCE_FINALIZE_ANNOTATION
        );
        self.condition(
            &mut status,
            RECOVERED,
            ConditionStatus::False,
            "AwaitingReport",
            &message,
        );
        status
    }

    /// The fault was read back as gone, or somebody forced us to believe it.
    pub fn recovered(&self, before: &ChaosExperimentStatus, forced: bool) -> ChaosExperimentStatus {
        let mut status = before.clone();
        // A fault that never was has no end, and nothing has to cool down. Who says that it is over was hurt.
        let hurt = |target: &TargetStatus| target.active_at.is_some() || target.state == TargetState::Recovered;
        if status.targets.iter().any(hurt) {
            status.fault_ended_at = status.fault_ended_at.or(Some(milliseconds(self.now)));
        }
        for target in &mut status.targets {
            if matches!(target.state, TargetState::Active | TargetState::Injecting) {
                target.state = TargetState::Recovered;
            }
        }
        if forced {
            let message = format!(
                "forced by annotation {}; the fault was not read back as gone",
                valerix_crds::names::FORCE_FINALIZE_ANNOTATION
            );
            self.condition(&mut status, RECOVERED, ConditionStatus::True, FORCED, &message);
        } else {
            self.condition(
                &mut status,
                RECOVERED,
                ConditionStatus::True,
                "ReadBack",
                "the fault was read back as gone",
            );
        }
        status
    }

    /// The end of a run.
    pub fn finish(
        &self,
        before: &ChaosExperimentStatus,
        ending: &Ending,
        steady_again_at: Option<DateTime<Utc>>,
        next: Option<DateTime<Utc>>,
    ) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.observed_generation = self.generation;
        if status.run.is_some() {
            status.spec_hash = Some(self.spec_hash.clone());
        }
        status.phase = Some(ending.phase);
        status.verdict = Some(ending.verdict);
        self.say(&mut status, ending.reason.as_str(), &ending.message);
        status.completed_at = Some(milliseconds(self.now));
        if let Some(steady) = steady_again_at {
            status.steady_again_at = Some(milliseconds(steady));
            status.time_to_recover = status.fault_ended_at.map(|ended| time_to_recover(steady - ended));
        }
        status.next_run_at = next.map(milliseconds);
        if let Some(summary) = &mut status.summary {
            summary.next = next.map(next_text).unwrap_or_default();
        }
        let (reason, message) = (ending.reason.as_str(), ending.message.as_str());
        if status.intent_at.is_none() {
            self.condition(&mut status, TARGETS_SELECTED, ConditionStatus::False, reason, message);
            self.condition(&mut status, INJECTED, ConditionStatus::False, reason, message);
            self.condition(
                &mut status,
                RECOVERED,
                ConditionStatus::True,
                "NothingInjected",
                "there is no fault to be undone",
            );
        }
        if ending.reason == Reason::DryRun {
            self.condition(&mut status, TARGETS_SELECTED, ConditionStatus::True, reason, message);
        }
        if let Some(run) = status.run.clone() {
            let past = history::over(run, &status, ending, milliseconds(self.now));
            remember(&mut status.history, past);
        }
        let (steady, word) = match ending.reason {
            Reason::SteadyStateHeld => (ConditionStatus::True, "Held"),
            Reason::SteadyStateDeviated => (ConditionStatus::False, "Deviated"),
            Reason::DidNotRecover => (ConditionStatus::False, "DidNotRecover"),
            Reason::SteadyStateNotMet => (ConditionStatus::False, "NotMet"),
            _ => (ConditionStatus::Unknown, "NotEvaluated"),
        };
        self.condition(&mut status, STEADY_STATE, steady, word, message);
        self.condition(&mut status, COMPLETED, ConditionStatus::True, reason, message);
        status
    }

    fn say(&self, status: &mut ChaosExperimentStatus, reason: &str, message: &str) {
        status.reason = Some(reason.to_owned());
        status.message = Some(cut(message, MESSAGE_LIMIT));
    }

    fn condition(
        &self,
        status: &mut ChaosExperimentStatus,
        kind: &str,
        value: ConditionStatus,
        reason: &str,
        message: &str,
    ) {
        let update = ConditionUpdate {
            kind,
            status: value,
            reason,
            message: cut(message, MESSAGE_LIMIT),
        };
        set_condition(&mut status.conditions, update, self.generation, self.now);
    }
}

fn intended(victims: &[PodView]) -> Vec<TargetStatus> {
    let target = |pod: &PodView| TargetStatus {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        state: TargetState::Intended,
        message: None,
        active_at: None,
        refused_by: None,
        replaced_at: None,
        ready_again_at: None,
    };
    victims.iter().map(target).collect()
}

/// The verdict that stands already, if any.
pub fn decided(status: &ChaosExperimentStatus) -> Option<Ending> {
    if matches!(status.verdict, None | Some(Verdict::Awaited | Verdict::Unknown)) {
        return None;
    }
    let reason = status.reason.as_deref().and_then(Reason::parse)?;
    let ending = Ending::new(reason, status.message.clone().unwrap_or_default());
    Some(match status.verdict {
        Some(Verdict::Stopped) => ending.stopped(),
        _ => ending,
    })
}

/// What the probes saw, as status holds it, if it is worth a write now: a failure at once, passes every few seconds.
pub fn probes(before: &ChaosExperimentStatus, samples: &Samples, now: DateTime<Utc>) -> Option<ChaosExperimentStatus> {
    let probes: Vec<_> = samples
        .iter()
        .map(|own| {
            let mut status = own.status();
            status.first_failure_at = status.first_failure_at.map(milliseconds);
            status.last_at = status.last_at.map(milliseconds);
            status
        })
        .collect();
    let written = before.probes.iter().filter_map(|probe| probe.last_at).max();
    let failed = |list: &[valerix_crds::ProbeStatus]| list.iter().map(|probe| u64::from(probe.failed)).sum::<u64>();
    let due = written.is_none_or(|at| now - at >= TimeDelta::seconds(2)) || failed(&probes) != failed(&before.probes);
    (due && probes != before.probes).then(|| ChaosExperimentStatus {
        probes,
        ..before.clone()
    })
}

/// Whether any pod was hurt in this run, as far as anybody has seen.
pub fn was_injected(status: &ChaosExperimentStatus) -> bool {
    status.intent_at.is_some() && status.fault_ended_at.is_some()
}

/// `1.4s`, `75.0s`.
fn time_to_recover(delta: TimeDelta) -> String {
    format!("{:.1}s", delta.max(TimeDelta::zero()).as_seconds_f64())
}

fn hurt(target: &TargetStatus) -> bool {
    target.active_at.is_some() && matches!(target.state, TargetState::Active | TargetState::Recovered)
}

fn count_injected(status: &mut ChaosExperimentStatus) {
    let injected = status.targets.iter().filter(|target| hurt(target)).count();
    let text = format!("{injected}/{}", status.targets.len());
    if let Some(summary) = &mut status.summary {
        summary.injected = text;
    }
}

fn summary(kind: Option<&str>, injected: String, next: Option<DateTime<Utc>>) -> ChaosSummary {
    ChaosSummary {
        kind: kind.unwrap_or_default().to_owned(),
        injected,
        next: next.map(next_text).unwrap_or_default(),
    }
}

pub(super) fn next_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A time as status holds it.
pub fn milliseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

pub(super) fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

#[cfg(test)]
mod tests;
