//! `spec.after`: a run waits until another experiment of its namespace has ended with a verdict.
//!
//! Pure. In: every experiment of the namespace. Out: how the preceding one stands ([`preceding`]), and whether a run may go
//! on ([`may_follow`]). What counts is the last run of the preceding experiment as its spec stands now: a run that is asked
//! for, under way, or of a spec that was changed since is awaited and not believed.

use super::hold::Hold;
use super::observed::Preceding;
use super::report::verdict::{Ending, Reason};
use super::requested::is_handled;
use super::validate::spec_hash;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::names::RUN_ANNOTATION;
use valerix_crds::{After, ChaosExperiment, ChaosExperimentStatus, ChaosPhase, RequiredVerdict, Verdict};

/// How the experiment stands that `experiment` names, if it names one.
pub fn preceding(experiment: &ChaosExperiment, all: &[Arc<ChaosExperiment>]) -> Option<Preceding> {
    let after = experiment.spec.after.as_ref()?;
    if let Some(circle) = circle(experiment, all) {
        return Some(Preceding::Circle(circle));
    }
    let Some(named) = find(all, &after.experiment) else {
        return Some(Preceding::Awaited("does not exist".into()));
    };
    let empty = ChaosExperimentStatus::default();
    let status = named.status.as_ref().unwrap_or(&empty);
    let asked = named.annotations().get(RUN_ANNOTATION).filter(|run| !run.is_empty());
    if asked.is_some_and(|run| !is_handled(run, status)) {
        return Some(Preceding::Awaited("has not begun the run that it was asked for".into()));
    }
    if status.run.is_none() {
        return Some(Preceding::Awaited("has not run yet".into()));
    }
    if !status.phase.is_some_and(ChaosPhase::is_terminal) {
        let phase = status.phase.unwrap_or_default();
        return Some(Preceding::Awaited(format!("is {phase:?}")));
    }
    if status
        .spec_hash
        .as_ref()
        .is_some_and(|hash| *hash != spec_hash(&named.spec))
    {
        return Some(Preceding::Awaited(
            "was changed after its last run; run it again".into(),
        ));
    }
    let reason = status.reason.clone().unwrap_or_default();
    Some(Preceding::Ended(status.verdict.unwrap_or_default(), reason))
}

/// Whether a run may go on.
///
/// # Errors
/// Why it never may, or what it waits for.
pub fn may_follow(after: &After, preceding: &Preceding, now: DateTime<Utc>) -> Result<(), Hold> {
    let name = &after.experiment;
    match preceding {
        Preceding::Circle(names) => Err(Ending::new(
            Reason::InvalidSpec,
            format!(
                "spec.after.experiment: {} is a circle, in which each waits for the next and none begins; remove spec.after from one of them",
                names.join(" waits for ")
            ),
        )
        .into()),
        Preceding::Awaited(why) => Err(Hold::Waiting {
            reason: "WaitingForExperiment",
            message: format!(
                "waiting until experiment {name} has ended with {}; it {why}",
                wanted(after.verdict)
            ),
            until: now + TimeDelta::seconds(2),
        }),
        Preceding::Ended(verdict, _) if satisfies(*verdict, after.verdict) => Ok(()),
        Preceding::Ended(verdict, reason) => Err(Ending::new(
            Reason::PrecedingVerdict,
            format!(
                "experiment {name} ended with {verdict:?} ({reason}), and spec.after.verdict is {}; see its status, and run this one again once it has ended so",
                wanted(after.verdict)
            ),
        )
        .into()),
    }
}

fn wanted(verdict: RequiredVerdict) -> &'static str {
    match verdict {
        RequiredVerdict::Pass | RequiredVerdict::Unknown => "Pass",
        RequiredVerdict::Fail => "Fail",
        RequiredVerdict::Stopped => "Stopped",
        RequiredVerdict::Error => "Error",
        RequiredVerdict::Skipped => "Skipped",
        RequiredVerdict::NotEvaluated => "NotEvaluated",
        RequiredVerdict::Any => "any verdict",
    }
}

/// A value of a newer version is read as Pass, which the fewest runs satisfy.
fn satisfies(verdict: Verdict, required: RequiredVerdict) -> bool {
    match required {
        RequiredVerdict::Pass | RequiredVerdict::Unknown => verdict == Verdict::Pass,
        RequiredVerdict::Fail => verdict == Verdict::Fail,
        RequiredVerdict::Stopped => verdict == Verdict::Stopped,
        RequiredVerdict::Error => verdict == Verdict::Error,
        RequiredVerdict::Skipped => verdict == Verdict::Skipped,
        RequiredVerdict::NotEvaluated => verdict == Verdict::NotEvaluated,
        RequiredVerdict::Any => true,
    }
}

fn find<'a>(all: &'a [Arc<ChaosExperiment>], name: &str) -> Option<&'a Arc<ChaosExperiment>> {
    all.iter().find(|other| other.name_any() == name)
}

