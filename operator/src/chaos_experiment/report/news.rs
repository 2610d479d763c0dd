//! What is worth an event: on the experiment, and on the pods that were hurt, so that whoever is on call sees why.
//!
//! Pure. In: the status before and after a write. Out: news. Each run is a series of its own: events of several runs in
//! one would say what happened to the pods of the first.

use super::reason::Reason;
use super::status::FORCED;
use crate::runtime::News;
use crate::runtime::conditions::find_condition;
use k8s_openapi::api::core::v1::ObjectReference;
use valerix_crds::names::FORCE_FINALIZE_ANNOTATION;
use valerix_crds::names::condition::{COMPLETED, RECOVERED};
use valerix_crds::{ChaosExperimentStatus, ChaosPhase, TargetState, TargetStatus, Verdict};

/// The longest action that an event takes.
const ACTION_LIMIT: usize = 128;

/// The news of one write.
pub fn news(
    namespace: &str,
    experiment: &str,
    before: &ChaosExperimentStatus,
    after: &ChaosExperimentStatus,
) -> Vec<News> {
    let summary = after.summary.clone().unwrap_or_default();
    let kind = summary.kind.as_str();
    let run = after.run.as_deref().unwrap_or_default();
    let message = after.message.clone().unwrap_or_default();
    let action = action(after);
    let good = |reason: &'static str, note: String| News::good(reason, action.clone(), note);
    let bad = |reason: &'static str, note: String| News::bad(reason, action.clone(), note);
    let names = || {
        let names: Vec<_> = after.targets.iter().map(|target| target.pod.as_str()).collect();
        names.join(", ")
    };
    let mut news = Vec::new();
    if before.phase != after.phase && after.phase == Some(ChaosPhase::Running) {
        let note = format!("run {run}: {kind} on {}; {message}", names());
        news.push(good("ExperimentStarted", note));
    }
    if before.injected_at.is_none() && after.injected_at.is_some() {
        news.push(good("FaultInjected", format!("run {run}: {kind} is on in {}", names())));
    }
    if before.verdict != after.verdict && reason(after) == Some(Reason::SteadyStateDeviated) {
        news.push(bad("SteadyStateDeviated", format!("run {run}: {message}")));
    }
    if let (None, Some(how)) = (recovered(before), recovered(after))
        && after.intent_at.is_some()
    {
        news.push(if how == FORCED {
            let note = format!(
                "run {run}: the finalizer was removed by annotation {FORCE_FINALIZE_ANNOTATION}; the fault was not read back as gone"
            );
            bad("RecoveryForced", note)
        } else {
            good("FaultRecovered", format!("run {run}: the fault was read back as gone"))
        });
    }
    if before.phase != after.phase && after.phase.is_some_and(ChaosPhase::is_terminal) {
        let time = after.time_to_recover.as_ref();
        let time = time.map(|time| format!(", recovered in {time}")).unwrap_or_default();
        let why = after.reason.as_deref().unwrap_or_default();
        let note = format!("run {run}: {why}: {message}{time}");
        news.push(match after.verdict {
            Some(Verdict::Pass) => good("VerdictPass", note),
            Some(Verdict::Fail) => bad("VerdictFail", note),
            Some(Verdict::Stopped) => good("RunStopped", note),
            Some(Verdict::Skipped) => bad("RunSkipped", note),
            Some(Verdict::NotEvaluated) => good("VerdictNotEvaluated", note),
            _ => bad("VerdictError", note),
        });
    }
    if let Some(tick) = after.last_scheduled_at.filter(|_| {
        before.last_scheduled_at != after.last_scheduled_at && after.scheduled_at != after.last_scheduled_at
    }) {
        let why = after.history.first().map(|past| past.reason.as_str());
        let note = if why == Some(Reason::ExcludedWindow.as_str()) {
            format!(
                "the scheduled time {tick} was skipped, because it or the time to begin lies in one of spec.excludedWindows"
            )
        } else {
            format!("the scheduled time {tick} was skipped, because run {run} is under way")
        };
        news.push(bad("ScheduledRunSkipped", note));
    }
    if let (None, Some(error)) = (wrong_spec(before), wrong_spec(after)) {
        news.push(bad("InvalidSpec", error.to_owned()));
    }
    let hurt = after.targets.iter().filter(|target| is_active(target));
    for target in hurt {
        let known = before.targets.iter().any(|old| old.uid == target.uid && is_active(old));
        if !known {
            let note = format!("{kind} by ChaosExperiment {experiment}, run {run}");
            news.push(bad("ChaosInjected", note).about(pod(namespace, target)));
        }
    }
    news
}

/// What makes the events of one run a series of its own: its name and the time of its intent.
fn action(status: &ChaosExperimentStatus) -> String {
    let intent = status.intent_at.map(|at| at.timestamp_millis()).unwrap_or_default();
    let run = status.run.as_deref().unwrap_or_default();
    let text = format!("Run {intent} {run}");
    text.chars().take(ACTION_LIMIT).collect()
}

