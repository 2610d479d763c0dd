//! How much of a limit one key has used: a number or two, and the arithmetic on them. Pure.
//!
//! - GCRA keeps the theoretical arrival time (TAT): accepted <= burst + rate * time. Where the clock is coarse, its step
//!   counts as time.
//! - Window counts in slots that together cover a little more than the window: never more than `requests` in any
//!   window, whatever the step of the clock, and a request is remembered for at most a slot and a step too long.

use std::time::Duration;

use valerix_policy::{LimitAlgorithm, RateLimitRule};

use crate::clock::COARSE_STEP;

/// Slots of a small window: six cover it, the seventh is the one that is passing.
const SMALL_SLOTS: u32 = 7;
const SMALL_BITS: u32 = 7;
const SMALL_MOST: u64 = (1 << SMALL_BITS) - 1;
const SMALL_COUNTS: u64 = (1 << (SMALL_SLOTS * SMALL_BITS)) - 1;
/// Slots of a large window: fifteen cover it.
const LARGE_SLOTS: usize = 16;

/// A limit in numbers.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::Quota;
/// use valerix_resilience::policy::LimitAlgorithm;
///
/// let whole = Quota { requests: 100, window: Duration::from_secs(10), burst: 30, algorithm: LimitAlgorithm::GCRA };
/// assert_eq!(whole.at_once(), 30);
/// let share = whole.divided(3);
/// assert_eq!((share.requests, share.burst), (33, 10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests per window, at least 1.
    pub requests: u32,
    /// The window.
    pub window: Duration,
    /// Requests at once, for GCRA.
    pub burst: u32,
    /// How it counts.
    pub algorithm: LimitAlgorithm,
}

impl Quota {
    /// The numbers of a rule, or the share of one of `replicas`.
    #[must_use]
    pub fn share(rule: &RateLimitRule, replicas: u32) -> Self {
        let whole = Self {
            requests: rule.requests,
            window: rule.window.get(),
            burst: rule.burst(),
            algorithm: rule.algorithm(),
        };
        whole.divided(replicas)
    }

    /// The share of one of `replicas`; at least one request.
    #[must_use]
    pub fn divided(self, replicas: u32) -> Self {
        let replicas = replicas.max(1);
        Self {
            requests: (self.requests / replicas).max(1),
            burst: (self.burst / replicas).max(1),
            ..self
        }
    }

    fn window_nanos(&self) -> u64 {
        nanos(self.window).clamp(1, u64::MAX / 4)
    }

    /// Nanoseconds between requests at the steady rate.
    pub(super) fn spacing(&self) -> u64 {
        (self.window_nanos() / u64::from(self.requests.max(1))).max(1)
    }

    /// How far the arrival time may be ahead.
    fn tolerance(&self) -> u64 {
        self.spacing().saturating_mul(u64::from(self.burst.max(1)) - 1)
    }

    pub(super) fn is_small(&self) -> bool {
        u64::from(self.requests) <= SMALL_MOST
    }

    fn slot_nanos(&self) -> u64 {
        let covering = if self.is_small() {
            u64::from(SMALL_SLOTS) - 1
        } else {
            LARGE_SLOTS as u64 - 1
        };
        // A request may be counted a step of the clock too early: it is remembered for so much longer.
        (self.window_nanos() + nanos(COARSE_STEP)).div_ceil(covering)
    }

    /// The most requests that this quota lets pass at once.
    #[must_use]
    pub fn at_once(&self) -> u32 {
        if self.algorithm == LimitAlgorithm::GCRA {
            self.burst.max(1)
        } else {
            self.requests
        }
    }
}

/// Nanoseconds, bounded so that sums of a few do not overflow.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// A quota with what each decision needs of it, worked out once: a division costs as much as the rest of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) quota: Quota,
    spacing: u64,
    tolerance: u64,
    slot: u64,
}

impl Rate {
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            quota,
            spacing: quota.spacing(),
            tolerance: quota.tolerance(),
            slot: quota.slot_nanos(),
        }
    }
}

