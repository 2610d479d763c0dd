//! A limit found by measuring: up by one while it helps, down by a tenth when it hurts (AIMD). In: latencies, misses
//! and requests in flight. Out: a limit. Pure.

use std::time::Duration;

use super::Ended;

/// The shortest window (milliseconds) and the fewest samples on which a decision is based.
const WINDOW: u64 = 100;
const SAMPLES: usize = 10;
/// Samples kept of a window.
const KEPT: usize = 256;
/// How fast the baseline follows a latency that has grown (milliseconds): in this time by two thirds of the way.
const LEARNING: f64 = 30_000.0;

/// Finds a limit between two bounds.
#[derive(Debug)]
pub(super) struct Aimd {
    limit: f64,
    min: f64,
    max: f64,
    /// What a request takes where the limit is not what makes it wait, in seconds: the least median of windows that
    /// were at most half full. It rises slowly with them, so that a lasting change of latency is learnt and not
    /// punished for ever. At the least limit all windows count: nothing lower could be measured.
    baseline: Option<f64>,
    samples: Vec<Duration>,
    most_in_flight: u32,
    missed: bool,
    began: Option<u64>,
}

impl Aimd {
    pub(super) fn new(min: u32, max: u32, initial: u32) -> Self {
        let (min, max) = (f64::from(min.max(1)), f64::from(max.max(min).max(1)));
        Self {
            limit: f64::from(initial).clamp(min, max),
            min,
            max,
            baseline: None,
            samples: Vec::with_capacity(KEPT),
            most_in_flight: 0,
            missed: false,
            began: None,
        }
    }

