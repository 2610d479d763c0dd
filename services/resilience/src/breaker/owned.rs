//! A permit that owns its breaker, for futures that outlive the one who asked; and a look that takes nothing.

use std::sync::Arc;

use valerix_policy::CircuitState;

use super::circuit::millis;
use super::mask::Mask;
use super::permit::Kind;
use super::word::Word;
use super::{CircuitBreaker, Outcome, Permit, Rejected, Ticket};
use crate::clock::{Clock, CoarseClock};
use crate::sync::Ordering;

/// As [`Permit`], without a lifetime. Dropped without an outcome it counts as neutral.
///
/// ```
/// use std::sync::Arc;
/// use valerix_resilience::{CircuitBreaker, Outcome, OwnedPermit, Rejected, policy};
///
/// let breaker = Arc::new(CircuitBreaker::new(&policy::CircuitBreaker::default()));
/// let permit: OwnedPermit = breaker.try_acquire_owned()?;
/// std::thread::spawn(move || permit.record(Outcome::Success)).join().unwrap();
/// assert_eq!(breaker.snapshot().calls, 1);
/// # Ok::<(), Rejected>(())
/// ```
#[derive(Debug)]
#[must_use = "a permit that is dropped at once counts as a cancelled call"]
pub struct OwnedPermit<C: Clock = CoarseClock> {
    breaker: Arc<CircuitBreaker<C>>,
    began: u64,
    generation: u32,
    kind: Kind,
}

impl<C: Clock> CircuitBreaker<C> {
    /// As [`try_acquire`](Self::try_acquire), with a permit that may be moved anywhere.
    ///
    /// # Errors
    /// When the circuit is open, or half-open with all probes taken.
    pub fn try_acquire_owned(self: &Arc<Self>) -> Result<OwnedPermit<C>, Rejected> {
        let mut permit = self.try_acquire()?;
        let kind = std::mem::replace(&mut permit.kind, Kind::Told);
        Ok(OwnedPermit {
            breaker: Arc::clone(self),
            began: permit.began,
            generation: permit.generation,
            kind,
        })
    }

    /// Whether the circuit is open at the moment. Takes no permit: what passes here may still be refused later.
    ///
    /// # Errors
    /// When it is open and its next probe is not due.
    pub fn check(&self) -> Result<(), Rejected> {
        let now = self.clock.millis();
        let word = Word(self.word.load(Ordering::Acquire));
        match self.gate.mask(now) {
            Mask::ForcedOpen { left } => Err(Rejected {
                retry_after: millis(left),
            }),
            Mask::None if word.state() == CircuitState::Open && now < word.until() => Err(Rejected {
                retry_after: millis(word.until() - now),
            }),
            Mask::None | Mask::PassAll | Mask::Off => Ok(()),
        }
    }
}

impl<C: Clock> OwnedPermit<C> {
    /// As [`Permit::would_be_refused`].
    #[must_use]
    pub fn would_be_refused(&self) -> bool {
        self.kind == Kind::Uncounted { shadow: true }
    }

    /// Counts the outcome, and returns what a later failure of the answer's body needs.
    pub fn record(mut self, outcome: Outcome) -> Ticket {
        self.take().record(outcome)
    }

    fn take(&mut self) -> Permit<'_, C> {
        Permit {
            breaker: &self.breaker,
            began: self.began,
            generation: self.generation,
            kind: std::mem::replace(&mut self.kind, Kind::Told),
        }
    }
}

impl<C: Clock> Drop for OwnedPermit<C> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
