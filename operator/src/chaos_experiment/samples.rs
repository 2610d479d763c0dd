//! What the probes saw, and what it means before, during and after the fault.
//!
//! Pure. In: samples with their times. Out: whether the steady state holds. A sample counts where it was asked, not where
//! it was answered; the time between an answer and the next question is time without a witness.

use super::validate::ProbePlan;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use valerix_crds::ProbeStatus;

/// Samples that are kept per probe; a deviation older than that has long been recorded.
const KEPT: usize = 8_192;
/// How much later than planned a question may be asked by a busy process without being a gap.
const SCHEDULING: Duration = Duration::from_millis(500);
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
    pub outcome: Outcome,
}

/// The judgement of one answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
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
    passed: u32,
    failed: u32,
    first_failure: Option<(Arc<str>, DateTime<Utc>)>,
}

/// Whether the steady state held before the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Not known yet.
    Awaited,
    /// It held.
    Met,
    /// It did not; why.
    NotMet(String),
    /// A probe could not be asked; why.
    NotAsked(String),
}

/// Whether the steady state held while the fault was on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum During {
    /// Within tolerance.
    Within,
    /// Tolerance broken; by what.
    Broken(String),
    /// A probe could not be asked as often as its threshold says; why.
    NotAsked(String),
    /// Nobody watched for too long; how long.
    Gap(String),
}

/// Whether the steady state is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Since then.
    Met(DateTime<Utc>),
    /// Not yet; what is wrong, and whether the last question could be asked at all.
    NotYet {
        /// What is wrong.
        message: String,
        /// Whether the last question could not be asked.
        not_asked: bool,
        /// Whether somebody watched since the fault ended.
        watched: bool,
    },
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
        match &sample.outcome {
            Outcome::Passed => self.passed = self.passed.saturating_add(1),
            Outcome::Failed(text) | Outcome::NotAsked(text) => {
                self.failed = self.failed.saturating_add(1);
                self.first_failure
                    .get_or_insert_with(|| (text.clone(), sample.finished));
            }
        }
        if self.samples.len() >= KEPT {
            self.samples.drain(..KEPT / 4);
        }
        self.samples.push(sample);
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

    fn before(&self, plan: &ProbePlan) -> Before {
        let bad: Vec<_> = self
            .samples
            .iter()
            .rev()
            .take_while(|sample| sample.outcome != Outcome::Passed)
            .collect();
        if bad.is_empty() && !self.samples.is_empty() {
            return Before::Met;
        }
        match bad.first() {
            Some(last) if bad.len() >= plan.failure_threshold as usize => match &last.outcome {
                Outcome::NotAsked(text) => Before::NotAsked(named(plan, text)),
                Outcome::Failed(text) => Before::NotMet(named(plan, text)),
                Outcome::Passed => Before::Met,
            },
            _ => Before::Awaited,
        }
    }

    fn during(&self, plan: &ProbePlan, from: DateTime<Utc>, until: Option<DateTime<Utc>>) -> During {
        let within = |sample: &&Sample| sample.started >= from && until.is_none_or(|until| sample.started <= until);
        let (mut bad, mut failed, mut text) = (0_u32, false, None);
        for sample in self.samples.iter().filter(within) {
            match &sample.outcome {
                Outcome::Passed => (bad, failed) = (0, false),
                Outcome::Failed(why) => (bad, failed, text) = (bad + 1, true, Some(why)),
                Outcome::NotAsked(why) => {
                    bad += 1;
                    text = text.filter(|_| failed).or(Some(why));
                }
            }
            if bad >= plan.failure_threshold {
                let message = named(plan, text.map_or("failed", |text| text));
                return if failed {
                    During::Broken(message)
                } else {
                    During::NotAsked(message)
                };
            }
        }
        self.gap(plan, from, until).map_or(During::Within, |gap| {
            During::Gap(named(plan, &format!("nobody asked for {:.1}s", seconds(gap))))
        })
    }

    /// The first time without a witness in the window that is too long to vouch for.
    fn gap(&self, plan: &ProbePlan, from: DateTime<Utc>, until: Option<DateTime<Utc>>) -> Option<TimeDelta> {
        let tolerated = plan.tolerated_gap().max(plan.interval * 2) + SCHEDULING;
        let tolerated = TimeDelta::from_std(tolerated).unwrap_or(TimeDelta::MAX);
        let mut seen = self.recorded.last_at.map_or(from, |last| last.max(from));
        for sample in &self.samples {
            let next = until.map_or(sample.started, |until| until.min(sample.started));
            if next - seen > tolerated {
                return Some(next - seen);
            }
            seen = seen.max(sample.finished);
        }
        None
    }

    fn after(&self, plan: &ProbePlan, from: DateTime<Utc>) -> After {
        let mut since = None;
        let mut last = None;
        for sample in self.samples.iter().filter(|sample| sample.started >= from) {
            last = Some(&sample.outcome);
            match sample.outcome {
                Outcome::Passed => since = since.or(Some(sample.finished)),
                Outcome::Failed(_) | Outcome::NotAsked(_) => since = None,
            }
        }
        let watched = self.gap(plan, from, None).is_none();
        match (since, last) {
            (Some(since), _) => After::Met(since),
            (None, Some(Outcome::NotAsked(text))) => After::NotYet {
                message: named(plan, text),
                not_asked: true,
                watched,
            },
            (None, Some(Outcome::Failed(text))) => After::NotYet {
                message: named(plan, text),
                not_asked: false,
                watched,
            },
            (None, _) => After::NotYet {
                message: named(plan, "was not asked yet"),
                not_asked: true,
                watched: false,
            },
        }
    }

    /// Whether nobody watched for too long between `from` and the newest sample.
    fn watched(&self, plan: &ProbePlan, from: DateTime<Utc>) -> bool {
        self.gap(plan, from, None).is_none()
    }
}

