//! What was seen of a load, and what may be said about it.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::task::JoinError;

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// HTTP status; `None`: there was no answer.
    pub status: Option<u16>,
    /// Whether a refusal says when to come back.
    pub retry_after: bool,
    /// The order that was placed.
    pub order: Option<String>,
}

impl Ended {
    /// An answer without anything of interest but its status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            retry_after: false,
            order: None,
        }
    }

    /// No answer.
    #[must_use]
    pub fn none() -> Self {
        Self {
            status: None,
            retry_after: false,
            order: None,
        }
    }
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What was due and not sent, since too much was under way.
    pub not_sent: usize,
    /// From the first request to the last answer.
    pub lasted: Duration,
    /// The orders that were accepted.
    pub orders: Vec<String>,
    /// Requests that panicked; always a fault of the program itself.
    pub broken: usize,
    by_status: BTreeMap<Option<u16>, usize>,
    without_retry_after: usize,
    /// When it was due, and how long it took from then.
    accepted: Vec<(Duration, Duration)>,
    all: usize,
}

impl Measured {
    pub(super) fn take(&mut self, ended: Result<(Duration, Duration, Ended), JoinError>) {
        let Ok((due, took, answer)) = ended else {
            self.broken += 1;
            return;
        };
        self.all += 1;
        *self.by_status.entry(answer.status).or_default() += 1;
        if is_refusal(answer.status) && !answer.retry_after {
            self.without_retry_after += 1;
        }
        if answer.status.is_some_and(|status| status < 400) {
            self.accepted.push((due, took));
        }
        self.orders.extend(answer.order);
    }

    /// Takes in what was seen right after this.
    pub fn add(&mut self, later: Self) {
        let begun = self.lasted;
        self.not_sent += later.not_sent;
        self.lasted += later.lasted;
        self.orders.extend(later.orders);
        self.broken += later.broken;
        for (status, count) in later.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.without_retry_after += later.without_retry_after;
        self.accepted
            .extend(later.accepted.into_iter().map(|(due, took)| (begun + due, took)));
        self.all += later.all;
    }

    /// How many were answered, or have failed to be. Unit: requests.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.all
    }

    /// How many were accepted. Unit: requests.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// How many had no answer, or one that blames the server without saying when to come back. Unit: requests.
    #[must_use]
    pub fn failed(&self) -> usize {
        let failures = self
            .by_status
            .iter()
            .filter(|(status, _)| !is_refusal(**status) && status.is_none_or(|status| status >= 400));
        failures.map(|(_, count)| count).sum::<usize>() + self.without_retry_after + self.broken
    }

    /// How many were refused in the way that tells a client to come back. Unit: requests.
    #[must_use]
    pub fn refused(&self) -> usize {
        let refusals = self.by_status.iter().filter(|(status, _)| is_refusal(**status));
        refusals.map(|(_, count)| count).sum::<usize>() - self.without_retry_after
    }

    /// The time within which so many percent of what was accepted was answered.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        self.percentile_since(Duration::ZERO, percent)
    }

    /// The same, of what was due later than `since`.
    #[must_use]
    pub fn percentile_since(&self, since: Duration, percent: f64) -> Duration {
        let late = self.accepted.iter().filter(|(due, _)| *due >= since);
        let mut times: Vec<Duration> = late.map(|(_, took)| *took).collect();
        times.sort_unstable();
        let rank = (percent / 100.0 * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Accepted requests. Unit: requests per second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.accepted() as f64 / self.lasted.as_secs_f64().max(f64::EPSILON)
    }
}

/// 429 and 503: come back later.
fn is_refusal(status: Option<u16>) -> bool {
    matches!(status, Some(429 | 503))
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |percent| self.percentile(percent).as_secs_f64() * 1_000.0;
        write!(
            formatter,
            "{} accepted ({:.1}/s), {} refused, {} failed, {} not sent; p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            self.accepted(),
            self.throughput(),
            self.refused(),
            self.failed(),
            self.not_sent,
            milliseconds(50.0),
            milliseconds(95.0),
            milliseconds(99.0),
            milliseconds(100.0),
        )?;
        if self.failed() > 0 {
            let status = |status: &Option<u16>| status.map_or_else(|| "none".to_owned(), |status| status.to_string());
            let counts: Vec<String> = self
                .by_status
                .iter()
                .map(|(code, count)| format!("{} x {count}", status(code)))
                .collect();
            write!(formatter, "; answers: {}", counts.join(", "))?;
        }
        Ok(())
    }
}

