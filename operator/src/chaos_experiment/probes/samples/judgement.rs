//! What the probes saw means before, during and after the fault.
//!
//! Pure. In: samples with their times. Out: whether the steady state holds. A sample counts where it was asked, not where
//! it was answered; the time between an answer and the next question, or the end of what is judged, is time without a
//! witness.

use super::{ProbeResult, ProbeSamples, Row, Sample, TEXT_LIMIT};
use crate::chaos_experiment::probes::plan::ProbePlan;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// How much later than planned a question may be asked by a busy process without being a gap.
const SCHEDULING: Duration = Duration::from_millis(500);

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
    fn holds(self, asked: DateTime<Utc>) -> bool {
        asked >= self.from && self.until.is_none_or(|until| asked <= until)
    }

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

impl Row {
    /// What it means, once it is long enough to count.
    fn judged(&self, plan: &ProbePlan) -> Option<During> {
        (self.bad >= plan.failure_threshold).then(|| self.means(plan))
    }

    fn means(&self, plan: &ProbePlan) -> During {
        let message = named(plan, &self.text);
        if self.failed {
            During::Broken(message)
        } else {
            During::NotAsked(message)
        }
    }
}

impl ProbeSamples {
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
        let within = |sample: &&Sample| window.holds(sample.started);
        let forgotten = self.forgotten.as_ref();
        let longest = forgotten.and_then(|old| old.longest.as_ref());
        if let Some(ending) = longest
            .filter(|row| window.holds(row.since))
            .and_then(|row| row.judged(plan))
        {
            return ending;
        }
        let open = forgotten.and_then(|old| old.row.clone());
        let mut row = open.filter(|row| window.holds(row.since));
        for sample in self.samples.iter().filter(within) {
            row = Row::with(row, sample);
            if let Some(ending) = row.as_ref().and_then(|row| row.judged(plan)) {
                return ending;
            }
        }
        let took = window.until.map(|_| self.took(window)).unwrap_or_default();
        if let Some(slow) = too_slow(plan, &took) {
            return During::Broken(named(plan, &slow));
        }
        if let Some(unknown) = self.unknown(plan, window, took.is_empty()) {
            return During::Gap(named(plan, unknown));
        }
        if let Some(gap) = self.gap(plan, window) {
            return During::Gap(named(plan, &format!("nobody asked for {:.1}s", seconds(gap))));
        }
        if took.is_empty() && self.is_settled(plan, window) {
            self.nothing_good(plan, window, row)
        } else {
            During::Within
        }
    }

    /// Whether nothing more can be learnt of a window that is over. An answer that is under way is awaited, where the probe
    /// is asked once more afterwards.
    fn is_settled(&self, plan: &ProbePlan, window: Window) -> bool {
        let under_way = self.asking_since.is_some_and(|since| window.holds(since));
        window.until.is_some() && !(under_way && plan.judges_the_edges())
    }

    /// What it means that no answer in the whole window was as expected. A fault that is shorter than its threshold takes, or
    /// answers that are slow, would else pass whatever they say.
    fn nothing_good(&self, plan: &ProbePlan, window: Window, row: Option<Row>) -> During {
        if self.recorded.last_at.is_some_and(|last| last >= window.from) {
            // The process before this one asked, and had nothing but good answers.
            return During::Within;
        }
        match row {
            Some(row) if plan.fault_lasts => row.means(plan),
            None if plan.fault_lasts => During::Gap(named(
                plan,
                "was not asked while the fault was on; lengthen the fault or shorten interval",
            )),
            // How long the system takes to replace who is gone is not the spec's choice, and the threshold tolerates it.
            _ if plan.percentile.is_none() => During::Within,
            _ => During::Gap(named(
                plan,
                "had no answer as expected whose time could be judged; shorten interval",
            )),
        }
    }

    /// What cannot be judged because another process watched first: of what it saw the sums are known, and nothing else.
    fn unknown(&self, plan: &ProbePlan, window: Window, nothing_good: bool) -> Option<&'static str> {
        let recorded = &self.recorded;
        if recorded.last_at.is_none_or(|last| last < window.from) {
            return None;
        }
        let own = self.samples.iter().filter(|sample| window.holds(sample.started));
        let bad = own.take_while(|sample| sample.result != ProbeResult::Passed).count();
        let may_count = recorded.first_failure_at.is_none_or(|at| at <= window.end());
        let failed = if may_count { recorded.failed } else { 0 };
        let all_bad = nothing_good && plan.fault_lasts && self.is_settled(plan, window);
        if failed > 0 && (all_bad || failed as usize + bad >= plan.failure_threshold as usize) {
            return Some(
                "whether it failed often enough in a row is not known, because the operator changed hands meanwhile",
            );
        }
        (plan.percentile.is_some() && window.until.is_some() && recorded.passed > 0)
            .then_some("how long all answers took is not known, because the operator changed hands meanwhile")
    }

    /// How many milliseconds each good answer took.
    fn took(&self, window: Window) -> Vec<i64> {
        let good = self
            .samples
            .iter()
            .filter(|sample| sample.result == ProbeResult::Passed);
        let kept = good.map(|sample| (sample.started, (sample.finished - sample.started).num_milliseconds()));
        let forgotten = self.forgotten.iter().flat_map(|old| old.took.iter());
        let forgotten = forgotten.map(|(started, took)| (*started, i64::from(*took)));
        let all = forgotten.chain(kept).filter(|(started, _)| window.holds(*started));
        all.map(|(_, took)| took).collect()
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
        let well = plan.judges_the_edges()
            && plan.judges_the_fault()
            && before.is_some_and(|sample| sample.result == ProbeResult::Passed);
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

/// What is wrong with the time that the good answers took, if their percentile is asked for.
fn too_slow(plan: &ProbePlan, took: &[i64]) -> Option<String> {
    let (percent, max) = plan.percentile?;
    let mut took = took.to_vec();
    took.sort_unstable();
    let rank = (took.len() * percent as usize).div_ceil(100);
    let slowest = *took.get(rank.checked_sub(1)?)?;
    (u128::try_from(slowest).ok()? > max.as_millis()).then(|| {
        format!(
            "{percent} % of {} answers took up to {slowest}ms, more than {max:?}",
            took.len()
        )
    })
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
    for (plan, own) in at_the_edges(plans, samples) {
        match own.before(plan) {
            Before::Met => {}
            Before::Awaited if worst == Before::Met => worst = Before::Awaited,
            Before::Awaited => {}
            bad => return bad,
        }
    }
    worst
}

/// Whether every probe that judges the fault held in the window. A deviation outweighs everything else, because it was seen.
pub fn during(plans: &[ProbePlan], samples: &[ProbeSamples], window: Window) -> During {
    let mut worst = During::Within;
    for (plan, own) in plans.iter().zip(samples).filter(|(plan, _)| plan.judges_the_fault()) {
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
    for (plan, own) in at_the_edges(plans, samples) {
        match own.after(plan, from, now) {
            After::Met(since) => met = met.max(since),
            not_yet @ After::NotYet { .. } => return not_yet,
        }
    }
    After::Met(met)
}

/// Whether every probe was asked often enough in the window.
pub fn watched(plans: &[ProbePlan], samples: &[ProbeSamples], window: Window) -> bool {
    at_the_edges(plans, samples).all(|(plan, own)| own.gap(plan, window).is_none())
}

/// The probes that judge before and after the fault, with what they saw.
fn at_the_edges<'a>(
    plans: &'a [ProbePlan],
    samples: &'a [ProbeSamples],
) -> impl Iterator<Item = (&'a ProbePlan, &'a ProbeSamples)> {
    let all = plans.iter().zip(samples);
    all.filter(|(plan, _)| plan.judges_the_edges())
}
