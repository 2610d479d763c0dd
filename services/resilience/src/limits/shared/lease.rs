//! What one replica has of one key of a shared limit: tokens drawn and not yet used, and until when not to ask. Pure;
//! the caller brings the time, in nanoseconds of a clock that never goes back.

use std::time::Duration;

use valerix_policy::LimitAlgorithm;

use super::super::level::{Decision, Quota, nanos};
use crate::clock::COARSE_STEP;

/// Most tokens of one lease.
const MAX_LEASE: u32 = 64;
/// What a lease lives at most.
const LIFE: Duration = Duration::from_secs(1);
/// Least life of a draw of a Window, so that an answer that took its time can still be used.
const LEAST_LIFE: Duration = Duration::from_millis(40);
/// Longest time for which a replica that found the limit used up does not ask again although there may be a little.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// When leases of others may have come back, so that asking again is worth it before the limit itself has room.
const LEASES_BACK: Duration = Duration::from_millis(1_200);
/// Leases of fewer tokens are not renewed ahead of time.
const LEAST_RENEWED: u32 = 8;

/// A shared limit in numbers, as one replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    quota: Quota,
    /// Most tokens held at a time; 0 where none are kept.
    lease: u32,
    /// For how long drawn tokens may be used, from the moment of asking.
    life: u64,
    /// For how long not to ask after less was granted than wanted, so that the next draw is worth its way.
    pause: u64,
    /// For how long a Window remembers a draw: the window and the longest life.
    memory: Duration,
}

impl Terms {
    pub(super) fn new(quota: Quota, replicas: u32) -> Self {
        let replicas = replicas.max(1);
        let lease = (quota.at_once().saturating_sub(1) / replicas.saturating_mul(2)).min(MAX_LEASE);
        let lease = if lease < 2 { 0 } else { lease };
        let longest = match quota.algorithm {
            LimitAlgorithm::GCRA => LIFE,
            // What a draw may be used later is what the window must remember longer: a sixteenth costs little. Not
            // by the number of replicas, on which they may differ for a while.
            LimitAlgorithm::Window => (quota.window / 16).clamp(LEAST_LIFE, LIFE),
        };
        let life = if lease == 0 { LEAST_LIFE } else { longest };
        // Three quarters of the time in which the limit brings a lease for each replica.
        let together = quota.spacing().saturating_mul(u64::from(replicas) * u64::from(lease));
        Self {
            quota,
            lease,
            // The clock may be that late.
            life: nanos(life - COARSE_STEP),
            pause: (together / 4 * 3).min(nanos(LONGEST_PAUSE)),
            memory: quota.window + longest,
        }
    }

    pub(super) const fn quota(&self) -> &Quota {
        &self.quota
    }

    pub(super) fn memory_micros(&self) -> u64 {
        micros(self.memory)
    }

    /// Tokens that are drawn at a time at most.
    fn most(&self) -> u32 {
        if self.lease == 0 { MAX_LEASE } else { self.lease }
    }
}

/// What is asked of Redis in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Draw {
    /// Tokens wanted.
    pub(super) wanted: u32,
    /// Whether they may be used later.
    pub(super) lease: bool,
    /// Redis' time of the draw that ends with this one, in microseconds; 0 for none.
    pub(super) drawn_at: u64,
    /// Its tokens, if it was a lease.
    pub(super) ended: u32,
    /// Its tokens that were not used.
    pub(super) returned: u32,
    /// When this was asked, by the own clock.
    pub(super) sent: u64,
}

/// What Redis says; times in nanoseconds from then, but for `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) granted: u32,
    /// Tokens that are left for everyone.
    pub(super) left: u32,
    /// Until when there are more than that.
    pub(super) reset: u64,
    /// Until when there is one, if there is none.
    pub(super) retry: u64,
    /// Redis' time in microseconds.
    pub(super) at: u64,
}

/// What a replica can say by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Allowed(Decision),
    Refused(Decision),
    /// Redis must be asked.
    Ask,
}

/// What a shared limit said, and who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) decision: Decision,
    /// By the local share, because Redis did not answer.
    pub(super) locally: bool,
}

/// One key's state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lease {
    /// Not yet used.
    tokens: u32,
    /// As granted.
    size: u32,
    /// What the next draw wants at least.
    next: u32,
    /// Left for everyone, as last heard.
    left: u32,
    /// Used while a draw was under way.
    spent: u32,
    in_flight: bool,
    /// Whether Redis counts `size` as leased.
    leased: bool,
    /// Redis' time of the draw; 0 where it can no longer be settled.
    drawn_at: u64,
    expires: u64,
    ask_after: u64,
    /// When a refused caller may come back, as far as is known.
    retries: u64,
    resets: u64,
    /// When the key is as good as new.
    full_at: u64,
}

impl Lease {
    /// Takes a token if there is one, or says why not.
    pub(super) fn take(&mut self, now: u64) -> Step {
        if self.is_live(now) {
            self.tokens -= 1;
            self.spent += u32::from(self.in_flight);
            return Step::Allowed(Decision {
                allowed: true,
                remaining: self.tokens.saturating_add(self.left),
                reset: Duration::from_nanos(self.resets.saturating_sub(now)),
            });
        }
        // What came too late to be used makes room when it goes back.
        if now < self.ask_after && !self.is_over(now) {
            return Step::Refused(Decision {
                allowed: false,
                remaining: 0,
                reset: Duration::from_nanos(self.ask_after.max(self.retries) - now),
            });
        }
        Step::Ask
    }