fn named(plan: &ProbePlan, text: &str) -> String {
    format!("probe {}: {text}", plan.probe.name)
        .chars()
        .take(TEXT_LIMIT)
        .collect()
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64()
}

/// Whether every probe held before the fault.
pub fn before(plans: &[ProbePlan], samples: &[ProbeSamples]) -> Before {
    let mut worst = Before::Met;
    for (plan, own) in plans.iter().zip(samples) {
        match own.before(plan) {
            Before::Met => {}
            Before::Awaited if worst == Before::Met => worst = Before::Awaited,
            Before::Awaited => {}
            bad => return bad,
        }
    }
    worst
}

/// Whether every continuous probe held from `from` until `until`, or until now. A deviation outweighs everything else,
/// because it was seen.
pub fn during(
    plans: &[ProbePlan],
    samples: &[ProbeSamples],
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> During {
    let mut worst = During::Within;
    for (plan, own) in plans.iter().zip(samples).filter(|(plan, _)| plan.continuous) {
        match (own.during(plan, from, until), &worst) {
            (broken @ During::Broken(_), _) => return broken,
            (not_asked @ During::NotAsked(_), During::Within | During::Gap(_)) => worst = not_asked,
            (gap @ During::Gap(_), During::Within) => worst = gap,
            _ => {}
        }
    }
    worst
}

/// Since when every probe holds again after `from`.
pub fn after(plans: &[ProbePlan], samples: &[ProbeSamples], from: DateTime<Utc>) -> After {
    let mut met = from;
    for (plan, own) in plans.iter().zip(samples) {
        match own.after(plan, from) {
            After::Met(since) => met = met.max(since),
            not_yet @ After::NotYet { .. } => return not_yet,
        }
    }
    After::Met(met)
}

/// Whether every continuous probe was asked often enough from `from` on.
pub fn watched(plans: &[ProbePlan], samples: &[ProbeSamples], from: DateTime<Utc>) -> bool {
    plans
        .iter()
        .zip(samples)
        .filter(|(plan, _)| plan.continuous)
        .all(|(plan, own)| own.watched(plan, from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{at, probe_plan};

    /// One sample a second from second `from`: `+` passed, `-` failed, `?` not asked, ` ` nobody asked.
    fn story(from: i64, text: &str) -> ProbeSamples {
        let mut own = ProbeSamples::default();
        for (second, letter) in (from..).zip(text.chars()) {
            let outcome = match letter {
                '+' => Outcome::Passed,
                '-' => Outcome::Failed("status 503".into()),
                '?' => Outcome::NotAsked("no address".into()),
                _ => continue,
            };
            own.push(Sample {
                started: at(second),
                finished: at(second) + TimeDelta::milliseconds(20),
                outcome,
            });
        }
        own
    }

    #[test]
    fn before_needs_a_pass_and_forgives_a_blip() {
        let plans = [probe_plan("checkout")];
        for (text, expected) in [
            ("", Before::Awaited),
            ("--", Before::Awaited),
            ("--+", Before::Met),
            ("+", Before::Met),
            ("+---", Before::NotMet("probe checkout: status 503".into())),
            ("???", Before::NotAsked("probe checkout: no address".into())),
        ] {
            assert_eq!(before(&plans, &[story(0, text)]), expected, "{text:?}");
        }
    }

    #[test]
    fn during_counts_failures_in_a_row() {
        let plans = [probe_plan("checkout")];
        let broken = During::Broken("probe checkout: status 503".into());
        for (text, expected) in [
            ("+++++", During::Within),
            ("+--+--+", During::Within),
            ("+---+++", broken.clone()),
            ("+-?-", broken.clone()),
            ("+???", During::NotAsked("probe checkout: no address".into())),
            ("++    ++", During::Gap("probe checkout: nobody asked for 5.0s".into())),
            ("++   ++", During::Gap("probe checkout: nobody asked for 4.0s".into())),
            ("++  ++", During::Within),
            ("++    ---", broken),
        ] {
            assert_eq!(during(&plans, &[story(10, text)], at(10), None), expected, "{text:?}");
        }
    }

    #[test]
    fn only_the_window_counts() {
        let plans = [probe_plan("checkout")];
        let own = [story(0, "---+++---")];
        assert_eq!(during(&plans, &own, at(3), Some(at(5))), During::Within);
        assert!(matches!(during(&plans, &own, at(3), None), During::Broken(_)));
        let mut edge = probe_plan("checkout");
        edge.continuous = false;
        assert_eq!(
            during(&[edge], &own, at(0), None),
            During::Within,
            "an edge probe does not judge the fault"
        );
    }

    #[test]
    fn a_process_that_took_over_late_leaves_a_gap() {
        let plans = [probe_plan("checkout")];
        let resumed = |last: i64| {
            let mut own = story(20, "+++");
            own.recorded.last_at = Some(at(last));
            own
        };
        assert_eq!(during(&plans, &[resumed(18)], at(10), None), During::Within);
        assert!(matches!(during(&plans, &[resumed(12)], at(10), None), During::Gap(_)));
        assert!(matches!(
            during(&plans, &[story(20, "+")], at(10), None),
            During::Gap(_)
        ));
        assert_eq!(
            during(&plans, &[story(20, "+")], at(10), Some(at(12))),
            During::Within,
            "the fault was short"
        );
    }

    #[test]
    fn after_is_met_since_the_last_failure() {
        let plans = [probe_plan("checkout")];
        let since = |second: i64| After::Met(at(second) + TimeDelta::milliseconds(20));
        assert_eq!(after(&plans, &[story(10, "++")], at(10)), since(10));
        assert_eq!(after(&plans, &[story(10, "--+-++")], at(10)), since(14));
        assert!(matches!(
            after(&plans, &[story(10, "--")], at(10)),
            After::NotYet {
                not_asked: false,
                watched: true,
                ..
            }
        ));
        assert!(matches!(
            after(&plans, &[story(5, "++")], at(10)),
            After::NotYet { watched: false, .. }
        ));
    }

    #[test]
    fn what_was_recorded_before_is_kept() {
        let mut own = ProbeSamples::resumed(ProbeStatus {
            name: "checkout".into(),
            passed: 5,
            failed: 1,
            first_failure: Some("old".into()),
            first_failure_at: Some(at(1)),
            last_at: Some(at(2)),
        });
        for sample in story(10, "+-").samples {
            own.push(sample);
        }
        let status = own.status();
        assert_eq!((status.passed, status.failed), (6, 2));
        assert_eq!(
            (status.first_failure.as_deref(), status.first_failure_at),
            (Some("old"), Some(at(1)))
        );
        assert_eq!(status.last_at, Some(at(11) + TimeDelta::milliseconds(20)));
    }

    #[test]
    fn a_long_run_does_not_grow_without_bound() {
        let mut own = ProbeSamples::default();
        for second in 0..20_000 {
            own.push(Sample {
                started: at(second),
                finished: at(second),
                outcome: Outcome::Passed,
            });
        }
        assert!(own.samples.len() <= KEPT);
        assert_eq!(own.status().passed, 20_000);
    }
}
