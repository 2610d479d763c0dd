//! What is worth an event between two statuses. Pure.

use super::before;
use valerix_crds::{ResilientServiceStatus, names::condition};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it is as it should be.
    pub good: bool,
    /// One word.
    pub reason: &'static str,
    /// What was going on.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// The events between `old` and `new`: configuration taken over or refused, circuits that opened or closed.
pub fn news(old: &ResilientServiceStatus, new: &ResilientServiceStatus) -> Vec<News> {
    let mut all = Vec::new();
    let reason = |status: &ResilientServiceStatus, kind| before(status, kind).map(|condition| condition.reason.clone());
    let message = |kind| {
        before(new, kind)
            .map(|condition| condition.message.clone())
            .unwrap_or_default()
    };
    let applied = reason(new, condition::CONFIG_APPLIED);
    let hash = |status: &ResilientServiceStatus| status.config.as_ref().map(|config| config.hash.clone());
    if applied != reason(old, condition::CONFIG_APPLIED) || hash(old) != hash(new) {
        match applied.as_deref() {
            Some("AllPodsCurrent") => all.push(News {
                good: true,
                reason: "ConfigAccepted",
                action: "Configure",
                note: message(condition::CONFIG_APPLIED),
            }),
            Some("RejectedByPods") => all.push(News {
                good: false,
                reason: "ConfigRejected",
                action: "Configure",
                note: message(condition::CONFIG_APPLIED),
            }),
            _ => {}
        }
    }
    for breaker in &new.circuit_breakers {
        let known = old.circuit_breakers.iter().find(|known| known.target == breaker.target);
        let was_open = known.is_some_and(|known| known.open + known.half_open > 0);
        let is_open = breaker.open > 0;
        if is_open && !was_open {
            all.push(News {
                good: false,
                reason: "CircuitOpened",
                action: "Observe",
                note: format!("the circuit to {} is open in {} pods", breaker.target, breaker.open),
            });
        }
        if was_open && breaker.open + breaker.half_open == 0 {
            all.push(News {
                good: true,
                reason: "CircuitClosed",
                action: "Observe",
                note: format!("the circuit to {} is closed in {} pods", breaker.target, breaker.closed),
            });
        }
    }
    all
}
