//! The calls over which rates are taken: the last seconds (sharded counters) or the last calls (a ring of outcomes).
//!
//! Adding is lock-free. A failure adds first, then fences, then sums: of two failures that race, at least one sees both.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering, WINDOW_SLOTS as SLOTS, fence};

const COUNT_BITS: u32 = 36;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_MASK: u64 = (1 << (64 - COUNT_BITS)) - 1;

/// What one call adds to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) failure: bool,
    pub(crate) slow: bool,
}

/// Sums over the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
}

/// One counter of one slot of one shard: the epoch (28 bits) it belongs to, and the count (36 bits).
#[derive(Debug)]
struct Counter(AtomicU64);

impl Counter {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    fn add(&self, epoch: u64, by: u64) {
        let current = self.0.load(Ordering::Relaxed);
        if current >> COUNT_BITS == epoch & EPOCH_MASK {
            // A reset by another thread in between moves this count to the next epoch, which is as true.
            self.0.fetch_add(by, Ordering::Relaxed);
        } else {
            self.begin(epoch, by, current);
        }
    }

    /// The first count of an epoch.
    #[cold]
    fn begin(&self, epoch: u64, by: u64, mut current: u64) {
        let tag = epoch & EPOCH_MASK;
        loop {
            if current >> COUNT_BITS == tag {
                self.0.fetch_add(by, Ordering::Relaxed);
                return;
            }
            let fresh = tag << COUNT_BITS | by;
            match self
                .0
                .compare_exchange_weak(current, fresh, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(found) => current = found,
            }
        }
    }

    fn get(&self, epoch: u64) -> u64 {
        let current = self.0.load(Ordering::Relaxed);
        if current >> COUNT_BITS == epoch & EPOCH_MASK {
            current & COUNT_MASK
        } else {
            0
        }
    }
}

#[derive(Debug)]
struct Slot {
    calls: Counter,
    failures: Counter,
    slow: Counter,
}

/// The last seconds. Epochs are counted from 1, so that a counter never written (epoch 0) reads as empty.
#[derive(Debug)]
pub(crate) struct TimeWindow {
    shards: Box<[CachePadded<[Slot; SLOTS]>]>,
    /// An epoch lasts 2^shift milliseconds.
    shift: AtomicU32,
    /// Epochs in the window, the running one included.
    epochs: AtomicU32,
}

impl TimeWindow {
    pub(crate) fn new(millis: u64, shards: usize) -> Self {
        let slot = || Slot {
            calls: Counter::new(),
            failures: Counter::new(),
            slow: Counter::new(),
        };
        let (shift, epochs) = resolution(millis);
        Self {
            shards: (0..shards.next_power_of_two())
                .map(|_| CachePadded::new(std::array::from_fn(|_| slot())))
                .collect(),
            shift: AtomicU32::new(shift),
            epochs: AtomicU32::new(epochs),
        }
    }

