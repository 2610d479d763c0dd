//! One rule's limit over any number of keys, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::level::{Decision, Level, Quota, Rate};
use crate::clock::{Clock, CoarseClock};

const SHARDS: usize = 16;
/// Keys that are kept apart, over all shards.
pub const MAX_KEYS: usize = 100_000;
const KEYS_PER_SHARD: usize = MAX_KEYS / SHARDS;
/// What keys beyond those share, in each shard.
const OVERFLOW: usize = 4;
/// A full shard looks for idle keys at most this often (nanoseconds).
const SWEEP_EVERY: u64 = 50_000_000;

/// A limit.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::policy::LimitAlgorithm;
/// use valerix_resilience::{ManualClock, Quota, RateLimiter};
///
/// let quota = Quota { requests: 2, window: Duration::from_secs(1), burst: 1, algorithm: LimitAlgorithm::Window };
/// let limiter = RateLimiter::with_clock(quota, ManualClock::default());
/// assert!(limiter.take("alice").allowed);
/// assert!(limiter.take("alice").allowed);
/// assert!(!limiter.take("alice").allowed);
/// assert!(limiter.take("bob").allowed);
/// ```
#[derive(Debug)]
pub struct RateLimiter<C: Clock = CoarseClock> {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    hasher: RandomState,
    clock: C,
}

#[derive(Debug)]
struct Shard {
    rate: Rate,
    /// Counted under the lock that is held anyway.
    allowed: u64,
    refused: u64,
    keys: HashMap<u64, Level, AlreadyHashed>,
    overflow: [Level; OVERFLOW],
    swept_at: u64,
}

impl RateLimiter<CoarseClock> {
    /// A limit on the coarse monotonic clock. A Window is exact on it; GCRA counts its step as time, and so may let pass
    /// what comes with 10 ms more. [`with_clock`](Self::with_clock) takes an exact one.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self::with_clock(quota, CoarseClock)
    }
}

impl<C: Clock> RateLimiter<C> {
    /// A limit on a clock of one's own.
    #[must_use]
    pub fn with_clock(quota: Quota, clock: C) -> Self {
        let shard = || Shard {
            rate: Rate::new(quota),
            allowed: 0,
            refused: 0,
            keys: HashMap::default(),
            overflow: std::array::from_fn(|_| Level::empty(&quota)),
            swept_at: 0,
        };
        Self {
            shards: (0..SHARDS).map(|_| CachePadded::new(Mutex::new(shard()))).collect(),
            hasher: RandomState::new(),
            clock,
        }
    }

    /// The number under which a key is kept. A caller that asks often may keep it.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        // Only the bytes: what `str` adds to tell two strings in a row apart costs a call and tells nothing here.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    /// Takes one for `key`, if it may pass.
    pub fn take(&self, key: &str) -> Decision {
        self.take_number(self.number(key))
    }

    /// As [`take`](Self::take), by the key's number.
    pub fn take_number(&self, number: u64) -> Decision {
        self.with_shard(number, |shard, now| {
            let decision = shard.with_level(number, now, Level::take_rated);
            if decision.allowed {
                shard.allowed += 1;
            } else {
                shard.refused += 1;
            }
            decision
        })
    }

    /// What `take` would say, without taking.
    #[must_use]
    pub fn peek(&self, key: &str) -> Decision {
        let number = self.number(key);
        let shard = self.shard(number).lock().unwrap_or_else(PoisonError::into_inner);
        let (quota, now) = (shard.rate.quota, self.clock.nanos());
        match shard.keys.get(&number) {
            Some(level) => level.peek(&quota, now),
            None if shard.keys.len() < KEYS_PER_SHARD => Level::empty(&quota).peek(&quota, now),
            None => shard.overflow[overflow_place(number)].peek(&quota, now),
        }
    }

    /// Gives back one that was taken for a request that another limit refused.
    pub fn give_back(&self, number: u64) {
        self.with_shard(number, |shard, now| {
            shard.with_level(number, now, |level, rate, now| level.give_back(&rate.quota, now));
            shard.allowed = shard.allowed.saturating_sub(1);
        });
    }

    #[inline(always)]
    fn with_shard<T>(&self, number: u64, act: impl FnOnce(&mut Shard, u64) -> T) -> T {
        let mut shard = self.shard(number).lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that times do not run backwards within a shard.
        let now = self.clock.nanos();
        act(&mut shard, now)
    }

    fn shard(&self, number: u64) -> &Mutex<Shard> {
        // The high bits: the map inside takes the low ones.
        &self.shards[usize::try_from(number >> 60).unwrap_or_default() % SHARDS]
    }

