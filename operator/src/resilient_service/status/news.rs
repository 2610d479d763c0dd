//! What is worth an event between two statuses. Pure.
//!
//! A repeated event keeps its first note, so notes hold nothing that changes: figures are in the status.

use super::{draft::before, reason::Reason};
use crate::runtime::News;
use valerix_crds::{ResilientServiceStatus, names::condition};

/// Every ready pod runs the current configuration.
pub const CONFIG_ACCEPTED: &str = "ConfigAccepted";

/// The events between `old` and `new`: configuration taken over or refused, circuits that opened or closed.
pub fn news(old: &ResilientServiceStatus, new: &ResilientServiceStatus) -> Vec<News> {
    let mut all = Vec::new();
    let reason = |status: &ResilientServiceStatus, kind| before(status, kind).map(|condition| condition.reason.clone());
    let applied = reason(new, condition::CONFIG_APPLIED);
    let hash = |status: &ResilientServiceStatus| status.config.as_ref().map(|config| config.hash.clone());
    if applied != reason(old, condition::CONFIG_APPLIED) || hash(old) != hash(new) {
        if applied.as_deref() == Some(Reason::AllPodsCurrent.as_str()) {
            let note = "every ready pod runs the current configuration; its hash is in status.config";
            all.push(News::good(CONFIG_ACCEPTED, "Configure", note));
        }
        if applied.as_deref() == Some(Reason::RejectedByPods.as_str()) {
            let note = "a pod refuses the configuration and keeps the last good one; condition ConfigApplied says why";
            all.push(News::bad("ConfigRejected", "Configure", note));
        }
    }
    for breaker in &new.circuit_breakers {
        let known = old.circuit_breakers.iter().find(|known| known.target == breaker.target);
        let was_open = known.is_some_and(|known| known.open + known.half_open > 0);
        let action = format!("Call-{}", breaker.target);
        let note = |state: &str| {
            format!(
                "the circuit to {} is {state}; how many pods see it so is in status.circuitBreakers",
                breaker.target
            )
        };
        if breaker.open > 0 && !was_open {
            all.push(News::bad("CircuitOpened", action, note("open")));
        } else if was_open && breaker.open + breaker.half_open == 0 && breaker.closed > 0 {
            // Not when it is only out of sight.
            all.push(News::good("CircuitClosed", action, note("closed")));
        }
    }
    all
}
