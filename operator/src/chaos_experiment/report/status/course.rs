//! What is written in the course of a run, from what it waits for to its end.
//!
//! Pure.

use super::{FORCED, StatusEditor, milliseconds};
use crate::chaos_experiment::observed::PodView;
use crate::chaos_experiment::report::history::{self, remember};
use crate::chaos_experiment::report::text::{TARGET_MESSAGE_LIMIT, cut, next_text};
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::chaos_experiment::validate::Plan;
use chrono::{DateTime, TimeDelta, Utc};
use valerix_crds::names::condition::{COMPLETED, INJECTED, RECOVERED, STEADY_STATE, TARGETS_SELECTED};
use valerix_crds::{ChaosExperimentStatus, ChaosPhase, ConditionStatus, SparedPod, TargetState, TargetStatus, Verdict};

impl StatusEditor {
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
        named(&mut status, plan);
        let capped = plan.cut();
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
        plan: &Plan,
        victims: &[PodView],
        spared: Vec<SparedPod>,
        seed: &str,
    ) -> ChaosExperimentStatus {
        let mut status = before.clone();
        named(&mut status, plan);
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
    pub fn injected(&self, before: &ChaosExperimentStatus, plan: &Plan, at: DateTime<Utc>) -> ChaosExperimentStatus {
        let mut status = before.clone();
        status.injected_at = Some(milliseconds(at));
        let all = status.targets.iter().all(hurt);
        let (reason, message) = if all {
            ("Injected", "every target reports the fault or was evicted")
        } else {
            ("PartlyInjected", "some targets were refused; see status.targets")
        };
        self.condition(&mut status, INJECTED, ConditionStatus::True, reason, message);
        self.say(&mut status, "FaultActive", &format!("the fault is on{}", plan.cut()));
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
            remember(&mut status, past);
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
}

/// The fault that is meant by now: it may have been another when the run was asked for.
fn named(status: &mut ChaosExperimentStatus, plan: &Plan) {
    if let Some(summary) = &mut status.summary {
        plan.fault.kind.name.clone_into(&mut summary.kind);
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

/// `1.4s`, `75.0s`.
pub(super) fn time_to_recover(delta: TimeDelta) -> String {
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
