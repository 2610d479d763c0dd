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
/// How many verdicts a line of `kubectl get` shows.
const TREND: usize = 10;

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
pub fn remember(status: &mut ChaosExperimentStatus, past: PastRun) {
    let history = &mut status.history;
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
    } else {
        history.insert(0, past);
        history.truncate(HISTORY_LIMIT);
    }
    if let Some(summary) = &mut status.summary {
        summary.history = trend(history);
    }
}

/// The newest verdicts at a glance, in the order of time: the newest is the last.
pub fn trend(history: &[PastRun]) -> String {
    let newest = history.iter().take(TREND).rev();
    newest.map(|past| letter(past.verdict)).collect()
}

fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Pass => 'P',
        Verdict::Fail => 'F',
        Verdict::Error => 'E',
        Verdict::Stopped => 'S',
        Verdict::NotEvaluated => 'N',
        Verdict::Skipped => '-',
        Verdict::Awaited | Verdict::Unknown => '?',
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::at;
    use valerix_crds::ChaosSummary;

    /// A status that was written before there was a text of the history.
    fn written_before() -> ChaosExperimentStatus {
        ChaosExperimentStatus {
            summary: Some(ChaosSummary::default()),
            ..ChaosExperimentStatus::default()
        }
    }

    #[test]
    fn the_newest_ten_verdicts_are_read_in_the_order_of_time() {
        use Verdict::{Awaited, Error, Fail, NotEvaluated, Pass, Skipped, Stopped, Unknown};
        let mut status = written_before();
        let shown = |status: &ChaosExperimentStatus| status.summary.clone().unwrap().history;
        let mut run = 0;
        let mut over = |status: &mut ChaosExperimentStatus, verdict| {
            run += 1;
            let past = PastRun {
                verdict,
                asked_by: Some(AskedBy::Annotation),
                ..skipped(status, at(run), Reason::RunUnderWay)
            };
            remember(status, past);
        };
        for verdict in [Pass, Fail, Error, Stopped, NotEvaluated, Skipped, Awaited, Unknown] {
            over(&mut status, verdict);
        }
        assert_eq!(shown(&status), "PFESN-??");
        for verdict in [Pass, Pass, Fail] {
            over(&mut status, verdict);
        }
        assert_eq!(shown(&status), "FESN-??PPF");

        // What was skipped in a row for one reason is one entry, and one sign.
        let mut status = written_before();
        for tick in 0..3 {
            let past = skipped(&status, at(tick), Reason::RunUnderWay);
            remember(&mut status, past);
        }
        assert_eq!((shown(&status).as_str(), status.history[0].times), ("-", Some(3)));
    }
}
