//! Pod kill: one eviction per victim, fenced by the victim's UID.
//!
//! Pure. In: a victim, and what the API server answered. Out: the request's body, and what the answer means. The request
//! is written by hand because kube's own `evict` sends a field that the server ignores, and with it the precondition is
//! lost. With the precondition, no repetition of the request can ever kill another pod.

use chrono::{DateTime, Utc};
use kube::core::Status;
use serde_json::{Value, json};
use valerix_policy::{Fault, PodKillFault};

/// The fault as it stands in the lock; services do nothing with it.
pub fn fault() -> Fault {
    Fault {
        pod_kill: Some(PodKillFault {}),
        ..Fault::default()
    }
}

/// The body of `POST .../pods/{pod}/eviction`.
pub fn eviction(namespace: &str, pod: &str, uid: &str, grace_period_seconds: Option<i64>) -> Value {
    let mut options = json!({"preconditions": {"uid": uid}});
    if let Some(seconds) = grace_period_seconds {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
        "deleteOptions": options,
    })
}

/// What is known after the one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx: the pod is going, since then.
    Accepted(DateTime<Utc>),
    /// 429: a disruption budget (or the API server) says not now.
    NotNow(String),
    /// 404 or a failed precondition: that pod is no more.
    Gone,
    /// Any other 4xx: the API server will not do it.
    Refused(String),
    /// No answer, or one that leaves open whether it was done: only the pod can tell.
    Unclear(String),
}

/// What an error of the API server means for the victim.
pub fn classify(status: &Status) -> Answer {
    let message = || status.message.clone();
    match status.code {
        404 => Answer::Gone,
        409 if status.message.contains("Precondition failed") || status.message.contains("UID in precondition") => {
            Answer::Gone
        }
        429 => Answer::NotNow(message()),
        400..=499 if status.code != 408 && status.code != 409 => Answer::Refused(message()),
        _ => Answer::Unclear(message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        Status {
            code,
            message: message.into(),
            ..Status::default()
        }
    }

    #[test]
    fn the_body_carries_the_precondition_where_the_server_reads_it() {
        let body = eviction("shop", "inventory-1", "uid-1", Some(5));
        assert_eq!(
            body["deleteOptions"],
            json!({"preconditions": {"uid": "uid-1"}, "gracePeriodSeconds": 5})
        );
        assert_eq!(body["metadata"], json!({"name": "inventory-1", "namespace": "shop"}));
        let own = eviction("shop", "inventory-1", "uid-1", None);
        assert!(
            own["deleteOptions"].get("gracePeriodSeconds").is_none(),
            "the pod's own grace is the default"
        );
    }

    #[test]
    fn every_answer_has_one_meaning() {
        for (code, message, expected) in [
            (404, "pods \"a\" not found", Answer::Gone),
            (
                409,
                "Operation cannot be fulfilled on Pod \"a\": the UID in precondition (1) does not match",
                Answer::Gone,
            ),
            (
                409,
                "Precondition failed: UID in precondition: 1, UID in object meta: 2",
                Answer::Gone,
            ),
            (
                409,
                "the object has been modified",
                Answer::Unclear("the object has been modified".into()),
            ),
            (
                429,
                "would violate the budget",
                Answer::NotNow("would violate the budget".into()),
            ),
            (403, "forbidden", Answer::Refused("forbidden".into())),
            (500, "storage", Answer::Unclear("storage".into())),
            (504, "timeout", Answer::Unclear("timeout".into())),
        ] {
            assert_eq!(classify(&status(code, message)), expected, "{code} {message}");
        }
    }
}
