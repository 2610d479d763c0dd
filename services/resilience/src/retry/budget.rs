//! The share of requests that may be repeated. In: first attempts and time. Out: yes or no for each repetition.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, CoarseClock};

/// Millionths of a repetition, so that shares need no fractions.
const ONE: u64 = 1_000_000;
/// The most repetitions that quiet times save up.
const MOST: u64 = 100 * ONE;

/// Repetitions never exceed `percent` of the first attempts plus `floor` per second since it was built.
///
/// ```
/// use valerix_resilience::{ManualClock, RetryBudget};
///
/// let budget = RetryBudget::with_clock(ManualClock::default());
/// budget.configure(20, 0, 1);
/// for _ in 0..5 {
///     budget.deposit();
/// }
/// assert!(budget.withdraw());
/// assert!(!budget.withdraw());
/// ```
#[derive(Debug)]
pub struct RetryBudget<C: Clock = CoarseClock> {
    level: AtomicU64,
    share: AtomicU64,
    /// Millionths per second.
    floor: AtomicU64,
    /// Milliseconds up to which the floor was paid in.
    paid_until: AtomicU64,
    replicas: AtomicU32,
    clock: C,
}

impl RetryBudget<CoarseClock> {
    /// An empty budget that grows by a fifth of a repetition per first attempt and one per second.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(CoarseClock)
    }
}

impl Default for RetryBudget<CoarseClock> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock> RetryBudget<C> {
    /// The same on a clock of one's own.
    #[must_use]
    pub fn with_clock(clock: C) -> Self {
        // The present at the latest: a coarse clock would pay for time before this.
        let began = Duration::from_nanos(clock.nanos()) + clock.resolution();
        let began = u64::try_from(began.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self {
            level: AtomicU64::new(0),
            share: AtomicU64::new(ONE / 5),
            floor: AtomicU64::new(ONE),
            paid_until: AtomicU64::new(began),
            replicas: AtomicU32::new(1),
            clock,
        }
    }

    /// Sets the share in percent and the floor per second that `replicas` share. The level is kept.
    pub fn configure(&self, percent: u32, floor_per_second: u32, replicas: u32) {
        self.pay_floor();
        self.share.store(u64::from(percent) * ONE / 100, Ordering::Relaxed);
        self.replicas.store(replicas.max(1), Ordering::Relaxed);
        self.floor.store(
            u64::from(floor_per_second) * ONE / u64::from(replicas.max(1)),
            Ordering::Relaxed,
        );
    }

    /// Counts a first attempt.
    pub fn deposit(&self) {
        self.add(self.share.load(Ordering::Relaxed));
    }

    /// Takes one repetition, if there is one.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.pay_floor();
        self.level
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |level| level.checked_sub(ONE))
            .is_ok()
    }

    /// Repetitions left, rounded down.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.pay_floor();
        self.level.load(Ordering::Relaxed) / ONE
    }

    fn add(&self, amount: u64) {
        let full = |level: u64| (level < MOST).then(|| (level + amount).min(MOST));
        // Full: nothing to add.
        let _ = self.level.fetch_update(Ordering::AcqRel, Ordering::Relaxed, full);
    }

    /// Pays in the floor for the time that has passed. Whoever moves the mark pays, so no time is paid twice.
    fn pay_floor(&self) {
        let now = self.clock.millis();
        let paid = self.paid_until.load(Ordering::Acquire);
        let floor = self.floor.load(Ordering::Relaxed);
        if floor == 0 {
            self.paid_until.fetch_max(now, Ordering::AcqRel);
            return;
        }
        let amount = now.saturating_sub(paid).saturating_mul(floor) / 1_000;
        if amount == 0 {
            return;
        }
        if self
            .paid_until
            .compare_exchange(paid, now, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            self.add(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    #[derive(Clone, Debug)]
    enum Step {
        First,
        Repeat,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![Just(Step::First), Just(Step::Repeat), (0_u64..700).prop_map(Step::Wait)];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_and_the_floor(steps in steps(), percent in 0_u32..100, floor in 0_u32..20, replicas in 1_u32..7) {
            let clock = ManualClock::default();
            let budget = RetryBudget::with_clock(clock.clone());
            budget.configure(percent, floor, replicas);
            let (mut firsts, mut repeats) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::First => {
                        firsts += 1;
                        budget.deposit();
                    }
                    Step::Repeat => repeats += u64::from(budget.withdraw()),
                    Step::Wait(millis) => clock.advance(Duration::from_millis(millis)),
                }
                let allowed = f64::from(percent) / 100.0 * firsts as f64
                    + f64::from(floor) / f64::from(replicas) * clock.millis() as f64 / 1_000.0;
                prop_assert!(repeats as f64 <= allowed + 1e-9, "{repeats} > {allowed}");
            }
        }
    }

    /// Shows the present in steps of 10 ms.
    struct Stepping(ManualClock);

    impl Clock for Stepping {
        fn nanos(&self) -> u64 {
            self.0.nanos() / 10_000_000 * 10_000_000
        }

        fn resolution(&self) -> Duration {
            Duration::from_millis(10)
        }
    }

    #[test]
    fn a_coarse_clock_pays_for_no_time_before_the_start() {
        for began in [0, 1, 9_999_999, 10_000_000] {
            let clock = ManualClock::default();
            clock.advance(Duration::from_nanos(began));
            let budget = RetryBudget::with_clock(Stepping(clock.clone()));
            budget.configure(0, 100, 1);
            for millis in 1..=60 {
                clock.advance(Duration::from_millis(1));
                assert!(
                    budget.remaining() * 10 <= millis,
                    "began at {began} ns: {} after {millis} ms",
                    budget.remaining()
                );
            }
            assert!(budget.remaining() >= 4, "and little is lost");
        }
    }

    #[test]
    fn a_shared_floor_is_really_paid() {
        let clock = ManualClock::default();
        let budget = RetryBudget::with_clock(clock.clone());
        budget.configure(0, 1, 4);
        let mut repeats = 0;
        for _ in 0..40 {
            clock.advance(Duration::from_millis(500));
            repeats += u32::from(budget.withdraw());
        }
        assert_eq!(repeats, 5);
    }
}