    /// The numbers in force.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.shards[0].lock().unwrap_or_else(PoisonError::into_inner).rate.quota
    }

    /// Takes new numbers. What each key has used stays used.
    pub fn reconfigure(&self, quota: Quota) {
        let now = self.clock.nanos();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let shard = &mut *shard;
            let former = shard.rate.quota;
            if former == quota {
                continue;
            }
            for level in shard.keys.values_mut().chain(&mut shard.overflow) {
                level.convert(&former, &quota, now);
            }
            shard.rate = Rate::new(quota);
        }
    }

    /// Keys that are kept apart at the moment.
    #[must_use]
    pub fn live_keys(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).keys.len())
            .sum()
    }

    /// Requests let pass and refused since the start.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(allowed, refused), shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            (allowed + shard.allowed, refused + shard.refused)
        })
    }
}

impl Shard {
    /// Acts on what the key has used; beyond the keys that are kept apart, on what its share of the others has.
    #[inline]
    fn with_level<T>(&mut self, number: u64, now: u64, act: impl FnOnce(&mut Level, &Rate, u64) -> T) -> T {
        let Self { rate, keys, .. } = self;
        if let Some(level) = keys.get_mut(&number) {
            return act(level, rate, now);
        }
        let rate = self.rate;
        act(self.new_level(number, now), &rate, now)
    }

    #[cold]
    fn new_level(&mut self, number: u64, now: u64) -> &mut Level {
        let quota = self.rate.quota;
        if self.keys.len() >= KEYS_PER_SHARD && now.saturating_sub(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = now;
            self.keys.retain(|_, level| !level.is_idle(&quota, now));
        }
        if self.keys.len() < KEYS_PER_SHARD {
            self.keys.entry(number).or_insert_with(|| Level::empty(&quota))
        } else {
            &mut self.overflow[overflow_place(number)]
        }
    }
}

fn overflow_place(number: u64) -> usize {
    usize::try_from(number >> 32).unwrap_or_default() % OVERFLOW
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AlreadyHashed;

impl BuildHasher for AlreadyHashed {
    type Hasher = Identity;

    fn build_hasher(&self) -> Identity {
        Identity(0)
    }
}

pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The shard took the top bits, which hashbrown looks at too.
        self.0 = number.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use valerix_policy::LimitAlgorithm;

    use super::*;
    use crate::clock::ManualClock;

    fn quota(requests: u32, algorithm: LimitAlgorithm) -> Quota {
        Quota {
            requests,
            window: Duration::from_secs(1),
            burst: requests,
            algorithm,
        }
    }

    #[test]
    fn a_flood_of_new_keys_is_bounded_and_still_limited() {
        let clock = ManualClock::default();
        let limiter = RateLimiter::with_clock(quota(2, LimitAlgorithm::Window), clock.clone());
        let allowed = (0..400_000_u64)
            .filter(|key| limiter.take(&key.to_string()).allowed)
            .count();
        assert!(limiter.live_keys() <= MAX_KEYS);
        assert!(
            allowed <= MAX_KEYS + 2 * OVERFLOW * SHARDS,
            "{allowed}: the excess shares its buckets"
        );
        let known = (0..1_000_u64)
            .filter(|key| limiter.take(&key.to_string()).allowed)
            .count();
        assert_eq!(known, 1_000, "who came first keeps a limit of their own");
        clock.advance(Duration::from_secs(2));
        assert!(limiter.take("late").allowed);
        assert!(limiter.live_keys() <= MAX_KEYS);
        let fresh = (0..90_000_u64)
            .filter(|key| limiter.take(&format!("new {key}")).allowed)
            .count();
        assert_eq!(fresh, 90_000, "idle keys made room");
    }

    #[test]
    fn levels_survive_a_reload() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(100));
        let limiter = RateLimiter::with_clock(quota(10, LimitAlgorithm::Window), clock);
        for _ in 0..7 {
            assert!(limiter.take("a").allowed);
        }
        limiter.reconfigure(quota(8, LimitAlgorithm::Window));
        assert!(limiter.take("a").allowed);
        assert!(!limiter.take("a").allowed);
        limiter.reconfigure(quota(9, LimitAlgorithm::GCRA));
        assert!(limiter.take("a").allowed);
        assert!(!limiter.take("a").allowed);
        assert!(limiter.take("b").allowed);
    }

    #[test]
    fn what_was_given_back_was_not_let_pass() {
        let limiter = RateLimiter::with_clock(quota(2, LimitAlgorithm::Window), ManualClock::default());
        let number = limiter.number("a");
        assert!(limiter.take_number(number).allowed);
        assert!(limiter.take_number(number).allowed);
        limiter.give_back(number);
        assert_eq!(limiter.totals(), (1, 0));
        assert!(limiter.take("a").allowed);
        assert!(!limiter.take("a").allowed);
        assert_eq!(limiter.totals(), (2, 1));
    }

    #[test]
    fn threads_together_never_pass_the_limit() {
        let limiter = RateLimiter::with_clock(quota(100, LimitAlgorithm::Window), ManualClock::default());
        let allowed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        allowed.fetch_add(u64::from(limiter.take("all").allowed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(allowed.into_inner(), 100);
        assert_eq!(limiter.totals(), (100, 300));
    }
}