/// What a limit says to one request.
///
/// ```
/// # use std::time::Duration;
/// # use valerix_resilience::policy::LimitAlgorithm;
/// # use valerix_resilience::{ManualClock, Quota, RateLimiter};
/// # let quota = Quota { requests: 1, window: Duration::from_secs(10), burst: 1, algorithm: LimitAlgorithm::GCRA };
/// # let limiter = RateLimiter::with_clock(quota, ManualClock::default());
/// assert!(limiter.take("alice").allowed);
/// let refused = limiter.take("alice");
/// assert!(!refused.allowed);
/// assert_eq!((refused.remaining, refused.reset), (0, Duration::from_secs(10)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub allowed: bool,
    /// Requests that may pass now, after this one.
    pub remaining: u32,
    /// Until when more than `remaining` may pass; for a refused request, until one may.
    pub reset: Duration,
}

/// What one key has used.
#[derive(Clone, Debug)]
pub(super) enum Level {
    /// The TAT in nanoseconds.
    Gcra(u64),
    /// The counts of the newest slot and of those before it (7 bits each, newest lowest), and the newest one's number. It
    /// comes round after two years of the shortest window at the earliest.
    Small {
        epoch: u32,
        counts: u64,
    },
    Large(Box<Large>),
}

/// The counts of a window of more than 127 requests. In this order, so that what most requests touch is in one line of
/// the cache, the newest count included.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Large {
    /// What all requests of the same slot have in common: when it ends (0 where it must be worked out anew), when the
    /// oldest count leaves, and the sum.
    ends: u64,
    leaves: u64,
    used: u32,
    /// Newest first.
    counts: [u32; LARGE_SLOTS],
    epoch: u64,
}

impl Level {
    pub(super) fn empty(quota: &Quota) -> Self {
        match quota.algorithm {
            LimitAlgorithm::GCRA => Self::Gcra(0),
            LimitAlgorithm::Window if quota.is_small() => Self::Small { epoch: 0, counts: 0 },
            LimitAlgorithm::Window => Self::Large(Box::default()),
        }
    }

    /// Whether it holds nothing that an empty one would not.
    pub(super) fn is_idle(&self, quota: &Quota, now: u64) -> bool {
        match self {
            Self::Gcra(tat) => *tat <= now,
            Self::Small { .. } | Self::Large(_) => self.clone().used(quota, now) == 0,
        }
    }

    /// Decides without taking.
    pub(super) fn peek(&self, quota: &Quota, now: u64) -> Decision {
        self.clone().take(quota, now)
    }

    /// Decides, and takes one if it may pass.
    pub(super) fn take(&mut self, quota: &Quota, now: u64) -> Decision {
        self.take_rated(&Rate::new(*quota), now)
    }

    /// As `take`, with the divisions done.
    #[inline]
    pub(super) fn take_rated(&mut self, rate: &Rate, now: u64) -> Decision {
        match self {
            Self::Gcra(tat) => gcra(tat, rate, now),
            // Within one slot nothing moves: most requests of a busy limit come through here.
            Self::Large(large) if now < large.ends && large.used < rate.quota.requests => {
                large.counts[0] += 1;
                large.used += 1;
                Decision {
                    allowed: true,
                    remaining: rate.quota.requests - large.used,
                    reset: Duration::from_nanos(large.leaves.saturating_sub(now)),
                }
            }
            Self::Small { .. } | Self::Large(_) => self.window(rate, now),
        }
    }

    /// Gives back what one `take` took.
    pub(super) fn give_back(&mut self, quota: &Quota, now: u64) {
        match self {
            Self::Gcra(tat) => *tat = tat.saturating_sub(quota.spacing()),
            Self::Small { .. } | Self::Large(_) => {
                let _ = self.used(quota, now);
                match self {
                    Self::Small { counts, .. } if *counts & SMALL_MOST > 0 => *counts -= 1,
                    Self::Large(large) => large.counts[0] = large.counts[0].saturating_sub(1),
                    _ => {}
                }
            }
        }
    }

    fn window(&mut self, rate: &Rate, now: u64) -> Decision {
        let epoch = now / rate.slot;
        let used = self.used_at(epoch);
        let requests = rate.quota.requests;
        let allowed = used < requests;
        if allowed {
            match self {
                Self::Small { counts, .. } => *counts += 1,
                Self::Large(large) => large.counts[0] += 1,
                Self::Gcra(_) => {}
            }
        }
        let used = used + u32::from(allowed);
        let leaves = self.oldest_leaves(epoch, rate.slot);
        if let Self::Large(large) = self {
            (large.ends, large.used, large.leaves) = ((epoch + 1).saturating_mul(rate.slot), used, leaves);
        }
        Decision {
            allowed,
            remaining: requests.saturating_sub(used),
            reset: Duration::from_nanos(leaves.saturating_sub(now)),
        }
    }

