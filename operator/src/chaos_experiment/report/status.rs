//! Step 5: what the user reads.
//!
//! Pure. In: the status so far and what happened. Out: the status to write. Each function of `between` (no run is under
//! way) and `course` (one is) is one step, so the words, the conditions and the ready-made texts of that step stand in one
//! place. Here is what they share, and what is read off a status.

mod between;
mod course;

use super::history::trend;
use super::text::{cut, next_text};
use super::verdict::{Ending, Reason};
use crate::chaos_experiment::probes::samples::Samples;
use crate::runtime::conditions::{ConditionUpdate, set_condition};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use valerix_crds::{ChaosExperimentStatus, ChaosSummary, ConditionStatus, PastRun, Verdict};

/// Reason of condition Recovered when somebody made us believe it.
pub const FORCED: &str = "Forced";
/// The longest message that status takes.
const MESSAGE_LIMIT: usize = 1_024;
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

/// The texts of an experiment that has hurt nobody yet.
fn summary(kind: Option<&str>, next: Option<DateTime<Utc>>, history: &[PastRun]) -> ChaosSummary {
    ChaosSummary {
        kind: kind.unwrap_or_default().to_owned(),
        injected: String::new(),
        next: next.map(next_text).unwrap_or_default(),
        history: trend(history),
    }
}

/// A time as status holds it.
pub fn milliseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

#[cfg(test)]
mod tests;
