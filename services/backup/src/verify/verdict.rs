//! The rungs of the ladder and what is found on them. Pure.

use crate::record::MAX_MESSAGE;
use chrono::{DateTime, Utc};
use valerix_crds::{TrialRestoreState, TrialRestoreStatus};

/// The most lines that a record takes of what was not looked at. A record that is refused says nothing at all.
const MOST_NOT_RUN: usize = 16;
/// The longest such line. Unit: characters.
const LONGEST_NOT_RUN: usize = 256;

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// The archive is where the record says, whole, and the one that was stored.
    Fetch,
    /// Every dump restores without an error.
    Restore,
    /// Every table is there.
    Structure,
    /// Every table has the rows that its dump had.
    Volume,
    /// The policy's questions have the right answers.
    Semantics,
    /// Sequences are ahead of their columns, indexes are valid.
    Integrity,
    /// It did not take too long.
    Time,
}

/// Why the ladder ends before its top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) rung: Rung,
    pub(super) state: TrialRestoreState,
    pub(super) message: String,
}

impl Finding {
    /// The archive is at fault.
    pub(super) fn failed(rung: Rung, message: String) -> Self {
        Self {
            rung,
            state: TrialRestoreState::Failed,
            message,
        }
    }

    /// It could not be found out.
    pub(super) fn inconclusive(rung: Rung, message: String) -> Self {
        Self {
            rung,
            state: TrialRestoreState::Inconclusive,
            message,
        }
    }
}

/// What was seen on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) databases: usize,
    pub(super) tables: usize,
    pub(super) rows: u64,
    pub(super) restore_seconds: Option<i64>,
    pub(super) not_run: Vec<String>,
}

/// What the record is to say.
pub(super) fn status(seen: &Seen, end: Result<(), Finding>, now: DateTime<Utc>) -> TrialRestoreStatus {
    let (rung, state, message) = match end {
        Ok(()) => (
            Rung::Time,
            TrialRestoreState::Restored,
            format!(
                "{} databases with {} tables and {} rows restored in {} s",
                seen.databases,
                seen.tables,
                seen.rows,
                seen.restore_seconds.unwrap_or_default()
            ),
        ),
        Err(finding) => (finding.rung, finding.state, finding.message),
    };
    TrialRestoreStatus {
        state,
        rung: Some(format!("{rung:?}")),
        restore_seconds: seen.restore_seconds,
        message: Some(message.chars().take(MAX_MESSAGE).collect()),
        not_run: seen
            .not_run
            .iter()
            .take(MOST_NOT_RUN)
            .map(|text| text.chars().take(LONGEST_NOT_RUN).collect())
            .collect(),
        completed_at: Some(now),
    }
}

/// Whether an answer is what a query of the policy expects; else what was expected.
pub(super) fn compare(query: &valerix_crds::VerificationQuery, answer: f64) -> Result<(), String> {
    // Rows are counted in numbers that a double holds exactly.
    let number = |bound: i64| bound as f64;
    let expected = if let Some(bound) = query.equals.filter(|bound| answer != number(*bound)) {
        format!("exactly {bound}")
    } else if let Some(bound) = query.at_least.filter(|bound| answer < number(*bound)) {
        format!("at least {bound}")
    } else if let Some(bound) = query.at_most.filter(|bound| answer > number(*bound)) {
        format!("at most {bound}")
    } else {
        return Ok(());
    };
    Err(format!(
        "verification.queries {}: the answer is {answer}, expected is {expected}",
        query.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::VerificationQuery;

    #[test]
    fn an_answer_is_compared_with_every_bound() {
        let query = |equals, at_least, at_most| VerificationQuery {
            name: "q".into(),
            database: "d".into(),
            query: "SELECT 1".into(),
            equals,
            at_least,
            at_most,
        };
        for (query, answer, expected) in [
            (query(Some(5), None, None), 5.0, None),
            (query(Some(5), None, None), 5.5, Some("exactly 5")),
            (query(None, Some(3), Some(7)), 3.0, None),
            (query(None, Some(3), Some(7)), 7.0, None),
            (query(None, Some(3), Some(7)), 2.0, Some("at least 3")),
            (query(None, Some(3), Some(7)), 8.0, Some("at most 7")),
        ] {
            let found = compare(&query, answer);
            assert_eq!(found.is_err(), expected.is_some(), "{answer}: {found:?}");
            if let Some(text) = expected {
                assert!(found.unwrap_err().contains(text));
            }
        }
    }

    #[test]
    fn only_a_ladder_that_was_climbed_to_its_top_is_restored() {
        let now = Utc::now();
        let seen = Seen::default();
        assert_eq!(status(&seen, Ok(()), now).state, TrialRestoreState::Restored);
        let failed = status(&seen, Err(Finding::failed(Rung::Volume, "x".repeat(2000))), now);
        assert_eq!(
            (failed.state, failed.rung.as_deref()),
            (TrialRestoreState::Failed, Some("Volume"))
        );
        assert_eq!(failed.message.map(|message| message.len()), Some(MAX_MESSAGE));
        let seen_little = Seen {
            not_run: vec!["x".repeat(300); 17],
            ..Seen::default()
        };
        let lines = status(&seen_little, Ok(()), now).not_run;
        assert_eq!((lines.len(), lines[0].len()), (MOST_NOT_RUN, LONGEST_NOT_RUN));
        let unknown = status(&seen, Err(Finding::inconclusive(Rung::Fetch, "y".into())), now);
        assert_eq!(unknown.state, TrialRestoreState::Inconclusive);
    }
}
