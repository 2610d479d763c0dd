//! What is worth an event: on the experiment, and on the pods that were hurt, so that whoever is on call sees why.
//!
//! Pure. In: the status before and after a write. Out: notes.

use valerix_crds::names::condition::RECOVERED;
use valerix_crds::{ChaosExperimentStatus, ChaosPhase, TargetState, TargetStatus, Verdict};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it deserves a look.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The pod that it is about; none is the experiment.
    pub victim: Option<(String, String)>,
}

/// The notes on one write.
pub fn news(experiment: &str, before: &ChaosExperimentStatus, after: &ChaosExperimentStatus) -> Vec<Note> {
    let kind = after
        .summary
        .as_ref()
        .map(|summary| summary.kind.clone())
        .unwrap_or_default();
    let run = after.run.as_deref().unwrap_or_default();
    let names = || {
        after
            .targets
            .iter()
            .map(|target| target.pod.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut notes = Vec::new();
    let mut say = |warning, reason, message: String| {
        notes.push(Note {
            warning,
            reason,
            message,
            victim: None,
        });
    };
    if before.phase != after.phase && after.phase == Some(ChaosPhase::Running) {
        say(false, "ExperimentStarted", format!("run {run}: {kind} on {}", names()));
    }
    if before.injected_at.is_none() && after.injected_at.is_some() {
        say(
            false,
            "FaultInjected",
            format!("run {run}: {kind} is on in {}", names()),
        );
    }
    if before.verdict != after.verdict && after.reason.as_deref() == Some("SteadyStateDeviated") {
        say(true, "SteadyStateDeviated", after.message.clone().unwrap_or_default());
    }
    if !is_recovered(before) && is_recovered(after) && after.intent_at.is_some() {
        say(
            false,
            "FaultRecovered",
            format!("run {run}: the fault was read back as gone"),
        );
    }
    if before.phase != after.phase && after.phase.is_some_and(ChaosPhase::is_terminal) {
        let (warning, reason) = match after.verdict {
            Some(Verdict::Pass) => (false, "VerdictPass"),
            Some(Verdict::Fail) => (true, "VerdictFail"),
            Some(Verdict::Stopped) => (false, "RunStopped"),
            Some(Verdict::Skipped) => (true, "RunSkipped"),
            Some(Verdict::NotEvaluated) => (false, "VerdictNotEvaluated"),
            _ => (true, "VerdictError"),
        };
        let time = after
            .time_to_recover
            .as_ref()
            .map(|time| format!(", recovered in {time}"))
            .unwrap_or_default();
        let why = (
            after.reason.as_deref().unwrap_or_default(),
            after.message.as_deref().unwrap_or_default(),
        );
        say(warning, reason, format!("run {run}: {}: {}{time}", why.0, why.1));
    }
    let is_active = |target: &&TargetStatus| matches!(target.state, TargetState::Active);
    for target in after.targets.iter().filter(is_active) {
        let known = before
            .targets
            .iter()
            .any(|old| old.uid == target.uid && old.state == TargetState::Active);
        if !known {
            notes.push(Note {
                warning: true,
                reason: "ChaosInjected",
                message: format!("{kind} by ChaosExperiment {experiment}, run {run}"),
                victim: Some((target.pod.clone(), target.uid.clone())),
            });
        }
    }
    notes
}

fn is_recovered(status: &ChaosExperimentStatus) -> bool {
    crate::runtime::conditions::is_true(&status.conditions, RECOVERED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::at;

    #[test]
    fn a_run_is_told_once_each_step() {
        let mut status = ChaosExperimentStatus {
            run: Some("r".into()),
            ..ChaosExperimentStatus::default()
        };
        let mut step = |change: &dyn Fn(&mut ChaosExperimentStatus)| {
            let before = status.clone();
            change(&mut status);
            news("slow", &before, &status)
                .into_iter()
                .map(|note| note.reason)
                .collect::<Vec<_>>()
        };
        let target = TargetStatus {
            pod: "a".into(),
            uid: "u".into(),
            state: TargetState::Intended,
            message: None,
        };
        assert_eq!(
            step(&|status| {
                status.phase = Some(ChaosPhase::Running);
                status.targets = vec![target.clone()];
            }),
            ["ExperimentStarted"]
        );
        assert_eq!(
            step(&|status| status.targets[0].state = TargetState::Active),
            ["ChaosInjected"]
        );
        assert_eq!(step(&|status| status.injected_at = Some(at(0))), ["FaultInjected"]);
        assert_eq!(
            step(&|status| status.phase = Some(ChaosPhase::Recovering)),
            Vec::<&str>::new()
        );
        assert_eq!(
            step(&|status| {
                status.phase = Some(ChaosPhase::Completed);
                status.verdict = Some(Verdict::Pass);
            }),
            ["VerdictPass"]
        );
        assert_eq!(step(&|_| {}), Vec::<&str>::new());
    }
}
