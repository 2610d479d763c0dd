//! The fault: taken, delivered, watched, until it is over or must be.
//!
//! Pure. What stops every kind; `eviction` and `delivery` go on.

use super::action::Action;
use super::situation::Situation;
use super::{delivery, eviction};
use crate::chaos_experiment::faults::Delivery;
use crate::chaos_experiment::report::status::decided;

/// The one thing to do next while the fault is on.
pub(super) fn decide(situation: &Situation<'_>) -> Action {
    if let Some(stop) = situation.stop() {
        return match decided(situation.status) {
            // A deviation that was seen before somebody stopped the run was seen all the same.
            Some(_) => Action::Write(Box::new(situation.editor().recovering(situation.status, None))),
            None => situation.give_up(&stop),
        };
    }
    match situation.plan.fault.kind.delivery {
        Delivery::Evicted => eviction::decide(situation),
        Delivery::Obeyed => delivery::decide(situation),
    }
}
