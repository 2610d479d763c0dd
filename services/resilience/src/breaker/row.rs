//! Failures in a row, in one word: how many, whether a success cut them off and no other followed, and how often such
//! a cut was confirmed.
//!
//! The head of an answer cuts the row; if the answer's body breaks off, the row goes on as if there had been no cut. Two
//! successes in a row confirm what they cut: a body that breaks off after that begins a row of its own.

use crate::sync::{AtomicU64, Ordering};

const LENGTH: u64 = (1 << 32) - 1;
const CUT: u64 = 1 << 32;
const EPOCH_SHIFT: u32 = 33;

#[derive(Debug)]
pub(crate) struct Row(AtomicU64);

/// The row that a success cut off, as long as no other success confirms it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    length: u64,
    epoch: u64,
}

impl Cut {
    /// Nothing was cut off.
    pub(crate) const NONE: Self = Self { length: 0, epoch: 0 };
}

impl Row {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a success changes nothing: there is no row to cut and no cut to confirm.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (CUT | LENGTH) == 0
    }

    /// Adds a failure, and what the failed call itself had cut off before. Returns the length.
    pub(crate) fn fail(&self, cut: Cut) -> u32 {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let restored = if cut.epoch == word >> EPOCH_SHIFT {
                cut.length
            } else {
                0
            };
            let length = ((word & LENGTH) + restored + 1).min(LENGTH);
            match self.exchange(word, word & !LENGTH | length) {
                Ok(()) => return u32::try_from(length).unwrap_or(u32::MAX),
                Err(found) => word = found,
            }
        }
    }

    /// A success: cuts the row off, or confirms the cut that came before it.
    pub(crate) fn succeed(&self) -> Cut {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (length, epoch) = (word & LENGTH, word >> EPOCH_SHIFT);
            let (next, cut) = match (length, word & CUT) {
                (0, 0) => return Cut { length, epoch },
                (0, _) => (epoch.wrapping_add(1) << EPOCH_SHIFT, Cut::NONE),
                _ => (epoch << EPOCH_SHIFT | CUT, Cut { length, epoch }),
            };
            match self.exchange(word, next) {
                Ok(()) => return cut,
                Err(found) => word = found,
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }

    fn exchange(&self, from: u64, to: u64) -> Result<(), u64> {
        self.0
            .compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }
}
