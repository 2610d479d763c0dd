//! How long a target's latest answers took, in a fixed space and without a lock: what a hedge by percentile waits for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Answers that must have been measured before a percentile counts.
const ENOUGH: u32 = 100;
/// When so many were measured, all counts are halved: older answers count less and less.
const HALVED_AT: u32 = 2_000;
/// Eight steps per doubling, from 1 us to more than a minute.
const STEPS: usize = 8 * 27;

/// How long the latest answers of a target took.
#[derive(Debug)]
pub(crate) struct Latencies {
    counts: Box<[AtomicU32; STEPS]>,
    total: AtomicU32,
    halving: Mutex<()>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: Box::new([const { AtomicU32::new(0) }; STEPS]),
            total: AtomicU32::new(0),
            halving: Mutex::default(),
        }
    }
}

impl Latencies {
    pub(crate) fn add(&self, time: Duration) {
        self.counts[step(time)].fetch_add(1, Ordering::Relaxed);
        if self.total.fetch_add(1, Ordering::Relaxed) < HALVED_AT {
            return;
        }
        let Ok(_halving) = self.halving.try_lock() else { return };
        if self.total.load(Ordering::Relaxed) < HALVED_AT {
            return;
        }
        let mut total = 0;
        for count in self.counts.iter() {
            let half = count.load(Ordering::Relaxed) / 2;
            count.store(half, Ordering::Relaxed);
            total += half;
        }
        self.total.store(total, Ordering::Relaxed);
    }

    /// A time within which `percent` of the answers came, at most an eighth too long; none while too few are known.
    pub(crate) fn percentile(&self, percent: u32) -> Option<Duration> {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .collect();
        let total: u64 = counts.iter().sum();
        if total < u64::from(ENOUGH) {
            return None;
        }
        let wanted = (total * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper_end(at))
    }
}

fn step(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(8);
    let doublings = micros.ilog2();
    let eighth = (micros >> (doublings - 3)) & 7;
    (usize::try_from(doublings - 3).unwrap_or(STEPS) * 8 + usize::try_from(eighth).unwrap_or_default()).min(STEPS - 1)
}

fn upper_end(step: usize) -> Duration {
    let (doublings, eighth) = (step / 8, step % 8);
    Duration::from_micros((8 + eighth as u64 + 1) << doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_never_too_short_and_at_most_an_eighth_too_long() {
        for micros in [8_u64, 9, 100, 999, 1_000, 12_345, 1_000_000, 59_000_000] {
            let latencies = Latencies::default();
            for _ in 0..ENOUGH {
                latencies.add(Duration::from_micros(micros));
            }
            let found = u64::try_from(latencies.percentile(95).unwrap().as_micros()).unwrap();
            assert!(found >= micros && found <= micros + micros / 8 + 1, "{micros}: {found}");
        }
        for extreme in [Duration::ZERO, Duration::MAX] {
            Latencies::default().add(extreme);
        }
    }

    #[test]
    fn it_takes_the_share_and_forgets() {
        let latencies = Latencies::default();
        assert_eq!(latencies.percentile(50), None);
        for number in 0..1_000_u64 {
            latencies.add(Duration::from_millis(if number % 10 == 9 { 900 } else { 10 }));
        }
        assert!(latencies.percentile(90).unwrap() < Duration::from_millis(12));
        assert!(latencies.percentile(91).unwrap() >= Duration::from_millis(900));
        for _ in 0..20_000 {
            latencies.add(Duration::from_millis(10));
        }
        assert!(latencies.percentile(99).unwrap() < Duration::from_millis(12));
    }
}
