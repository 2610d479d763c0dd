//! What happened in a run, as lines of text, from how its status changes.
//!
//! Pure. The times are those of the events where status has them: a line that is seen late does not lie about when.

use chrono::{DateTime, Utc};
use serde::Serialize;
use valerix_crds::{ChaosExperimentStatus, ChaosPhase, TargetState, TargetStatus, Verdict};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When.
    pub at: DateTime<Utc>,
    /// What, in a sentence.
    pub text: String,
}

/// What has happened between two statuses of one run, in the order of its times.
pub fn news(before: &ChaosExperimentStatus, after: &ChaosExperimentStatus, now: DateTime<Utc>) -> Vec<Moment> {
    // What stands there of an earlier run is not this run's.
    let fresh = ChaosExperimentStatus::default();
    let before = if before.run == after.run { before } else { &fresh };
    let mut told = Vec::new();
    let mut tell = |at: Option<DateTime<Utc>>, text: String| {
        told.push(Moment {
            at: at.unwrap_or(now),
            text,
        });
    };
    if after.phase == Some(ChaosPhase::Pending) && before.message != after.message {
        tell(None, format!("Pending: {}", sentence(after)));
    }
    if before.intent_at.is_none() && after.intent_at.is_some() {
        let pods: Vec<_> = after.targets.iter().map(|target| target.pod.as_str()).collect();
        let of = after.ready_before.map(|ready| format!(" of {ready} ready"));
        tell(
            after.intent_at,
            format!(
                "Running: {} for {}{} pods: {}",
                kind(after),
                pods.len(),
                of.unwrap_or_default(),
                pods.join(", ")
            ),
        );
    }
    for target in &after.targets {
        let known = before.targets.iter().find(|known| known.uid == target.uid);
        if target.state != TargetState::Intended && known.map(|known| known.state) != Some(target.state) {
            tell(began(target), said(target));
        }
    }
    if before.injected_at.is_none() && after.injected_at.is_some() {
        let injected = after.summary.as_ref().map(|summary| summary.injected.as_str());
        tell(
            after.injected_at,
            format!("the fault is on in {} targets", injected.unwrap_or_default()),
        );
    }
    for probe in &after.probes {
        let known = before.probes.iter().find(|known| known.name == probe.name);
        if let Some(failure) = &probe.first_failure
            && known.is_none_or(|known| known.first_failure.is_none())
        {
            tell(
                probe.first_failure_at,
                format!("probe {} failed for the first time: {failure}", probe.name),
            );
        }
    }
    // A run that has not begun still shows the end of the fault before it.
    if after.intent_at.is_some() && before.fault_ended_at.is_none() && after.fault_ended_at.is_some() {
        tell(after.fault_ended_at, "the fault is over".into());
    }
    let over = |status: &ChaosExperimentStatus| status.phase.is_some_and(ChaosPhase::is_terminal);
    if is_judged(after) && !is_judged(before) && !over(after) {
        tell(None, format!("the verdict is known: {}", verdict(after)));
    }
    if before.phase != after.phase && after.phase == Some(ChaosPhase::Recovering) {
        tell(None, "Recovering: the fault is being read back as gone".into());
    }
    if before.steady_again_at.is_none() && after.steady_again_at.is_some() {
        let took = after.time_to_recover.as_deref().unwrap_or("0s");
        tell(after.steady_again_at, format!("steady again, {took} after the fault"));
    }
    if over(after) && !over(before) {
        let phase = after.phase.map(|phase| format!("{phase:?}")).unwrap_or_default();
        tell(after.completed_at, format!("{phase}: {}", verdict(after)));
    }
    told.sort_by_key(|moment| moment.at);
    told
}

/// Verdict, reason and message in one sentence.
pub fn verdict(status: &ChaosExperimentStatus) -> String {
    let word = status.verdict.unwrap_or_default();
    format!("{word:?}, {}", sentence(status))
}

/// Kind of the fault.
pub fn kind(status: &ChaosExperimentStatus) -> &str {
    status.summary.as_ref().map_or("", |summary| summary.kind.as_str())
}

fn is_judged(status: &ChaosExperimentStatus) -> bool {
    !matches!(status.verdict, None | Some(Verdict::Awaited | Verdict::Unknown))
}