    #[inline]
    fn epoch(&self, now: u64) -> u64 {
        (now >> self.shift.load(Ordering::Relaxed)) + 1
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the number of slots")]
    const fn slot(epoch: u64) -> usize {
        epoch as usize & (SLOTS - 1)
    }

    /// The number of shards is a power of two: a mask finds one, where a division would cost as much as the rest.
    #[inline]
    fn place(&self, epoch: u64, shard: usize) -> &Slot {
        &self.shards[shard & (self.shards.len() - 1)][Self::slot(epoch)]
    }

    /// A call that was neither a failure nor slow.
    #[inline]
    pub(crate) fn add_plain(&self, now: u64, shard: usize) {
        let epoch = self.epoch(now);
        self.place(epoch, shard).calls.add(epoch, 1);
    }

    pub(crate) fn add(&self, now: u64, shard: usize, sample: Sample) {
        let epoch = self.epoch(now);
        let slot = self.place(epoch, shard);
        slot.calls.add(epoch, 1);
        if sample.failure {
            slot.failures.add(epoch, 1);
        }
        if sample.slow {
            slot.slow.add(epoch, 1);
        }
    }

    /// A call counted as a success at `at` was a failure. One that has left the window is let go.
    pub(crate) fn turn_into_failure(&self, at: u64, now: u64) {
        let (epoch, newest) = (self.epoch(at), self.epoch(now));
        if epoch + u64::from(self.epochs.load(Ordering::Relaxed)) <= newest {
            return;
        }
        let mut slots = self.shards.iter().map(|shard| &shard[Self::slot(epoch)]);
        if let Some(slot) = slots.find(|slot| slot.calls.get(epoch) > slot.failures.get(epoch)) {
            slot.failures.add(epoch, 1);
        }
    }

    pub(crate) fn totals(&self, now: u64) -> Totals {
        fence(Ordering::SeqCst);
        let newest = self.epoch(now);
        let epochs = u64::from(self.epochs.load(Ordering::Relaxed));
        let oldest = newest.saturating_sub(epochs - 1).max(1);
        let mut totals = Totals::default();
        for shard in &self.shards {
            for epoch in oldest..=newest {
                let slot = &shard[Self::slot(epoch)];
                totals.calls += slot.calls.get(epoch);
                totals.failures += slot.failures.get(epoch);
                totals.slow += slot.slow.get(epoch);
            }
        }
        totals
    }

    pub(crate) fn clear(&self) {
        for slot in self.shards.iter().flat_map(|shard| shard.iter()) {
            for counter in [&slot.calls, &slot.failures, &slot.slow] {
                counter.0.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Takes a new length; what was counted so far moves into the running epoch.
    pub(crate) fn resize(&self, now: u64, millis: u64) {
        let (shift, epochs) = resolution(millis);
        if (shift, epochs) == (self.shift.load(Ordering::Relaxed), self.epochs.load(Ordering::Relaxed)) {
            return;
        }
        let totals = self.totals(now);
        self.clear();
        self.shift.store(shift, Ordering::Relaxed);
        self.epochs.store(epochs, Ordering::Relaxed);
        let epoch = self.epoch(now);
        let slot = &self.shards[0][Self::slot(epoch)];
        slot.calls.add(epoch, totals.calls);
        slot.failures.add(epoch, totals.failures);
        slot.slow.add(epoch, totals.slow);
    }
}

/// The shift and the number of epochs for a window: epochs of a power of two milliseconds, as many as fit the slots.
#[expect(clippy::cast_possible_truncation, reason = "at most SLOTS")]
const fn resolution(millis: u64) -> (u32, u32) {
    let millis = if millis == 0 { 1 } else { millis };
    let mut shift = 0;
    while millis.div_ceil(1 << shift) + 1 > SLOTS as u64 {
        shift += 1;
    }
    (shift, millis.div_ceil(1 << shift) as u32 + 1)
}

const PRESENT: u8 = 1;
const FAILURE: u8 = 2;
const SLOW: u8 = 4;

/// The last calls: each call swaps its outcome into the ring and corrects the sums by the one that it replaces.
#[derive(Debug)]
pub(crate) struct CountWindow {
    ring: ArcSwap<Ring>,
}

#[derive(Debug)]
struct Ring {
    outcomes: Box<[AtomicU8]>,
    cursor: AtomicU64,
    calls: AtomicU64,
    failures: AtomicU64,
    slow: AtomicU64,
}

impl Ring {
    fn new(calls: u32) -> Self {
        Self {
            outcomes: (0..calls).map(|_| AtomicU8::new(0)).collect(),
            cursor: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        }
    }

    /// Returns the number of the call.
    fn add(&self, outcome: u8) -> Option<u64> {
        let size = self.outcomes.len() as u64;
        if size == 0 {
            return None;
        }
        let number = self.cursor.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number % size).ok()?;
        let replaced = self.outcomes[place].swap(outcome, Ordering::Relaxed);
        for (sum, bit) in [(&self.calls, PRESENT), (&self.failures, FAILURE), (&self.slow, SLOW)] {
            match (replaced & bit != 0, outcome & bit != 0) {
                (false, true) => {
                    sum.fetch_add(1, Ordering::Relaxed);
                }
                (true, false) => {
                    sum.fetch_sub(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        Some(number)
    }

    fn turn_into_failure(&self, number: u64) {
        let size = self.outcomes.len() as u64;
        let later = self.cursor.load(Ordering::Relaxed).checked_sub(number);
        if !later.is_some_and(|later| (1..=size).contains(&later)) {
            return;
        }
        let Ok(place) = usize::try_from(number % size) else {
            return;
        };
        if self.outcomes[place].fetch_or(FAILURE, Ordering::Relaxed) & FAILURE == 0 {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl CountWindow {
    pub(crate) fn new(calls: u32) -> Self {
        Self {
            ring: ArcSwap::from_pointee(Ring::new(calls)),
        }
    }

    /// Returns the number of the call, for a later correction.
    pub(crate) fn add(&self, sample: Sample) -> Option<u64> {
        let outcome = PRESENT | if sample.failure { FAILURE } else { 0 } | if sample.slow { SLOW } else { 0 };
        self.ring.load().add(outcome)
    }

    /// A call counted as a success was a failure. One that others have replaced is let go.
    pub(crate) fn turn_into_failure(&self, number: u64) {
        self.ring.load().turn_into_failure(number);
    }

    pub(crate) fn totals(&self) -> Totals {
        fence(Ordering::SeqCst);
        let ring = self.ring.load();
        Totals {
            calls: ring.calls.load(Ordering::Relaxed),
            failures: ring.failures.load(Ordering::Relaxed),
            slow: ring.slow.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn clear(&self) {
        let size = self.ring.load().outcomes.len();
        self.ring
            .store(Arc::new(Ring::new(u32::try_from(size).unwrap_or(u32::MAX))));
    }

    /// Takes a new size; the newest outcomes that fit are kept.
    pub(crate) fn resize(&self, calls: u32) {
        let old = self.ring.load_full();
        let size = old.outcomes.len() as u64;
        if size == u64::from(calls) {
            return;
        }
        let ring = Ring::new(calls);
        if size > 0 {
            let cursor = old.cursor.load(Ordering::Relaxed);
            let kept = cursor.min(size).min(u64::from(calls));
            for place in cursor - kept..cursor {
                let Ok(place) = usize::try_from(place % size) else {
                    continue;
                };
                let outcome = old.outcomes[place].load(Ordering::Relaxed);
                if outcome != 0 {
                    ring.add(outcome);
                }
            }
        }
        self.ring.store(Arc::new(ring));
    }
}
