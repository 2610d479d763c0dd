//! One rule's shared limit over any number of keys: the leases in bounded memory, who waits for Redis, and the local
//! share for when it does not answer. Asks [`Store`] from tasks of its own, so that a caller that leaves loses nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::super::level::{Quota, Rate};
use super::lease::{Draw, Step, Terms, Told};
use super::shard::{At, Entry, SHARDS, Shard, digest, local, stable_hash};
use super::store::{NoAnswer, Store};
use crate::clock::{Clock, CoarseClock};

/// What keys beyond those share, the same ones on every replica.
const OVERFLOW: u64 = 64;
/// How often leases that are over are looked for.
const RETURN_EVERY: Duration = Duration::from_millis(100);
/// Returns under way at a time.
const RETURNS: usize = 64;
/// Callers that wait for Redis at a time; one more is told by the local share.
const MAX_WAITING: usize = 8_192;

pub(super) struct Shared {
    store: Arc<Store>,
    /// What stands before the digest of a key.
    name: String,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    hasher: RandomState,
    waiting: AtomicUsize,
    returning: AtomicBool,
    pub(super) allowed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) local: AtomicU64,
}

/// A lease that is over, and the draw that returns what is left of it.
type Return = (At, [u8; 16], Terms, Draw);

/// What a caller hears at once.
enum Begun {
    Told(Told),
    Waiting(oneshot::Receiver<Told>),
}

impl Shared {
    pub(super) fn new(store: Arc<Store>, name: String, quota: Quota, replicas: u32) -> Self {
        let shard = || Shard {
            terms: Terms::new(quota, replicas),
            share: Rate::new(quota.divided(replicas)),
            keys: HashMap::default(),
            ends: VecDeque::new(),
            swept_at: 0,
        };
        Self {
            store,
            name,
            shards: (0..=SHARDS).map(|_| CachePadded::new(Mutex::new(shard()))).collect(),
            hasher: RandomState::new(),
            waiting: AtomicUsize::new(0),
            returning: AtomicBool::new(false),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            local: AtomicU64::new(0),
        }
    }