/// The way from an experiment over those that it waits for back to itself, if there is one.
fn circle(experiment: &ChaosExperiment, all: &[Arc<ChaosExperiment>]) -> Option<Vec<String>> {
    let own = experiment.name_any();
    let mut names = vec![own.clone()];
    let mut next = experiment.spec.after.as_ref().map(|after| after.experiment.clone());
    while let Some(name) = next {
        let seen = names.contains(&name);
        names.push(name.clone());
        if name == own {
            return Some(names);
        }
        // A circle of others is theirs: whoever waits for one of them is told how it ended.
        if seen {
            return None;
        }
        let found = find(all, &name)?;
        next = found.spec.after.as_ref().map(|after| after.experiment.clone());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{at, experiment};
    use rstest::rstest;
    use serde_json::json;

    fn named(name: &str, after: Option<&str>) -> ChaosExperiment {
        let mut spec = json!({"target": {"service": "inventory"}, "podKill": {}});
        if let Some(after) = after {
            spec["after"] = json!({"experiment": after});
        }
        let mut made = experiment(spec);
        made.metadata.name = Some(name.into());
        made
    }

    fn ended(mut experiment: ChaosExperiment, phase: ChaosPhase, verdict: Verdict) -> ChaosExperiment {
        experiment.status = Some(ChaosExperimentStatus {
            run: Some("run".into()),
            phase: Some(phase),
            verdict: Some(verdict),
            reason: Some("Why".into()),
            spec_hash: Some(spec_hash(&experiment.spec)),
            ..ChaosExperimentStatus::default()
        });
        experiment
    }

    fn stands(named: ChaosExperiment) -> Preceding {
        preceding(&self::named("second", Some("first")), &[Arc::new(named)]).unwrap()
    }

    #[test]
    fn only_an_end_that_is_of_the_spec_and_the_last_word_counts() {
        let first = named("first", None);
        let passed = ended(first.clone(), ChaosPhase::Completed, Verdict::Pass);
        assert_eq!(stands(passed.clone()), Preceding::Ended(Verdict::Pass, "Why".into()));
        let awaited = |experiment: ChaosExperiment, why: &str| {
            let found = stands(experiment);
            assert!(
                matches!(&found, Preceding::Awaited(said) if said.contains(why)),
                "{found:?}"
            );
        };
        awaited(named("another", None), "does not exist");
        awaited(first.clone(), "has not run yet");
        awaited(ended(first, ChaosPhase::Recovering, Verdict::Fail), "is Recovering");
        let mut changed = passed.clone();
        changed.spec.count = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(2);
        awaited(changed, "was changed after its last run");
        let mut asked = passed.clone();
        asked.annotations_mut().insert(RUN_ANNOTATION.into(), "again".into());
        awaited(asked.clone(), "asked for");
        asked.status.as_mut().unwrap().last_requested_run = Some("again".into());
        assert_eq!(stands(asked), Preceding::Ended(Verdict::Pass, "Why".into()));
        assert_eq!(preceding(&passed, &[]), None, "whoever names none waits for none");
    }

    #[rstest]
    #[case(&[("a", "a")], Some("a waits for a"))]
    #[case(&[("a", "b"), ("b", "a")], Some("a waits for b waits for a"))]
    #[case(&[("a", "b"), ("b", "c"), ("c", "a")], Some("a waits for b waits for c waits for a"))]
    #[case(&[("a", "b"), ("b", "c"), ("c", "b")], None)]
    #[case(&[("a", "b"), ("b", "nobody")], None)]
    fn a_circle_is_refused_by_name(#[case] chain: &[(&str, &str)], #[case] expected: Option<&str>) {
        let all: Vec<_> = chain
            .iter()
            .map(|(name, after)| Arc::new(named(name, Some(after))))
            .collect();
        let found = preceding(&all[0], &all).unwrap();
        let after = all[0].spec.after.clone().unwrap();
        match (expected, may_follow(&after, &found, at(0))) {
            (Some(names), Err(Hold::Refused(ending))) => {
                assert_eq!(ending.reason, Reason::InvalidSpec);
                assert!(ending.message.contains(names), "{}", ending.message);
            }
            (None, Err(Hold::Waiting { reason, message, .. })) => {
                assert_eq!(reason, "WaitingForExperiment");
                assert!(message.contains("experiment b has ended with Pass"), "{message}");
            }
            (expected, found) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn the_verdict_decides_who_follows() {
        let verdicts = [
            Verdict::Pass,
            Verdict::Fail,
            Verdict::Stopped,
            Verdict::Error,
            Verdict::Skipped,
            Verdict::NotEvaluated,
        ];
        let following = |required: &str| {
            let after: After = serde_json::from_value(json!({"experiment": "first", "verdict": required})).unwrap();
            let mut follow = Vec::new();
            for verdict in verdicts {
                match may_follow(&after, &Preceding::Ended(verdict, "Why".into()), at(0)) {
                    Ok(()) => follow.push(verdict),
                    Err(Hold::Refused(ending)) => {
                        assert_eq!(
                            (ending.reason, ending.verdict),
                            (Reason::PrecedingVerdict, Verdict::Skipped)
                        );
                    }
                    Err(waiting) => panic!("{waiting:?}"),
                }
            }
            follow
        };
        for verdict in verdicts {
            assert_eq!(following(&format!("{verdict:?}")), [verdict]);
        }
        assert_eq!(following("Any"), verdicts);
        assert_eq!(following("SomethingNewer"), [Verdict::Pass]);
        let unsaid: After = serde_json::from_value(json!({"experiment": "first"})).unwrap();
        assert_eq!(unsaid.verdict, RequiredVerdict::Pass);
    }
}
