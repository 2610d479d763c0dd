//! The circuit breaker: refuses calls to a dependency that fails, and lets a few probes find out when it is back.
//!
//! What goes in: permission asked before each call and the outcome after it. What comes out: a permit, or a refusal
//! with the time until the next probe. The only thing read from outside is the clock, which is a type parameter.
//!
//! While closed and while open no lock is taken. Transitions and the few probes of the half-open state take one.

mod circuit;
mod mask;
mod owned;
mod permit;
mod record;
mod row;
mod thresholds;
mod window;
mod word;

pub use self::circuit::{CircuitBreaker, Rejected, Snapshot, Transition};
pub use self::owned::OwnedPermit;
pub use self::permit::{Outcome, Permit, Ticket};

#[cfg(test)]
mod tests;