    pub(super) async fn take(self: &Arc<Self>, key: &str) -> Told {
        let told = match self.begin(key) {
            Begun::Told(told) => told,
            // Dropped unanswered only where the runtime ends.
            Begun::Waiting(told) => match told.await {
                Ok(told) => told,
                Err(_) => self.locally(key),
            },
        };
        let counter = if told.decision.allowed {
            &self.allowed
        } else {
            &self.refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if told.locally {
            self.local.fetch_add(1, Ordering::Relaxed);
        }
        told
    }

    fn begin(self: &Arc<Self>, key: &str) -> Begun {
        self.store.begin();
        self.with_entry(key, |shard, at, now| self.decide(shard, at, key, now))
    }

    fn locally(self: &Arc<Self>, key: &str) -> Told {
        self.with_entry(key, |shard, at, now| {
            let share = shard.share;
            local(shard.entry(at), &share, now)
        })
    }

    /// Runs `act` with the shard that holds the key, locked, and makes room there first.
    fn with_entry<T>(self: &Arc<Self>, key: &str, act: impl FnOnce(&mut Shard, At, u64) -> T) -> T {
        let number = self.hasher.hash_one(key);
        let at = At {
            // The high bits: the map inside takes the low ones.
            shard: usize::try_from(number >> 60).unwrap_or_default() % SHARDS,
            number,
        };
        let mut shard = self.lock(at.shard);
        // Under the lock, so that times do not run backwards within a shard.
        let now = CoarseClock.nanos();
        if shard.has_room_for(number, now) {
            return act(&mut shard, at, now);
        }
        drop(shard);
        let at = At {
            shard: SHARDS,
            number: stable_hash(key) % OVERFLOW,
        };
        let mut shard = self.lock(SHARDS);
        act(&mut shard, at, CoarseClock.nanos())
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(self: &Arc<Self>, shard: &mut Shard, at: At, key: &str, now: u64) -> Begun {
        let (terms, share) = (shard.terms, shard.share);
        let entry = shard.entry(at);
        let usable = self.store.is_usable();
        match entry.lease.take(now) {
            Step::Allowed(decision) => {
                // The own share knows all that passed here, so that losing Redis gives nobody a second burst.
                let _ = entry.local.take_rated(&share, now);
                if usable && entry.lease.is_low(now) {
                    let draw = entry.lease.draw(&terms, 0, now);
                    self.ask(at, entry.digest, terms, draw);
                }
                Begun::Told(Told {
                    decision,
                    locally: false,
                })
            }
            _ if !usable || self.waiting.load(Ordering::Relaxed) >= MAX_WAITING => {
                Begun::Told(local(entry, &share, now))
            }
            Step::Refused(decision) => Begun::Told(Told {
                decision,
                locally: false,
            }),
            Step::Ask => {
                let (tell, told) = oneshot::channel();
                entry.waiting.get_or_insert_default().push_back((now, tell));
                self.waiting.fetch_add(1, Ordering::Relaxed);
                if !entry.lease.is_in_flight() {
                    if entry.digest == [0; 16] {
                        entry.digest = digest(at, key);
                    }
                    let draw = entry.lease.draw(&terms, 1, now);
                    self.ask(at, entry.digest, terms, draw);
                }
                Begun::Waiting(told)
            }
        }
    }

    /// Asks Redis in a task of its own.
    fn ask(self: &Arc<Self>, at: At, digest: [u8; 16], terms: Terms, draw: Draw) {
        tokio::spawn(Arc::clone(self).asking(at, digest, terms, draw));
    }

    /// Asks until nobody waits any more.
    async fn asking(self: Arc<Self>, at: At, digest: [u8; 16], mut terms: Terms, mut draw: Draw) {
        let name = self.key_name(&digest);
        let patience = self.store.timeout();
        let mut budget = patience;
        loop {
            let answer = self.store.call(&name, &terms, &draw, budget).await;
            let mut shard = self.lock(at.shard);
            let now = CoarseClock.nanos();
            let share = shard.share;
            terms = shard.terms;
            let entry = shard.entry(at);
            match answer {
                Ok(reply) => {
                    entry.lease.answered(&terms, &draw, &reply, now);
                    self.tell(entry, &share, now);
                }
                Err(NoAnswer) => {
                    entry.lease.lost();
                    self.tell_locally(entry, &share, now, Duration::ZERO);
                }
            }
            // Another round only for those whose patience lasts.
            self.tell_locally(entry, &share, now, patience);
            let Some((since, _)) = entry.waiting.as_ref().and_then(|waiting| waiting.front()) else {
                let ends = entry.lease.unused();
                if let Some(ends) = ends {
                    shard.ends.push_back((ends, at.number));
                    drop(shard);
                    self.return_later();
                }
                return;
            };
            budget = patience.saturating_sub(Duration::from_nanos(now.saturating_sub(*since)));
            let callers = entry.waiting.as_ref().map_or(0, |waiting| waiting.len());
            draw = entry
                .lease
                .draw(&terms, u32::try_from(callers).unwrap_or(u32::MAX), now);
        }
    }

    /// Tells those who wait, as far as the lease knows what to tell them.
    fn tell(&self, entry: &mut Entry, share: &Rate, now: u64) {
        let Some(mut waiting) = entry.waiting.take() else {
            return;
        };
        while let Some((since, caller)) = waiting.pop_front() {
            // Whoever has gone must not take a token along.
            if caller.is_closed() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let decision = match entry.lease.take(now) {
                Step::Allowed(decision) => {
                    let _ = entry.local.take_rated(share, now);
                    decision
                }
                Step::Refused(decision) => decision,
                Step::Ask => {
                    waiting.push_front((since, caller));
                    entry.waiting = Some(waiting);
                    return;
                }
            };
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let told = Told {
                decision,
                locally: false,
            };
            if caller.send(told).is_err() && decision.allowed {
                entry.lease.give_back(now);
                entry.local.give_back(&share.quota, now);
            }
        }
    }

    /// Tells everyone who has waited for `patience` what the local share says.
    fn tell_locally(&self, entry: &mut Entry, share: &Rate, now: u64, patience: Duration) {
        let Some(mut waiting) = entry.waiting.take() else {
            return;
        };
        let tired = |(since, _): &mut (u64, _)| Duration::from_nanos(now.saturating_sub(*since)) >= patience;
        while let Some((_, caller)) = waiting.pop_front_if(tired) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if !caller.is_closed() {
                let _ = caller.send(local(entry, share, now));
            }
        }
        entry.waiting = (!waiting.is_empty()).then_some(waiting);
    }

    /// Gives back what `take` took for a request that another limit refused.
    #[cfg(feature = "axum")]
    pub(super) fn give_back(self: &Arc<Self>, key: &str, locally: bool) {
        self.allowed.fetch_sub(1, Ordering::Relaxed);
        let to_return = self.with_entry(key, |shard, at, now| {
            let share = shard.share;
            let entry = shard.entry(at);
            entry.local.give_back(&share.quota, now);
            if locally || !entry.lease.give_back(now) {
                return false;
            }
            if let Some(ends) = entry.lease.unused() {
                shard.ends.push_back((ends, at.number));
            }
            true
        });
        if to_return {
            self.return_later();
        }
    }

    /// Sees to it that leases which end with unused tokens are returned.
    fn return_later(self: &Arc<Self>) {
        if !self.returning.swap(true, Ordering::AcqRel) {
            tokio::spawn(return_unused(Arc::downgrade(self)));
        }
    }

    /// The leases that are over, as draws that return them. Whether more will end later comes with them.
    fn over(&self) -> (Vec<Return>, bool) {
        let (mut over, mut more) = (Vec::new(), false);
        for index in 0..self.shards.len() {
            let mut shard = self.lock(index);
            let now = CoarseClock.nanos();
            while let Some((_, number)) = shard.ends.pop_front_if(|(ends, _)| *ends <= now) {
                let terms = shard.terms;
                let Some(entry) = shard.keys.get_mut(&number) else {
                    continue;
                };
                if !entry.lease.is_over(now) {
                    continue;
                }
                if self.store.is_usable() {
                    let draw = entry.lease.end(now);
                    over.push((At { shard: index, number }, entry.digest, terms, draw));
                } else {
                    entry.lease.forget();
                }
            }
            more |= !shard.ends.is_empty();
        }
        (over, more)
    }

    /// Takes new numbers. What was drawn stays drawn, and what this replica let pass stays counted.
    pub(super) fn reconfigure(&self, quota: Quota, replicas: u32) {
        let (terms, share) = (Terms::new(quota, replicas), Rate::new(quota.divided(replicas)));
        for index in 0..self.shards.len() {
            let mut shard = self.lock(index);
            let shard = &mut *shard;
            if shard.terms == terms && shard.share == share {
                continue;
            }
            if shard.share != share {
                let now = CoarseClock.nanos();
                for entry in shard.keys.values_mut() {
                    entry.local.convert(&shard.share.quota, &share.quota, now);
                }
            }
            (shard.terms, shard.share) = (terms, share);
        }
    }

    pub(super) fn quota(&self) -> Quota {
        *self.lock(0).terms.quota()
    }

    pub(super) fn share(&self) -> Quota {
        self.lock(0).share.quota
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.store.is_down()
    }

    #[cfg(feature = "axum")]
    pub(super) fn begin_connecting(&self) {
        self.store.begin();
    }

    pub(super) fn live_keys(&self) -> usize {
        (0..SHARDS).map(|index| self.lock(index).keys.len()).sum()
    }

    fn key_name(&self, digest: &[u8; 16]) -> String {
        use std::fmt::Write;
        let mut name = String::with_capacity(self.name.len() + 32);
        name.push_str(&self.name);
        for byte in digest {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// Returns what leases that are over did not use, for as long as there are any.
async fn return_unused(limiter: Weak<Shared>) {
    loop {
        tokio::time::sleep(RETURN_EVERY).await;
        let Some(limiter) = limiter.upgrade() else { return };
        let (over, more) = limiter.over();
        let returns = over
            .into_iter()
            .map(|(at, digest, terms, draw)| Arc::clone(&limiter).asking(at, digest, terms, draw));
        futures_util::stream::iter(returns)
            .buffer_unordered(RETURNS)
            .collect::<()>()
            .await;
        if !more {
            limiter.returning.store(false, Ordering::Release);
            // What was added between looking and saying so is for whoever set the flag first.
            let added = (0..limiter.shards.len()).any(|index| !limiter.lock(index).ends.is_empty());
            if !added || limiter.returning.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}
