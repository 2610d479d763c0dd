//! Some of the keys of a shared limit, in bounded memory: the lease of each, its level by the local share, and who waits.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::super::level::{Level, Quota, Rate};
use super::super::limiter::{AlreadyHashed, MAX_KEYS};
use super::lease::{Lease, Terms, Told};

/// Shards of keys with a limit of their own; one more holds the shared buckets.
pub(super) const SHARDS: usize = 16;
const KEYS_PER_SHARD: usize = MAX_KEYS / SHARDS;
/// A full shard looks for idle keys at most this often (nanoseconds).
const SWEEP_EVERY: u64 = 50_000_000;

/// Some of the keys.
pub(super) struct Shard {
    pub(super) terms: Terms,
    pub(super) share: Rate,
    pub(super) keys: HashMap<u64, Entry, AlreadyHashed>,
    /// When leases with unused tokens end, in order.
    pub(super) ends: VecDeque<(u64, u64)>,
    pub(super) swept_at: u64,
}

pub(super) struct Entry {
    pub(super) lease: Lease,
    /// What this replica let pass, by its own share of the limit.
    pub(super) local: Level,
    pub(super) digest: [u8; 16],
    pub(super) waiting: Option<Box<Waiting>>,
}

/// Who waits for Redis, and since when.
pub(super) type Waiting = VecDeque<(u64, oneshot::Sender<Told>)>;

/// Where a key is: its shard and its number there.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) shard: usize,
    pub(super) number: u64,
}

impl Shard {
    /// Whether the key is here or may be added. A full shard drops its idle keys now and then.
    pub(super) fn has_room_for(&mut self, number: u64, now: u64) -> bool {
        if self.keys.len() < KEYS_PER_SHARD || self.keys.contains_key(&number) {
            return true;
        }
        if now.saturating_sub(self.swept_at) < SWEEP_EVERY {
            return false;
        }
        self.swept_at = now;
        let share = self.share.quota;
        self.keys.retain(|_, entry| !entry.is_idle(&share, now));
        self.keys.len() < KEYS_PER_SHARD
    }

    pub(super) fn entry(&mut self, at: At) -> &mut Entry {
        let share = &self.share.quota;
        self.keys.entry(at.number).or_insert_with(|| Entry {
            lease: Lease::default(),
            local: Level::empty(share),
            digest: [0; 16],
            waiting: None,
        })
    }
}

impl Entry {
    fn is_idle(&self, share: &Quota, now: u64) -> bool {
        self.waiting.is_none() && self.lease.is_idle(now) && self.local.is_idle(share, now)
    }
}

/// What the local share says.
pub(super) fn local(entry: &mut Entry, share: &Rate, now: u64) -> Told {
    Told {
        decision: entry.local.take_rated(share, now),
        locally: true,
    }
}

/// What a key is called in Redis: not the key itself, which may be a secret or long.
pub(super) fn digest(at: At, key: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    if at.shard == SHARDS {
        hash.update(b"overflow");
        hash.update(at.number.to_be_bytes());
    } else {
        hash.update(b"key ");
        hash.update(key.as_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// The same for a key on every replica and in every version (FNV-1a).
pub(super) fn stable_hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
