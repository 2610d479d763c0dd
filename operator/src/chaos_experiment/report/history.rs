//! The runs that are over, as status remembers them.
//!
//! Pure. An entry is made in the same write that ends its run, so that none is lost and none counts twice.

use super::text::{TARGET_MESSAGE_LIMIT, cut, next_text};
use super::verdict::{Ending, Reason};
use chrono::{DateTime, Utc};
use valerix_crds::{AskedBy, ChaosExperimentStatus, PastRun, Verdict};

/// How many runs are remembered.
const HISTORY_LIMIT: usize = 20;
/// How many targets of a run are remembered: an object of the API is 1.5 MB at most.
const HISTORY_TARGETS: usize = 10;

/// A run that is over; `status` is what its last write says.
pub fn over(run: String, status: &ChaosExperimentStatus, ending: &Ending, at: DateTime<Utc>) -> PastRun {
    PastRun {
        run,
        kind: kind_of(status),
        at,
        verdict: ending.verdict,
        reason: ending.reason.as_str().to_owned(),
        recovery: status.time_to_recover.clone(),
        times: None,
        asked_by: Some(asked_by(status)),
        began_at: status.intent_at,
        message: Some(cut(&ending.message, TARGET_MESSAGE_LIMIT)),
        targets: status.targets.iter().take(HISTORY_TARGETS).cloned().collect(),
    }
}

/// A scheduled time that was skipped.
pub fn skipped(status: &ChaosExperimentStatus, tick: DateTime<Utc>, reason: Reason) -> PastRun {
    PastRun {
        run: next_text(tick),
        kind: kind_of(status),
        at: tick,
        verdict: Verdict::Skipped,
        reason: reason.as_str().to_owned(),
        recovery: None,
        times: None,
        asked_by: Some(AskedBy::Schedule),
        began_at: None,
        message: None,
        targets: Vec::new(),
    }
}

/// Puts what is over before what was over earlier. Scheduled times that were skipped for the same reason again and again are
/// one entry: else a window with a tick a minute would push every run out. What a person asked for is never merged.
pub fn remember(history: &mut Vec<PastRun>, past: PastRun) {
    let again = |before: &&mut PastRun| {
        let skipped = past.verdict == Verdict::Skipped && past.asked_by == Some(AskedBy::Schedule);
        skipped && (before.verdict, &before.reason, before.asked_by) == (past.verdict, &past.reason, past.asked_by)
    };
    if let Some(before) = history.first_mut().filter(again) {
        let times = before.times.unwrap_or(1).saturating_add(1);
        *before = PastRun {
            times: Some(times),
            ..past
        };
        return;
    }
    history.insert(0, past);
    history.truncate(HISTORY_LIMIT);
}

/// What asked for the run that status speaks of.
fn asked_by(status: &ChaosExperimentStatus) -> AskedBy {
    if status.scheduled_at.is_some() {
        AskedBy::Schedule
    } else if status.last_requested_run.is_some() {
        AskedBy::Annotation
    } else {
        AskedBy::Creation
    }
}

fn kind_of(status: &ChaosExperimentStatus) -> String {
    let summary = status.summary.as_ref();
    summary.map(|summary| summary.kind.clone()).unwrap_or_default()
}
