//! How long an object waits after it failed: doubling per object, from the start again after a success. Pure but for
//! the random spread.

use rand::RngExt;
use std::{collections::HashMap, hash::Hash, sync::Mutex, time::Duration};
use tokio::time::Instant;

/// Bounds of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Wait after the first failure.
    pub base: Duration,
    /// Longest wait.
    pub max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            max: Duration::from_secs(120),
        }
    }
}

/// Failures in a row, per object.
#[derive(Debug)]
pub struct Backoff<K> {
    bounds: Bounds,
    failures: Mutex<HashMap<K, Failures>>,
}

/// How many there were, and until when the object was told to wait.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    until: Instant,
}

impl<K: Hash + Eq> Backoff<K> {
    /// No failures yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a failure and says how long to wait: up to a fifth more than the doubled wait, so that objects that
    /// failed together do not return together. Whoever comes before that time, since something else has changed, and fails
    /// as well, waits for what is left of it: many changes in a short time are no reason to wait long.
    pub fn failed(&self, key: K) -> Duration {
        self.failed_at(key, Instant::now())
    }

    fn failed_at(&self, key: K, now: Instant) -> Duration {
        let mut failures = self.lock();
        let failures = failures.entry(key).or_insert(Failures { count: 0, until: now });
        if failures.until <= now {
            failures.count = failures.count.saturating_add(1);
            let wait = delay(self.bounds, failures.count);
            failures.until = now + wait.mul_f64(rand::rng().random_range(1.0..1.2));
        }
        failures.until - now
    }

    /// Forgets the failures of an object that succeeded or is gone.
    pub fn succeeded(&self, key: &K) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Failures>> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The wait after the `failures`-th failure in a row.
fn delay(bounds: Bounds, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    bounds.base.saturating_mul(1 << doublings).min(bounds.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let bounds = Bounds {
            base: Duration::from_secs(1),
            max: Duration::from_secs(10),
        };
        let waits: Vec<u64> = (1..7).map(|count| delay(bounds, count).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(delay(bounds, u32::MAX), Duration::from_secs(10));
    }

    #[test]
    fn objects_fail_alone_and_success_starts_over() {
        let (backoff, start) = (Backoff::new(Bounds::default()), Instant::now());
        let first = backoff.failed_at("a", start);
        assert!(backoff.failed_at("a", start + first) > first);
        assert!(backoff.failed_at("b", start) < Duration::from_millis(601));
        backoff.succeeded(&"a");
        assert!(backoff.failed_at("a", start + first) < Duration::from_millis(601));
    }

    #[test]
    fn whoever_fails_before_its_time_waits_for_the_rest_of_it() {
        let (backoff, start) = (Backoff::new(Bounds::default()), Instant::now());
        let first = backoff.failed_at("a", start);
        for early in [1, 20, 400].map(Duration::from_millis) {
            assert_eq!(backoff.failed_at("a", start + early), first - early);
        }
        let second = backoff.failed_at("a", start + first);
        assert!(
            (Duration::from_secs(1)..Duration::from_millis(1_201)).contains(&second),
            "{second:?}"
        );
    }
}