    /// Moves the slots up to `now` and sums them.
    fn used(&mut self, quota: &Quota, now: u64) -> u32 {
        self.used_at(now / quota.slot_nanos())
    }

    fn used_at(&mut self, epoch: u64) -> u32 {
        match self {
            Self::Gcra(_) => 0,
            Self::Small { epoch: newest, counts } => {
                let passed = (epoch & u64::from(u32::MAX)).wrapping_sub(u64::from(*newest)) & u64::from(u32::MAX);
                *counts = if passed >= u64::from(SMALL_SLOTS) {
                    0
                } else {
                    *counts << (passed * u64::from(SMALL_BITS)) & SMALL_COUNTS
                };
                *newest = newest.wrapping_add(u32::try_from(passed).unwrap_or_default());
                let sum: u64 = (0..SMALL_SLOTS)
                    .map(|slot| *counts >> (slot * SMALL_BITS) & SMALL_MOST)
                    .sum();
                u32::try_from(sum).unwrap_or(u32::MAX)
            }
            Self::Large(large) => {
                let passed = usize::try_from(epoch.saturating_sub(large.epoch)).unwrap_or(usize::MAX);
                if passed >= LARGE_SLOTS {
                    large.counts = [0; LARGE_SLOTS];
                } else if passed > 0 {
                    large.counts.rotate_right(passed);
                    large.counts[..passed].fill(0);
                }
                large.epoch = epoch;
                large.ends = 0;
                large.counts.iter().sum()
            }
        }
    }

    /// When the oldest slot that holds a request leaves the window, on the clock; zero when none does.
    fn oldest_leaves(&self, epoch: u64, slot: u64) -> u64 {
        let (slots, oldest) = match self {
            Self::Gcra(_) => return 0,
            // The highest bit that is set is the oldest slot's.
            Self::Small { counts, .. } => (SMALL_SLOTS, counts.checked_ilog2().map(|bit| bit / SMALL_BITS)),
            Self::Large(large) => {
                let oldest = large.counts.iter().rposition(|count| *count > 0);
                (LARGE_SLOTS as u32, oldest.and_then(|slot| u32::try_from(slot).ok()))
            }
        };
        oldest.map_or(0, |oldest| (epoch + u64::from(slots - oldest)).saturating_mul(slot))
    }

    /// The same use under other numbers: nobody gains by a reload, and nobody waits longer than the new numbers ask.
    pub(super) fn convert(&mut self, from: &Quota, to: &Quota, now: u64) {
        let used = match self {
            Self::Gcra(tat) => u32::try_from(tat.saturating_sub(now).div_ceil(from.spacing())).unwrap_or(u32::MAX),
            Self::Small { .. } | Self::Large(_) => self.used(from, now),
        };
        let used = used.min(to.at_once());
        *self = Self::empty(to);
        match self {
            Self::Gcra(tat) => *tat = now.saturating_add(to.spacing().saturating_mul(u64::from(used))),
            Self::Small { .. } | Self::Large(_) => {
                let _ = self.used(to, now);
                match self {
                    Self::Small { counts, .. } => *counts += u64::from(used),
                    Self::Large(large) => large.counts[0] = used,
                    Self::Gcra(_) => {}
                }
            }
        }
    }
}

#[inline]
fn gcra(tat: &mut u64, rate: &Rate, now: u64) -> Decision {
    let (spacing, tolerance) = (rate.spacing, rate.tolerance);
    let ahead = tat.saturating_sub(now);
    if ahead > tolerance {
        return Decision {
            allowed: false,
            remaining: 0,
            reset: Duration::from_nanos(ahead - tolerance),
        };
    }
    *tat = now + ahead + spacing;
    // What is left of the burst, in whole requests.
    let remaining = u32::try_from((tolerance - ahead) / spacing).unwrap_or(u32::MAX);
    Decision {
        allowed: true,
        remaining,
        reset: Duration::from_nanos(ahead + spacing),
    }
}

#[cfg(test)]
mod tests;
