//! What is worth an event between two statuses. Pure.
//!
//! A repeated event keeps its first note, so notes hold nothing that changes: figures are in the status.

use super::before;
use valerix_crds::{ResilientServiceStatus, names::condition};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it is as it should be.
    pub good: bool,
    /// One word.
    pub reason: &'static str,
    /// What was going on; events of the same reason and action are one series.
    pub action: String,
    /// A sentence.
    pub note: String,
}

/// The events between `old` and `new`: configuration taken over or refused, circuits that opened or closed.
pub fn news(old: &ResilientServiceStatus, new: &ResilientServiceStatus) -> Vec<News> {
    let mut all = Vec::new();
    let reason = |status: &ResilientServiceStatus, kind| before(status, kind).map(|condition| condition.reason.clone());
    let applied = reason(new, condition::CONFIG_APPLIED);
    let hash = |status: &ResilientServiceStatus| status.config.as_ref().map(|config| config.hash.clone());
    if applied != reason(old, condition::CONFIG_APPLIED) || hash(old) != hash(new) {
        let config = |good, reason, note: &str| News {
            good,
            reason,
            action: "Configure".to_owned(),
            note: note.to_owned(),
        };
        match applied.as_deref() {
            Some("AllPodsCurrent") => all.push(config(
                true,
                "ConfigAccepted",
                "every ready pod runs the current configuration; its hash is in status.config",
            )),
            Some("RejectedByPods") => all.push(config(
                false,
                "ConfigRejected",
                "a pod refuses the configuration and keeps the last good one; condition ConfigApplied says why",
            )),
            _ => {}
        }
    }
    for breaker in &new.circuit_breakers {
        let known = old.circuit_breakers.iter().find(|known| known.target == breaker.target);
        let was_open = known.is_some_and(|known| known.open + known.half_open > 0);
        let circuit = |good, reason, state: &str| News {
            good,
            reason,
            action: format!("Call-{}", breaker.target),
            note: format!(
                "the circuit to {} is {state}; how many pods see it so is in status.circuitBreakers",
                breaker.target
            ),
        };
        if breaker.open > 0 && !was_open {
            all.push(circuit(false, "CircuitOpened", "open"));
        }
        if was_open && breaker.open + breaker.half_open == 0 {
            all.push(circuit(true, "CircuitClosed", "closed"));
        }
    }
    all
}
