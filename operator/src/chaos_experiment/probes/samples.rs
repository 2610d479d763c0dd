//! What the probes saw: samples, of which old ones are kept as what they mean. Pure.

mod judgement;

pub use judgement::{After, Before, During, Window, after, before, during, watched};

use chrono::{DateTime, Utc};
use std::sync::Arc;
use valerix_crds::ProbeStatus;

/// Samples that are kept per probe; a deviation older than that has long been recorded.
const KEPT: usize = 1_024;
/// The longest text that status takes.
const TEXT_LIMIT: usize = 256;

/// The samples of every probe, in the order of the spec.
pub type Samples = Vec<ProbeSamples>;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was asked.
    pub started: DateTime<Utc>,
    /// When the answer was judged.
    pub finished: DateTime<Utc>,
    /// The judgement.
    pub result: ProbeResult,
}

/// The judgement of one answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeResult {
    /// As expected.
    Passed,
    /// Not as expected; why.
    Failed(Arc<str>),
    /// The question could not be asked; why.
    NotAsked(Arc<str>),
}

/// What one probe saw since it was started in this process, on top of what was recorded before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeSamples {
    /// What status recorded before this process took over.
    pub recorded: ProbeStatus,
    /// Newest last.
    pub samples: Vec<Sample>,
    /// Since when a question is under way: it is a witness, although it is not answered yet.
    pub asking_since: Option<DateTime<Utc>>,
    /// What is left of samples that are not kept any more.
    forgotten: Option<Forgotten>,
    passed: u32,
    failed: u32,
    first_failure: Option<(Arc<str>, DateTime<Utc>)>,
}

/// Samples that are not kept any more.
#[derive(Clone, Debug, PartialEq)]
struct Forgotten {
    /// When the first of them was asked.
    from: DateTime<Utc>,
    /// When the last of them was answered.
    until: DateTime<Utc>,
    /// The longest time without a witness among them.
    gap: (DateTime<Utc>, DateTime<Utc>),
    /// The row of bad ones with which they end.
    row: Option<Row>,
    /// The longest row of bad ones among them, of several the newest.
    longest: Option<Row>,
    /// The good ones: when each was asked, and how many milliseconds its answer took.
    took: Arc<Vec<(DateTime<Utc>, u32)>>,
}

/// Answers in a row that were not as expected.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// When the first of them was asked.
    since: DateTime<Utc>,
    bad: u32,
    /// Whether one was a failure, and not a question that could not be asked.
    failed: bool,
    /// What the newest of them said, a failure before anything else.
    text: Arc<str>,
}

impl Row {
    /// The row after one more sample; none when it is a good one.
    fn with(before: Option<Self>, sample: &Sample) -> Option<Self> {
        let (failed, why) = match &sample.result {
            ProbeResult::Passed => return None,
            ProbeResult::Failed(why) => (true, why),
            ProbeResult::NotAsked(why) => (false, why),
        };
        let Some(before) = before else {
            return Some(Self {
                since: sample.started,
                bad: 1,
                failed,
                text: why.clone(),
            });
        };
        Some(Self {
            bad: before.bad.saturating_add(1),
            failed: before.failed || failed,
            text: if before.failed && !failed {
                before.text
            } else {
                why.clone()
            },
            ..before
        })
    }
}

impl ProbeSamples {
    /// No samples yet; `recorded` is what status holds.
    pub fn resumed(recorded: ProbeStatus) -> Self {
        Self {
            recorded,
            ..Self::default()
        }
    }

    /// Adds a sample.
    pub fn push(&mut self, sample: Sample) {
        match &sample.result {
            ProbeResult::Passed => self.passed = self.passed.saturating_add(1),
            ProbeResult::Failed(text) | ProbeResult::NotAsked(text) => {
                self.failed = self.failed.saturating_add(1);
                self.first_failure
                    .get_or_insert_with(|| (text.clone(), sample.finished));
            }
        }
        if self.samples.len() >= KEPT {
            self.forget(KEPT / 4);
        }
        self.asking_since = None;
        self.samples.push(sample);
    }

    fn forget(&mut self, count: usize) {
        for sample in self.samples.drain(..count) {
            let forgotten = self.forgotten.get_or_insert(Forgotten {
                from: sample.started,
                until: sample.started,
                gap: (sample.started, sample.started),
                row: None,
                longest: None,
                took: Arc::default(),
            });
            if sample.started - forgotten.until > forgotten.gap.1 - forgotten.gap.0 {
                forgotten.gap = (forgotten.until, sample.started);
            }
            forgotten.until = forgotten.until.max(sample.finished);
            forgotten.row = Row::with(forgotten.row.take(), &sample);
            let longest = forgotten.longest.as_ref().map_or(0, |row| row.bad);
            if let Some(row) = forgotten.row.as_ref().filter(|row| row.bad >= longest) {
                forgotten.longest = Some(row.clone());
            }
            if sample.result == ProbeResult::Passed {
                let took = (sample.finished - sample.started).num_milliseconds();
                let took = u32::try_from(took.max(0)).unwrap_or(u32::MAX);
                Arc::make_mut(&mut forgotten.took).push((sample.started, took));
            }
        }
    }

    /// What status should record now.
    pub fn status(&self) -> ProbeStatus {
        let recorded = &self.recorded;
        let (first_failure, first_failure_at) = match (&recorded.first_failure, &self.first_failure) {
            (Some(text), _) => (Some(text.clone()), recorded.first_failure_at),
            (None, Some((text, at))) => (Some(text.chars().take(TEXT_LIMIT).collect()), Some(*at)),
            (None, None) => (None, None),
        };
        ProbeStatus {
            name: recorded.name.clone(),
            passed: recorded.passed.saturating_add(self.passed),
            failed: recorded.failed.saturating_add(self.failed),
            first_failure,
            first_failure_at,
            last_at: self.samples.last().map(|sample| sample.finished).or(recorded.last_at),
        }
    }
}

#[cfg(test)]
mod tests;
