//! The right to make one call, and the duty to say how it went.

use super::CircuitBreaker;
use super::row::Cut;
use crate::clock::{Clock, CoarseClock};

/// How a call went, as far as the dependency's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The dependency answered, if only to say no.
    Success,
    /// The dependency failed or did not answer in its own time.
    Failure,
    /// It says nothing about the dependency: cancelled, cut short by the caller, or told to slow down.
    Neutral,
}

/// A call that was let pass. Dropped without an outcome (a cancelled future, say) it counts as neutral.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once counts as a cancelled call"]
pub struct Permit<'breaker, C: Clock = CoarseClock> {
    pub(super) breaker: &'breaker CircuitBreaker<C>,
    pub(super) began: u64,
    pub(super) generation: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Closed,
    Probe { number: u64 },
    Uncounted { shadow: bool },
    Told,
}

/// Proof of a call whose answer's head has been counted, for the failure of its body.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub(super) generation: u32,
    /// Whether the head counted as a success: all else was a failure already, or says nothing.
    succeeded: bool,
    /// Where the window has it.
    pub(super) place: Option<u64>,
    pub(super) cut: Cut,
}

impl<'breaker, C: Clock> Permit<'breaker, C> {
    pub(super) const fn closed(breaker: &'breaker CircuitBreaker<C>, began: u64, generation: u32) -> Self {
        Self {
            breaker,
            began,
            generation,
            kind: Kind::Closed,
        }
    }

    pub(super) const fn probe(breaker: &'breaker CircuitBreaker<C>, began: u64, generation: u32, number: u64) -> Self {
        Self {
            breaker,
            began,
            generation,
            kind: Kind::Probe { number },
        }
    }

    pub(super) const fn uncounted(breaker: &'breaker CircuitBreaker<C>, began: u64, shadow: bool) -> Self {
        Self {
            breaker,
            began,
            generation: 0,
            kind: Kind::Uncounted { shadow },
        }
    }

    /// Whether the circuit was open and let the call pass for an override or in shadow mode only.
    #[must_use]
    pub fn would_be_refused(&self) -> bool {
        self.kind == Kind::Uncounted { shadow: true }
    }

    /// Counts the outcome, and returns what a later failure of the answer's body needs.
    #[inline]
    pub fn record(mut self, outcome: Outcome) -> Ticket {
        let ticket = self.tell(outcome);
        self.kind = Kind::Told;
        ticket
    }

    #[inline]
    fn tell(&self, outcome: Outcome) -> Ticket {
        match self.kind {
            Kind::Closed => self.breaker.record(self.generation, self.began, outcome),
            Kind::Probe { number } => self.breaker.record_probe(self.generation, number, self.began, outcome),
            Kind::Uncounted { .. } | Kind::Told => Ticket::NONE,
        }
    }
}

impl<C: Clock> Drop for Permit<'_, C> {
    fn drop(&mut self) {
        if let Kind::Probe { .. } = self.kind {
            self.tell(Outcome::Neutral);
        }
    }
}

impl Ticket {
    pub(super) const NONE: Self = Self {
        generation: 0,
        succeeded: false,
        place: None,
        cut: Cut::NONE,
    };

    #[inline]
    pub(super) const fn of_success(generation: u32, place: Option<u64>, cut: Cut) -> Self {
        Self {
            generation,
            succeeded: true,
            place,
            cut,
        }
    }

    /// Says that the answer's body broke off: where its head had counted as a success, that call is a failure instead.
    pub fn body_failed<C: Clock>(self, breaker: &CircuitBreaker<C>) {
        if self.succeeded {
            breaker.correct(self);
        }
    }
}
