//! The state of a breaker in one word: kind 3 bits, generation 21, until 40 (milliseconds of the breaker's clock). Pure.

use valerix_policy::CircuitState;

const UNTIL_BITS: u32 = 40;
const UNTIL_MASK: u64 = (1 << UNTIL_BITS) - 1;
const GENERATION_MASK: u64 = (1 << 21) - 1;
const KIND_SHIFT: u32 = 61;

/// A snapshot of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) const INITIAL: Self = Self(0);

    pub(crate) const fn new(state: CircuitState, generation: u32, until: u64) -> Self {
        let kind = match state {
            // The machine is in no state that it does not know.
            CircuitState::Closed | CircuitState::Unknown => 0,
            CircuitState::Open => 1,
            CircuitState::HalfOpen => 2,
        };
        let until = if until > UNTIL_MASK { UNTIL_MASK } else { until };
        Self(kind << KIND_SHIFT | (generation as u64 & GENERATION_MASK) << UNTIL_BITS | until)
    }

    pub(crate) const fn state(self) -> CircuitState {
        match self.0 >> KIND_SHIFT {
            0 => CircuitState::Closed,
            1 => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    /// Counts transitions, modulo 2^21: a result that was begun in another generation is dropped.
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> UNTIL_BITS & GENERATION_MASK) as u32
    }

    /// Closed, and of that generation: one comparison, because nothing else is kept while closed.
    pub(crate) const fn is_closed_in(self, generation: u32) -> bool {
        self.0 == Self::new(CircuitState::Closed, generation, 0).0
    }

    /// When an open breaker lets a probe pass.
    pub(crate) const fn until(self) -> u64 {
        self.0 & UNTIL_MASK
    }

    /// The next state, one generation on.
    pub(crate) const fn next(self, state: CircuitState, until: u64) -> Self {
        Self::new(state, self.generation().wrapping_add(1), until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_was_put_in(kind in 0..3, generation in 0_u32..1 << 21, until in 0_u64..1 << 40) {
            let state = [CircuitState::Closed, CircuitState::Open, CircuitState::HalfOpen][usize::try_from(kind).unwrap()];
            let word = Word::new(state, generation, until);
            prop_assert_eq!((word.state(), word.generation(), word.until()), (state, generation, until));
            let next = word.next(CircuitState::Closed, 0);
            prop_assert_eq!(next.generation(), (generation + 1) % (1 << 21));
            prop_assert!(next.is_closed_in(next.generation()) && !next.is_closed_in(generation));
            prop_assert!(!word.next(CircuitState::HalfOpen, until).is_closed_in(next.generation()));
        }
    }
}