    /// The same between other bounds: what was measured is as true as before.
    pub(super) fn within(&self, min: u32, max: u32) -> Self {
        Self {
            baseline: self.baseline,
            ..Self::new(min, max, self.limit())
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two u32")]
    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// The end of one request after the time that it took. One that missed its deadline is a drop and never a sample; nor is it
    /// a drop where it was given less time than would be slow: that was too little, whatever the limit.
    pub(super) fn ended(&mut self, how: Ended, took: Duration, in_flight: u32, now: u64) {
        let began = *self.began.get_or_insert(now);
        self.most_in_flight = self.most_in_flight.max(in_flight);
        match how {
            Ended::Answered if self.samples.len() < KEPT => self.samples.push(took),
            Ended::Answered => {}
            Ended::Missed => self.missed |= self.baseline.is_none_or(|_| self.is_slow(took.as_secs_f64())),
        }
        if now.saturating_sub(began) >= WINDOW && (self.missed || self.samples.len() >= SAMPLES) {
            self.decide(now.saturating_sub(began));
            self.samples.clear();
            (self.most_in_flight, self.missed, self.began) = (0, false, Some(now));
        }
    }

    fn is_slow(&self, seconds: f64) -> bool {
        self.baseline.is_some_and(|baseline| seconds > baseline * 2.0)
    }

    /// `length` is that of the window, in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of one window")]
    fn decide(&mut self, length: u64) {
        self.samples.sort_unstable();
        let median = self.samples.get(self.samples.len() / 2).map(Duration::as_secs_f64);
        let busy = f64::from(self.most_in_flight) >= self.limit / 2.0;
        // Judged by what was known before: a slow window must not first make itself the rule.
        let slow = median.is_some_and(|median| self.is_slow(median));
        if let Some(median) = median {
            let share = (length as f64 / LEARNING).min(1.0);
            self.baseline = Some(match self.baseline {
                None => median,
                Some(known) if busy && self.limit > self.min => known,
                Some(known) => median.min(known + (median - known) * share),
            });
        }
        if self.missed || slow {
            self.limit = (self.limit * 0.9).max(self.min);
        } else if busy {
            self.limit = (self.limit + 1.0).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with `capacity` workers: beyond it requests queue, and the latency grows with the queue.
    fn settle(aimd: &mut Aimd, now: &mut u64, capacity: u32, windows: u64) -> u32 {
        for _ in 0..windows {
            let in_flight = aimd.limit();
            let queue = f64::from(in_flight.max(capacity)) / f64::from(capacity);
            for _ in 0..20 {
                *now += 6;
                aimd.ended(
                    Ended::Answered,
                    Duration::from_millis(10).mul_f64(queue),
                    in_flight,
                    *now,
                );
            }
        }
        aimd.limit()
    }

    #[test]
    fn it_settles_near_the_capacity_from_below_and_from_above() {
        let mut low = Aimd::new(1, 1_000, 5);
        let found = settle(&mut low, &mut 0, 50, 400);
        assert!((50..=110).contains(&found), "{found}");
        let mut high = Aimd::new(1, 1_000, 500);
        high.baseline = Some(0.010);
        let found = settle(&mut high, &mut 0, 50, 400);
        assert!((50..=110).contains(&found), "{found}");
    }

    #[test]
    fn steady_timeouts_sink_it_to_the_floor() {
        let mut aimd = Aimd::new(4, 100, 50);
        for now in (0..20_000).step_by(10) {
            aimd.ended(Ended::Missed, Duration::from_secs(1), aimd.limit(), now);
        }
        assert_eq!(aimd.limit(), 4);
    }

    /// Whoever gives no request the time that it takes must not throttle the service for all.
    #[test]
    fn a_time_that_was_too_short_for_anybody_is_no_drop() {
        let mut aimd = Aimd::new(4, 100, 50);
        let mut ends = |how, millis: u64, from: u64| {
            for now in (from..from + 2_000).step_by(10) {
                aimd.ended(how, Duration::from_millis(millis), 1, now);
            }
            aimd.limit()
        };
        assert_eq!(ends(Ended::Answered, 20, 0), 50);
        assert_eq!(ends(Ended::Missed, 1, 2_000), 50);
        assert!(ends(Ended::Missed, 50, 4_000) < 50);
    }

    #[test]
    fn a_few_answers_decide_nothing() {
        let mut aimd = Aimd::new(1, 100, 4);
        for now in (0..900).step_by(100) {
            aimd.ended(Ended::Answered, Duration::from_millis(1), 4, now);
        }
        assert_eq!(aimd.limit(), 4);
        aimd.ended(Ended::Answered, Duration::from_millis(1), 4, 900);
        assert_eq!(aimd.limit(), 5);
    }

    /// `load` requests are under way, as far as the limit lets them, and none waits for another; `windows` of 100 ms.
    fn steady(aimd: &mut Aimd, now: &mut u64, latency: u64, load: u32, windows: u64) -> u32 {
        for _ in 0..windows * 20 {
            *now += 5;
            aimd.ended(
                Ended::Answered,
                Duration::from_millis(latency),
                load.min(aimd.limit()),
                *now,
            );
        }
        aimd.limit()
    }

    #[test]
    fn a_lasting_change_of_latency_is_learnt() {
        for load in [60, 150] {
            let (mut aimd, mut now) = (Aimd::new(20, 200, 200), 0);
            assert_eq!(steady(&mut aimd, &mut now, 10, 60, 50), 200);
            let sunk = steady(&mut aimd, &mut now, 30, load, 30);
            assert!(sunk < 60, "{sunk}: three times as slow is too slow at first");
            // A minute later there is room for all of the load again.
            let found = steady(&mut aimd, &mut now, 30, load, 600);
            assert!(found >= load, "{found} of {load}");
        }
    }

    #[test]
    fn a_lasting_overload_is_not_taken_for_a_change() {
        let (mut aimd, mut now) = (Aimd::new(10, 1_000, 20), 0);
        // Half an hour beyond what fifty workers can do.
        settle(&mut aimd, &mut now, 50, 400);
        for _ in 0..36 {
            let found = settle(&mut aimd, &mut now, 50, 417);
            assert!((50..=110).contains(&found), "{found}");
        }
    }

    #[test]
    fn an_idle_service_does_not_grow() {
        let mut aimd = Aimd::new(1, 100, 20);
        for now in (0..20_000).step_by(5) {
            aimd.ended(Ended::Answered, Duration::from_millis(1), 2, now);
        }
        assert_eq!(aimd.limit(), 20);
    }
}