    const fn is_live(&self, now: u64) -> bool {
        self.tokens > 0 && now < self.expires
    }

    /// Whether to draw ahead of need: while a quarter is left, so that nobody waits.
    pub(super) const fn is_low(&self, now: u64) -> bool {
        self.leased
            && !self.in_flight
            && self.size >= LEAST_RENEWED
            && self.tokens <= self.size / 4
            && now < self.expires
            && now >= self.ask_after
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether tokens wait to be returned.
    pub(super) const fn is_over(&self, now: u64) -> bool {
        self.tokens > 0 && now >= self.expires && !self.in_flight
    }

    /// Tokens that are not used, and until when they may be.
    pub(super) fn unused(&self) -> Option<u64> {
        (self.tokens > 0 && !self.in_flight).then_some(self.expires)
    }

    /// Whether it holds nothing that a new one would not.
    pub(super) const fn is_idle(&self, now: u64) -> bool {
        self.tokens == 0 && !self.in_flight && now >= self.full_at && now >= self.ask_after
    }

    /// What to ask: tokens for those who wait, and more where the last lease was used up in time. Nothing else may be
    /// asked for this key until the answer came or was lost.
    pub(super) fn draw(&mut self, terms: &Terms, waiting: u32, now: u64) -> Draw {
        if terms.lease == 0 {
            self.next = 1;
        } else if self.tokens > 0 && now >= self.expires {
            self.next = (self.next / 2).max(1);
        } else if self.size > 0 && now < self.expires {
            self.next = self.next.saturating_mul(2).clamp(1, terms.lease);
        } else {
            self.next = self.next.clamp(1, terms.lease);
        }
        let wanted = if terms.lease == 0 {
            waiting
        } else {
            self.next.max(waiting)
        };
        self.ask(wanted.min(terms.most()), terms.lease > 0, now)
    }

    /// Returns what was not used, and draws nothing.
    pub(super) fn end(&mut self, now: u64) -> Draw {
        self.next = (self.next / 2).max(1);
        self.ask(0, false, now)
    }

    fn ask(&mut self, wanted: u32, lease: bool, now: u64) -> Draw {
        let settled = self.drawn_at > 0 && (self.leased || self.tokens > 0);
        let draw = Draw {
            wanted,
            lease,
            drawn_at: if settled { self.drawn_at } else { 0 },
            ended: if settled && self.leased { self.size } else { 0 },
            returned: if settled { self.tokens } else { 0 },
            sent: now,
        };
        // What is drawn anew in the same step may be used meanwhile; the answer holds at least as many.
        let renewed = lease && self.leased && self.is_live(now) && wanted >= self.tokens;
        if !renewed {
            self.tokens = 0;
        }
        self.spent = 0;
        self.in_flight = true;
        draw
    }

    /// Takes the answer.
    pub(super) fn answered(&mut self, terms: &Terms, draw: &Draw, reply: &Reply, now: u64) {
        self.in_flight = false;
        self.tokens = reply.granted.saturating_sub(self.spent);
        self.spent = 0;
        self.size = reply.granted;
        self.leased = draw.lease && reply.granted > 0;
        self.drawn_at = if reply.granted > 0 { reply.at } else { 0 };
        self.expires = draw.sent.saturating_add(terms.life);
        self.left = reply.left;
        self.resets = now.saturating_add(reply.reset);
        self.full_at = match terms.quota.algorithm {
            LimitAlgorithm::GCRA => self.resets,
            // Sixteen slots of a fifteenth.
            LimitAlgorithm::Window if reply.reset > 0 => now.saturating_add(nanos(terms.memory) / 15 * 16),
            LimitAlgorithm::Window => now,
        };
        if reply.left > 0 {
            (self.ask_after, self.retries) = (0, 0);
            return;
        }
        self.retries = now.saturating_add(reply.retry);
        let paused = terms.quota.algorithm == LimitAlgorithm::GCRA && draw.wanted > 0;
        let wait = if paused {
            reply.retry.max(terms.pause)
        } else {
            reply.retry
        };
        let longest = if terms.lease > 0 { nanos(LEASES_BACK) } else { u64::MAX };
        self.ask_after = now.saturating_add(wait.min(longest));
    }

    /// Nobody knows whether Redis did it: the old tokens may be used to their end (either they still count, or the
    /// new ones count in their place), and none is ever returned.
    pub(super) fn lost(&mut self) {
        self.in_flight = false;
        self.spent = 0;
        self.size = 0;
        self.leased = false;
        self.drawn_at = 0;
    }

    /// Drops what could not be returned.
    pub(super) fn forget(&mut self) {
        self.lost();
        self.tokens = 0;
    }

    /// Takes a token back that was not used after all. Returns whether it is the only one.
    pub(super) fn give_back(&mut self, now: u64) -> bool {
        if self.in_flight || now >= self.expires || self.tokens >= self.size {
            return false;
        }
        self.tokens += 1;
        self.tokens == 1
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> 13).max(1)
}
