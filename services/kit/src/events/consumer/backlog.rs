//! What a consumer knows of the deliveries that are not settled: which are ready, which wait, which run alone. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tokio::time::Instant;
use valerix_resilience::Backoff;

use super::ConsumerOptions;
use crate::events::Delivery;

/// A delivery, and the pauses after it was in vain on this consumer.
pub(super) struct Work {
    pub(super) delivery: Delivery,
    pub(super) pauses: Backoff,
}

pub(super) type Key = (String, String);

impl Work {
    pub(super) fn key(&self) -> Key {
        (self.delivery.topic.clone(), self.delivery.entry.clone())
    }
}

/// What is known about every delivery that is not settled.
#[derive(Default)]
pub(super) struct Backlog {
    /// Suspects, run alone.
    pub(super) alone: VecDeque<Work>,
    pub(super) ready: VecDeque<Work>,
    /// Waiting for their next attempt; the number makes equal moments distinct.
    pub(super) waiting: BTreeMap<(Instant, u64), Work>,
    pub(super) known: HashSet<Key>,
    sequence: u64,
}

impl Backlog {
    pub(super) fn add(&mut self, deliveries: Vec<Delivery>, options: &ConsumerOptions) {
        for delivery in deliveries {
            let pauses = Backoff::new(options.retry_base, options.retry_max);
            let work = Work { delivery, pauses };
            // Own entries come back by a re-read or a claim while they are being worked on.
            if self.known.insert(work.key()) {
                if work.delivery.deliveries >= options.alone_from {
                    self.alone.push_back(work);
                } else {
                    self.ready.push_back(work);
                }
            }
        }
    }

    pub(super) fn wait(&mut self, work: Work, until: Instant) {
        self.sequence += 1;
        self.waiting.insert((until, self.sequence), work);
    }

    pub(super) fn wake(&mut self, now: Instant, alone_from: u64) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            let work = entry.remove();
            if work.delivery.deliveries >= alone_from {
                self.alone.push_back(work);
            } else {
                self.ready.push_back(work);
            }
        }
    }
}
