//! Randomness for jitter and percentages: small, seedable, not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A SplitMix64 sequence that threads may share.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    /// A sequence that differs in each process.
    pub(crate) fn from_entropy() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// A sequence that a test can repeat.
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut mixed = self
            .0
            .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
            .wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `most`, both included. The bias is below 2^-32 for the spans used here.
    pub(crate) fn up_to(&self, most: u64) -> u64 {
        let product = u128::from(self.next()) * (u128::from(most) + 1);
        u64::try_from(product >> 64).unwrap_or(most)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn percent(&self, percent: u32) -> bool {
        self.up_to(99) < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_span_and_keeps_the_share() {
        let random = Random::seeded(7);
        let mut seen = [0_u32; 11];
        for _ in 0..11_000 {
            seen[usize::try_from(random.up_to(10)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        let hits = (0..10_000).filter(|_| random.percent(30)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert!(!(0..1_000).any(|_| random.percent(0)));
        assert!((0..1_000).all(|_| random.percent(100)));
    }
}