/// What a program says in the end: one line for each thing that must hold.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    lines: Vec<(bool, String)>,
}

impl Verdict {
    /// One thing that must hold, and what was seen.
    pub fn must(&mut self, holds: bool, what: impl Into<String>) -> &mut Self {
        self.lines.push((holds, what.into()));
        self
    }

    /// Takes in what else must hold.
    pub fn add(&mut self, other: Self) {
        self.lines.extend(other.lines);
    }

    /// Whether all of it holds. Nothing asked is nothing held.
    #[must_use]
    pub fn passes(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|(holds, _)| *holds)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (holds, what) in &self.lines {
            writeln!(formatter, "  {} {what}", if *holds { "holds " } else { "BROKEN" })?;
        }
        write!(formatter, "Verdict: {}", if self.passes() { "Pass" } else { "Fail" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(answers: &[(u16, bool, u64)]) -> Measured {
        let mut measured = Measured::default();
        for (number, (status, retry_after, took)) in answers.iter().enumerate() {
            let answer = Ended {
                retry_after: *retry_after,
                ..Ended::status(*status)
            };
            let due = Duration::from_secs(number as u64);
            measured.take(Ok((due, Duration::from_millis(*took), answer)));
        }
        measured
    }

    #[test]
    fn a_refusal_is_one_only_with_the_time_to_come_back() {
        let seen = measured(&[
            (201, false, 5),
            (429, true, 1),
            (503, false, 1),
            (500, false, 1),
            (202, false, 9),
        ]);
        assert_eq!((seen.accepted(), seen.refused(), seen.failed()), (2, 1, 2));
        assert!(seen.to_string().contains("500 x 1, 503 x 1"), "{seen}");
        let mut silent = seen;
        silent.take(Ok((Duration::ZERO, Duration::ZERO, Ended::none())));
        assert_eq!(silent.failed(), 3);
    }

    #[test]
    fn what_is_seen_in_two_parts_is_what_is_seen_in_one() {
        let mut first = measured(&[(201, false, 5), (503, true, 1)]);
        first.lasted = Duration::from_secs(10);
        let mut second = measured(&[(201, false, 90), (500, false, 1)]);
        second.lasted = Duration::from_secs(5);
        first.add(second);
        assert_eq!(
            (first.answers(), first.accepted(), first.refused(), first.failed()),
            (4, 2, 1, 1)
        );
        assert_eq!(first.lasted, Duration::from_secs(15));
        assert_eq!(first.percentile_since(Duration::from_secs(10), 99.0).as_millis(), 90);
    }

    #[test]
    fn percentiles_are_those_of_what_was_accepted() {
        let answers: Vec<(u16, bool, u64)> = (1..=100)
            .map(|took| (201, false, took))
            .chain([(503, true, 9_000)])
            .collect();
        let seen = measured(&answers);
        let milliseconds = |percent| seen.percentile(percent).as_millis();
        assert_eq!(
            [milliseconds(50.0), milliseconds(99.0), milliseconds(100.0)],
            [50, 99, 100]
        );
        assert_eq!(seen.percentile_since(Duration::from_secs(90), 50.0).as_millis(), 95);
        assert_eq!(Measured::default().percentile(99.0), Duration::ZERO);
    }

    #[test]
    fn one_broken_line_breaks_the_verdict() {
        let mut verdict = Verdict::default();
        assert!(!verdict.passes(), "nothing was asked");
        verdict.must(true, "all were answered");
        assert!(verdict.passes());
        verdict.must(false, "none was slow");
        assert!(
            verdict.to_string().ends_with("BROKEN none was slow\nVerdict: Fail"),
            "{verdict}"
        );
    }
}
