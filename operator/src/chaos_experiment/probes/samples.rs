//! What the probes saw, and what it means before, during and after the fault.
//!
//! Pure. In: samples with their times. Out: whether the steady state holds. A sample counts where it was asked, not where
//! it was answered; the time between an answer and the next question, or the end of what is judged, is time without a
//! witness.

use crate::chaos_experiment::validate::ProbePlan;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use valerix_crds::ProbeStatus;

/// Samples that are kept per probe; a deviation older than that has long been recorded.
const KEPT: usize = 1_024;
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
}

/// A window of time that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its beginning.
    pub from: DateTime<Utc>,
    /// Its end; none while it goes on.
    pub until: Option<DateTime<Utc>>,
    /// Now: what nobody has seen until now counts too.
    pub now: DateTime<Utc>,
}

impl Window {
    fn end(self) -> DateTime<Utc> {
        self.until.map_or(self.now, |until| until.min(self.now))
    }
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
            });
            if sample.started - forgotten.until > forgotten.gap.1 - forgotten.gap.0 {
                forgotten.gap = (forgotten.until, sample.started);
            }
            forgotten.until = forgotten.until.max(sample.finished);
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

    fn before(&self, plan: &ProbePlan) -> Before {
        let bad: Vec<_> = self
            .samples
            .iter()
            .rev()
            .take_while(|sample| sample.result != ProbeResult::Passed)
            .collect();
        if bad.is_empty() && !self.samples.is_empty() {
            return Before::Met;
        }
        match bad.first() {
            Some(last) if bad.len() >= plan.failure_threshold as usize => match &last.result {
                ProbeResult::NotAsked(text) => Before::NotAsked(named(plan, text)),
                ProbeResult::Failed(text) => Before::NotMet(named(plan, text)),
                ProbeResult::Passed => Before::Met,
            },
            _ => Before::Awaited,
        }
    }

    fn during(&self, plan: &ProbePlan, window: Window) -> During {
        let within = |sample: &&Sample| {
            sample.started >= window.from && window.until.is_none_or(|until| sample.started <= until)
        };
        let (mut bad, mut failed, mut text) = (0_u32, false, None);
        for sample in self.samples.iter().filter(within) {
            match &sample.result {
                ProbeResult::Passed => (bad, failed) = (0, false),
                ProbeResult::Failed(why) => (bad, failed, text) = (bad + 1, true, Some(why)),
                ProbeResult::NotAsked(why) => {
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
        self.gap(plan, window).map_or(During::Within, |gap| {
            During::Gap(named(plan, &format!("nobody asked for {:.1}s", seconds(gap))))
        })
    }

    /// The first time without a witness in the window that is too long to vouch for.
    fn gap(&self, plan: &ProbePlan, window: Window) -> Option<TimeDelta> {
        let tolerated = plan.tolerated_gap().max(plan.interval * 2) + SCHEDULING;
        let tolerated = TimeDelta::from_std(tolerated).unwrap_or(TimeDelta::MAX);
        let end = window.end();
        let mut seen = self.recorded.last_at.map_or(window.from, |last| last.max(window.from));
        // What was forgotten is two witnesses with the longest gap between them.
        let forgotten = self.forgotten.iter();
        let forgotten = forgotten.flat_map(|old| [(old.from, old.gap.0), (old.gap.1, old.until)]);
        let kept = self.samples.iter().map(|sample| (sample.started, sample.finished));
        for (started, finished) in forgotten.chain(kept) {
            let next = started.min(end);
            if next - seen > tolerated {
                return Some(next - seen);
            }
            seen = seen.max(finished);
        }
        let next = self.asking_since.map_or(end, |since| since.min(end));
        (next - seen > tolerated).then(|| next - seen)
    }

    fn after(&self, plan: &ProbePlan, from: DateTime<Utc>, now: DateTime<Utc>) -> After {
        // Whoever was well at the fault's end, and ever since, has not had to recover.
        let before = self.samples.iter().rev().find(|sample| sample.started < from);
        let well = plan.continuous && before.is_some_and(|sample| sample.result == ProbeResult::Passed);
        let mut since = None;
        let mut last = None;
        let mut broken = !well;
        for sample in self.samples.iter().filter(|sample| sample.started >= from) {
            last = Some(&sample.result);
            match sample.result {
                ProbeResult::Passed => since = since.or(Some(if broken { sample.finished } else { from })),
                ProbeResult::Failed(_) | ProbeResult::NotAsked(_) => (since, broken) = (None, true),
            }
        }
        let watched = || self.gap(plan, Window { from, until: None, now }).is_none();
        match (since, last) {
            (Some(since), _) => After::Met(since),
            (None, Some(ProbeResult::NotAsked(text))) => After::NotYet {
                message: named(plan, text),
                not_asked: true,
                watched: watched(),
            },
            (None, Some(ProbeResult::Failed(text))) => After::NotYet {
                message: named(plan, text),
                not_asked: false,
                watched: watched(),
            },
            (None, _) => After::NotYet {
                message: named(plan, "was not asked yet"),
                not_asked: true,
                watched: false,
            },
        }
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

/// Whether every continuous probe held in the window. A deviation outweighs everything else, because it was seen.
pub fn during(plans: &[ProbePlan], samples: &[ProbeSamples], window: Window) -> During {
    let mut worst = During::Within;
    for (plan, own) in plans.iter().zip(samples).filter(|(plan, _)| plan.continuous) {
        match (own.during(plan, window), &worst) {
            (broken @ During::Broken(_), _) => return broken,
            (not_asked @ During::NotAsked(_), During::Within | During::Gap(_)) => worst = not_asked,
            (gap @ During::Gap(_), During::Within) => worst = gap,
            _ => {}
        }
    }
    worst
}

/// Since when every probe holds again after `from`.
pub fn after(plans: &[ProbePlan], samples: &[ProbeSamples], from: DateTime<Utc>, now: DateTime<Utc>) -> After {
    let mut met = from;
    for (plan, own) in plans.iter().zip(samples) {
        match own.after(plan, from, now) {
            After::Met(since) => met = met.max(since),
            not_yet @ After::NotYet { .. } => return not_yet,
        }
    }
    After::Met(met)
}

/// Whether every probe was asked often enough in the window.
pub fn watched(plans: &[ProbePlan], samples: &[ProbeSamples], window: Window) -> bool {
    plans
        .iter()
        .zip(samples)
        .all(|(plan, own)| own.gap(plan, window).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{at, probe_plan};

    /// One sample a second from second `from`: `+` passed, `-` failed, `?` not asked, ` ` nobody asked.
    fn story(from: i64, text: &str) -> ProbeSamples {
        let mut own = ProbeSamples::default();
        for (second, letter) in (from..).zip(text.chars()) {
            let result = match letter {
                '+' => ProbeResult::Passed,
                '-' => ProbeResult::Failed("status 503".into()),
                '?' => ProbeResult::NotAsked("no address".into()),
                _ => continue,
            };
            own.push(Sample {
                started: at(second),
                finished: at(second) + TimeDelta::milliseconds(20),
                result,
            });
        }
        own
    }

    /// From `from` until `until`, looked at in the moment in which the last sample was answered.
    fn window(from: i64, until: Option<i64>, own: &ProbeSamples) -> Window {
        let last = own.samples.last().map_or(at(from), |sample| sample.finished);
        Window {
            from: at(from),
            until: until.map(at),
            now: until.map_or(last, |until| last.max(at(until))),
        }
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
            let own = story(10, text);
            let window = window(10, None, &own);
            assert_eq!(during(&plans, &[own], window), expected, "{text:?}");
        }
    }

    #[test]
    fn only_the_window_counts() {
        let plans = [probe_plan("checkout")];
        let own = story(0, "---+++---");
        let (short, open) = (window(3, Some(5), &own), window(3, None, &own));
        let all = window(0, None, &own);
        let own = [own];
        assert_eq!(during(&plans, &own, short), During::Within);
        assert!(matches!(during(&plans, &own, open), During::Broken(_)));
        let mut edge = probe_plan("checkout");
        edge.continuous = false;
        assert_eq!(
            during(&[edge], &own, all),
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
        let judge = |own: ProbeSamples, until: Option<i64>| {
            let window = window(10, until, &own);
            during(&plans, &[own], window)
        };
        assert_eq!(judge(resumed(18), None), During::Within);
        assert!(matches!(judge(resumed(12), None), During::Gap(_)));
        assert!(matches!(judge(story(20, "+"), None), During::Gap(_)));
        assert_eq!(judge(story(20, "+"), Some(12)), During::Within, "the fault was short");
    }

    #[test]
    fn time_that_nobody_has_seen_yet_counts_at_the_end_too() {
        let plans = [probe_plan("checkout")];
        let mut own = ProbeSamples::default();
        own.recorded.last_at = Some(at(20));
        let look = |own: &ProbeSamples, until, now| {
            during(
                &plans,
                std::slice::from_ref(own),
                Window {
                    from: at(0),
                    until,
                    now: at(now),
                },
            )
        };
        assert_eq!(look(&own, None, 23), During::Within);
        // The fault was over at 60, and whoever took over has only just begun to ask.
        assert!(matches!(look(&own, Some(at(60)), 62), During::Gap(_)));
        own.asking_since = Some(at(62));
        assert!(matches!(look(&own, Some(at(60)), 65), During::Gap(_)));
        // A slow answer is not silence: its question was asked in time.
        own.asking_since = Some(at(21));
        assert_eq!(look(&own, None, 26), During::Within);
    }

    #[test]
    fn after_is_met_since_the_last_failure() {
        let plans = [probe_plan("checkout")];
        let since = |second: i64| After::Met(at(second) + TimeDelta::milliseconds(20));
        let after = |own: ProbeSamples, from: i64| after(&plans, &[own], at(from), at(20));
        assert_eq!(after(story(10, "++"), 10), since(10));
        assert_eq!(after(story(10, "--+-++"), 10), since(14));
        assert_eq!(after(story(9, "-++"), 10), since(10));
        assert!(matches!(
            after(story(10, "----------"), 10),
            After::NotYet {
                not_asked: false,
                watched: true,
                ..
            }
        ));
        assert!(matches!(
            after(story(5, "++"), 10),
            After::NotYet { watched: false, .. }
        ));
    }

    #[test]
    fn who_was_well_all_the_time_recovered_at_once() {
        let plans = [probe_plan("checkout")];
        assert_eq!(after(&plans, &[story(8, "++++")], at(10), at(12)), After::Met(at(10)));
        let mut edge = probe_plan("checkout");
        edge.continuous = false;
        let later = After::Met(at(10) + TimeDelta::milliseconds(20));
        assert_eq!(
            after(&[edge], &[story(8, "++++")], at(10), at(12)),
            later,
            "nobody asked while the fault was on"
        );
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
                result: ProbeResult::Passed,
            });
        }
        assert!(own.samples.len() <= KEPT);
        assert_eq!(own.status().passed, 20_000);
    }

    #[test]
    fn what_is_forgotten_leaves_no_gap_and_hides_none() {
        let plans = [probe_plan("checkout")];
        let steady = |hole: std::ops::Range<i64>| {
            let mut own = ProbeSamples::default();
            for second in (0..5_000).filter(|second| !hole.contains(second)) {
                own.push(Sample {
                    started: at(second),
                    finished: at(second),
                    result: ProbeResult::Passed,
                });
            }
            let window = window(0, None, &own);
            during(&plans, &[own], window)
        };
        assert_eq!(steady(0..0), During::Within);
        assert!(matches!(steady(1_000..1_010), During::Gap(_)));
    }
}
