//! Pod kill: one eviction or deletion per victim, fenced by the victim's UID.
//!
//! Pure. In: a victim, and what the API server answered. Out: the request's body, and what the answer means. The request
//! is written by hand because kube's own `evict` sends a field that the server ignores, and with it the precondition is
//! lost. With the precondition, no repetition of the request can ever kill another pod.

use super::{Delivery, Kind};
use crate::runtime::Violation;
use chrono::{DateTime, Utc};
use kube::api::{DeleteParams, Preconditions};
use kube::core::Status;
use serde_json::{Value, json};
use valerix_crds::KillMethod;
use valerix_policy::{Fault, PodKillFault};

pub(super) static KIND: Kind = Kind {
    name: "PodKill",
    delivery: Delivery::Evicted,
    takes_pods_away: true,
    counts_hits: false,
    ends_the_process: true,
    hurts_the_process: false,
    read: |spec| spec.pod_kill.as_ref().map(read),
};

fn read(kill: &valerix_crds::PodKillFault) -> Result<Fault, Violation> {
    if kill.method == KillMethod::Unknown {
        let message = "is not known to this operator";
        return Err(Violation::new("spec.podKill.method", message, "write Evict or Delete"));
    }
    // As it stands in the lock; services do nothing with it.
    Ok(Fault {
        pod_kill: Some(PodKillFault {}),
        ..Fault::default()
    })
}

/// What the API server says of a pod that more than one budget selects. It answers 500, although it never will evict.
const SEVERAL_BUDGETS: &str = "more than one PodDisruptionBudget";

/// How `DELETE .../pods/{pod}` is asked for.
pub fn deletion(uid: &str, grace_period_seconds: Option<i64>) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: grace_period_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
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
pub enum EvictionResult {
    /// 2xx: the pod is going, since then.
    Accepted(DateTime<Utc>),
    /// 429: a disruption budget (or the API server) says not now.
    NotNow(String),
    /// 404 or a failed precondition: that pod is no more.
    Gone,
    /// Any other 4xx, and a 5xx that lasts: the API server will not do it. With the remedy where there is one.
    Refused(String),
    /// No answer, or one that leaves open whether it was done: only the pod can tell.
    Unclear(String),
}

/// What an error of the API server means for the victim.
pub fn classify(status: &Status) -> EvictionResult {
    let message = || status.message.clone();
    match status.code {
        404 => EvictionResult::Gone,
        409 if status.message.contains("Precondition failed") || status.message.contains("UID in precondition") => {
            EvictionResult::Gone
        }
        429 => EvictionResult::NotNow(message()),
        500 if status.message.contains(SEVERAL_BUDGETS) => EvictionResult::Refused(format!(
            "{}; leave one PodDisruptionBudget that selects this pod",
            status.message.trim_end_matches('.')
        )),
        400..=499 if status.code != 408 && status.code != 409 => EvictionResult::Refused(message()),
        _ => EvictionResult::Unclear(message()),
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
    fn a_deletion_carries_the_same_precondition() {
        let body = serde_json::to_value(deletion("uid-1", Some(0))).unwrap();
        assert_eq!(
            (&body["preconditions"], &body["gracePeriodSeconds"]),
            (&json!({"uid": "uid-1"}), &json!(0))
        );
        assert_eq!(
            deletion("uid-1", None).grace_period_seconds,
            None,
            "the pod's own grace is the default"
        );
    }

    #[test]
    fn every_answer_has_one_meaning() {
        for (code, message, expected) in [
            (404, "pods \"a\" not found", EvictionResult::Gone),
            (
                409,
                "Operation cannot be fulfilled on Pod \"a\": the UID in precondition (1) does not match",
                EvictionResult::Gone,
            ),
            (
                409,
                "Precondition failed: UID in precondition: 1, UID in object meta: 2",
                EvictionResult::Gone,
            ),
            (
                409,
                "the object has been modified",
                EvictionResult::Unclear("the object has been modified".into()),
            ),
            (
                429,
                "would violate the budget",
                EvictionResult::NotNow("would violate the budget".into()),
            ),
            (
                500,
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                EvictionResult::Refused(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support; leave one PodDisruptionBudget that selects this pod"
                        .into(),
                ),
            ),
            (403, "forbidden", EvictionResult::Refused("forbidden".into())),
            (500, "storage", EvictionResult::Unclear("storage".into())),
            (504, "timeout", EvictionResult::Unclear("timeout".into())),
        ] {
            assert_eq!(classify(&status(code, message)), expected, "{code} {message}");
        }
    }
}