fn sentence(status: &ChaosExperimentStatus) -> String {
    let (reason, message) = (status.reason.as_deref(), status.message.as_deref());
    format!("{}: {}", reason.unwrap_or("Unknown"), message.unwrap_or_default())
}

/// A target that is hurt says since when; every other change is told when it is seen.
fn began(target: &TargetStatus) -> Option<DateTime<Utc>> {
    target.active_at.filter(|_| target.state == TargetState::Active)
}

fn said(target: &TargetStatus) -> String {
    let why = target.message.as_deref().map(|why| format!(": {why}"));
    format!("pod {}: {:?}{}", target.pod, target.state, why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::at;
    use valerix_crds::{ChaosSummary, ProbeStatus};

    fn running() -> ChaosExperimentStatus {
        ChaosExperimentStatus {
            phase: Some(ChaosPhase::Running),
            verdict: Some(Verdict::Awaited),
            run: Some("a".into()),
            intent_at: Some(at(1)),
            ready_before: Some(3),
            summary: Some(ChaosSummary {
                kind: "Latency".into(),
                injected: "0/1".into(),
                ..ChaosSummary::default()
            }),
            targets: vec![TargetStatus {
                pod: "inventory-0".into(),
                uid: "uid".into(),
                state: TargetState::Intended,
                message: None,
                active_at: None,
                refused_by: None,
                replaced_at: None,
                ready_again_at: None,
            }],
            ..ChaosExperimentStatus::default()
        }
    }

    fn texts(moments: &[Moment]) -> Vec<(i64, &str)> {
        let second = |moment: &Moment| (moment.at - at(0)).num_seconds();
        moments
            .iter()
            .map(|moment| (second(moment), moment.text.as_str()))
            .collect()
    }

    #[test]
    fn each_step_is_told_once_and_at_its_own_time() {
        let mut before = ChaosExperimentStatus {
            run: Some("an earlier run".into()),
            verdict: Some(Verdict::Fail),
            fault_ended_at: Some(at(-100)),
            ..ChaosExperimentStatus::default()
        };
        let mut pending = before.clone();
        (pending.run, pending.verdict) = (Some("a".into()), Some(Verdict::Awaited));
        pending.phase = Some(ChaosPhase::Pending);
        (pending.reason, pending.message) = (Some("Preparing".into()), Some("checking".into()));
        assert_eq!(
            texts(&news(&before, &pending, at(0))),
            [(0, "Pending: Preparing: checking")]
        );
        assert_eq!(news(&pending, &pending, at(1)), []);

        let mut now = running();
        let told = news(&pending, &now, at(2));
        assert_eq!(
            texts(&told),
            [(1, "Running: Latency for 1 of 3 ready pods: inventory-0")]
        );
        before = now.clone();
        (now.targets[0].state, now.targets[0].active_at) = (TargetState::Active, Some(at(3)));
        now.injected_at = Some(at(3));
        now.probes = vec![ProbeStatus {
            name: "checkout".into(),
            first_failure: Some("status 503".into()),
            first_failure_at: Some(at(4)),
            ..ProbeStatus::default()
        }];
        if let Some(summary) = &mut now.summary {
            summary.injected = "1/1".into();
        }
        let told = news(&before, &now, at(9));
        assert_eq!(
            texts(&told),
            [
                (3, "pod inventory-0: Active"),
                (3, "the fault is on in 1/1 targets"),
                (4, "probe checkout failed for the first time: status 503"),
            ]
        );
        before = now.clone();
        now.phase = Some(ChaosPhase::Completed);
        (now.verdict, now.reason, now.message) = (Some(Verdict::Pass), Some("Held".into()), Some("well".into()));
        (now.fault_ended_at, now.steady_again_at, now.completed_at) = (Some(at(5)), Some(at(6)), Some(at(7)));
        now.time_to_recover = Some("1.0s".into());
        let told = news(&before, &now, at(9));
        assert_eq!(
            texts(&told),
            [
                (5, "the fault is over"),
                (6, "steady again, 1.0s after the fault"),
                (7, "Completed: Pass, Held: well"),
            ]
        );
    }
}
