//! What tests try that try many things: a slice of them every day, more where somebody asks for it.
//!
//! `VALERIX_ROUNDS` says how many, `VALERIX_SEED` which: the same seed chooses the same again.

use std::time::Duration;

/// How many things are tried; `slice` where nobody asks for more.
///
/// # Panics
/// When `VALERIX_ROUNDS` is no number.
#[must_use]
pub fn rounds(slice: usize) -> usize {
    variable("VALERIX_ROUNDS").map_or(slice, |rounds| usize::try_from(rounds).expect("a machine of 64 bits"))
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a whole number, for example 7, not {text:?}")))
}

/// Numbers that a seed chooses.
pub struct Chance(u64);

impl Chance {
    /// By the seed of the environment, else by the test's own; the seed is for messages.
    ///
    /// # Panics
    /// When `VALERIX_SEED` is no number.
    #[must_use]
    pub fn seeded(own: u64) -> (Self, u64) {
        // Zero is the one seed from which nothing else follows.
        let seed = variable("VALERIX_SEED").unwrap_or(own).max(1);
        (Self(seed), seed)
    }

    /// A number below `end`, which is not 0.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        // xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).expect("64 bits")).expect("below a usize")
    }

    /// A time from `from` milliseconds on, and `span` milliseconds longer at most.
    pub fn milliseconds(&mut self, from: u64, span: usize) -> Duration {
        Duration::from_millis(from + u64::try_from(self.below(span)).unwrap_or_default())
    }

    /// Brings `items` into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