fn reason(status: &ChaosExperimentStatus) -> Option<Reason> {
    Reason::parse(status.reason.as_deref()?)
}

fn is_active(target: &TargetStatus) -> bool {
    target.state == TargetState::Active
}

/// How the fault was found to be gone, if it was.
fn recovered(status: &ChaosExperimentStatus) -> Option<&str> {
    let found = find_condition(&status.conditions, RECOVERED)?;
    (found.status == "True").then_some(&found.reason)
}

/// What is wrong with a spec whose last run stands.
fn wrong_spec(status: &ChaosExperimentStatus) -> Option<&str> {
    let found = find_condition(&status.conditions, COMPLETED)?;
    let wrong = found.status == "False" && Reason::parse(&found.reason) == Some(Reason::InvalidSpec);
    wrong.then_some(&found.message)
}

fn pod(namespace: &str, target: &TargetStatus) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(target.pod.clone()),
        namespace: Some(namespace.to_owned()),
        uid: Some(target.uid.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::at;
    use crate::runtime::conditions::{ConditionUpdate, set_condition};
    use valerix_crds::ConditionStatus;

    #[test]
    fn a_run_is_told_once_each_step() {
        let mut status = ChaosExperimentStatus {
            run: Some("r".into()),
            ..ChaosExperimentStatus::default()
        };
        let mut step = |change: &dyn Fn(&mut ChaosExperimentStatus)| {
            let before = status.clone();
            change(&mut status);
            news("shop", "slow", &before, &status)
                .into_iter()
                .map(|news| news.reason.into_owned())
                .collect::<Vec<_>>()
        };
        let target = TargetStatus {
            pod: "a".into(),
            uid: "u".into(),
            state: TargetState::Intended,
            message: None,
            active_at: None,
            refused_by: None,
            replaced_at: None,
            ready_again_at: None,
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
            Vec::<String>::new()
        );
        assert_eq!(
            step(&|status| {
                status.phase = Some(ChaosPhase::Completed);
                status.verdict = Some(Verdict::Pass);
            }),
            ["VerdictPass"]
        );
        assert_eq!(step(&|_| {}), Vec::<String>::new());
    }

    #[test]
    fn events_of_two_runs_are_two_series() {
        let ended = |run: &str, intent: i64| {
            let after = ChaosExperimentStatus {
                run: Some(run.into()),
                intent_at: Some(at(intent)),
                phase: Some(ChaosPhase::Completed),
                ..ChaosExperimentStatus::default()
            };
            news("shop", "slow", &ChaosExperimentStatus::default(), &after)
                .remove(0)
                .action
        };
        assert_ne!(ended("a", 1), ended("b", 1));
        assert_ne!(
            ended("a", 1),
            ended("a", 2),
            "a name that was used before is another run"
        );
        assert!(ended(&"x".repeat(128), 1).len() <= ACTION_LIMIT);
    }

    /// The same words again within minutes would not be told.
    #[test]
    fn what_broke_is_told_of_each_run() {
        let broke = |run: &str| {
            let after = ChaosExperimentStatus {
                run: Some(run.into()),
                verdict: Some(Verdict::Fail),
                reason: Some(Reason::SteadyStateDeviated.as_str().into()),
                message: Some("status 503".into()),
                ..ChaosExperimentStatus::default()
            };
            news("shop", "slow", &ChaosExperimentStatus::default(), &after).remove(0)
        };
        assert_eq!(broke("a").note, "run a: status 503");
        assert_ne!(broke("a").note, broke("b").note);
    }

    #[test]
    fn a_forced_finalizer_is_told_as_such() {
        let recovered = |reason: &str| {
            let mut after = ChaosExperimentStatus {
                intent_at: Some(at(0)),
                ..ChaosExperimentStatus::default()
            };
            let update = ConditionUpdate {
                kind: RECOVERED,
                status: ConditionStatus::True,
                reason,
                message: String::new(),
            };
            set_condition(&mut after.conditions, update, 1, at(0));
            news("shop", "slow", &ChaosExperimentStatus::default(), &after).remove(0)
        };
        assert!(recovered("ReadBack").good);
        let forced = recovered(FORCED);
        assert!(
            !forced.good && forced.note.contains(FORCE_FINALIZE_ANNOTATION),
            "{forced:?}"
        );
    }

    #[test]
    fn a_tick_that_is_skipped_for_a_run_is_told() {
        let before = ChaosExperimentStatus {
            run: Some("by-hand".into()),
            ..ChaosExperimentStatus::default()
        };
        let after = ChaosExperimentStatus {
            last_scheduled_at: Some(at(20)),
            ..before.clone()
        };
        let news = news("shop", "slow", &before, &after);
        assert_eq!(news[0].reason, "ScheduledRunSkipped");
        assert!(news[0].note.contains("by-hand"), "{news:?}");
    }
}
