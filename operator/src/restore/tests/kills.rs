//! Killed at any write, the next life ends in the same state, and never is a second Job made.

use super::*;
use crate::fake_api::kills::{Flow, killed_at_any_write, rest};
use futures::FutureExt;

const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/back-restore";

fn has(api: &FakeApi, condition: [&str; 3]) -> bool {
    let [kind, status, reason] = condition;
    api.get(RESTORE)
        .is_some_and(|restore| shows(&restore, kind, status, reason))
}

/// A Restore whose Job was made by an operator that is gone.
async fn running(api: &FakeApi) {
    drop(begun(api).await);
    rest(api).await;
}

fn failed(api: &FakeApi, job: &str) {
    let failed = json!({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many"});
    api.merge(&format!("{job}/status"), json!({"status": {"conditions": [failed]}}));
}

const FLOWS: [Flow<Operator>; 5] = [
    Flow {
        name: "a Restore begins",
        before: |api| {
            async {
                api.create(RECORDS, fixtures::record("2026-08-21"));
                api.create(RESTORES, restore());
            }
            .boxed()
        },
        start: Operator::start,
        done: |api| has(api, ["Ready", "Unknown", "Running"]) && api.get(JOB).is_some(),
        holds: |_| {},
        writes: 4,
    },
    Flow {
        name: "its runner has restored",
        before: |api| {
            async {
                running(api).await;
                let databases = json!([{"name": "orders", "as": "orders", "phase": "Completed", "tables": 3}]);
                report(
                    api,
                    json!({"phase": "Completed", "reason": "Restored", "podUID": "pod", "databases": databases, "completedAt": "2026-08-21T12:00:00Z"}),
                );
            }
            .boxed()
        },
        start: Operator::start,
        done: |api| has(api, ["Ready", "True", "Restored"]),
        holds: |_| {},
        writes: 1,
    },
    Flow {
        name: "its Job has failed",
        before: |api| {
            async {
                running(api).await;
                report(
                    api,
                    json!({"podUID": "pod", "phase": "Restoring", "reason": "NotUndone", "message": "half done"}),
                );
                failed(api, JOB);
            }
            .boxed()
        },
        start: Operator::start,
        done: |api| has(api, ["Ready", "False", "NotUndone"]),
        holds: |_| {},
        writes: 1,
    },
    Flow {
        name: "its Job is gone",
        before: |api| {
            async {
                running(api).await;
                report(api, json!({"podUID": "pod", "phase": "Swapping"}));
                api.delete(JOB);
            }
            .boxed()
        },
        start: Operator::start,
        done: |api| has(api, ["Stalled", "True", "JobGone"]),
        holds: |_| {},
        writes: 1,
    },
    Flow {
        name: "what was replaced is to go",
        before: |api| {
            async {
                running(api).await;
                let database = json!({"name": "orders", "as": "orders", "phase": "Completed", "previous": "orders_before_20260821", "previousUntil": "2026-08-21T11:59:59Z"});
                report(
                    api,
                    json!({"phase": "Completed", "reason": "Restored", "podUID": "pod", "databases": [database], "completedAt": "2026-08-21T11:30:00Z"}),
                );
            }
            .boxed()
        },
        start: Operator::start,
        done: |api| has(api, ["Ready", "True", "Restored"]) && api.get(DROP_JOB).is_some(),
        holds: |_| {},
        writes: 2,
    },
];

fn end_state(api: &FakeApi) -> Value {
    let mut status = api.get(RESTORE).unwrap()["status"].clone();
    // The server draws it.
    assert_eq!(status["job"]["uid"].is_string(), status["job"].is_object(), "{status}");
    if status["job"].is_object() {
        status["job"]["uid"] = Value::Null;
    }
    json!({
        "status": status,
        "job": api.get(JOB).map(|job| job["spec"].clone()),
        "drop": api.get(DROP_JOB).map(|job| job["spec"].clone()),
        "binding": api.get(BINDING).map(|binding| binding["roleRef"].clone()),
        "account": api.get(ACCOUNT).is_some(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_the_next_life_ends_in_the_same_state() {
    killed_at_any_write(&FLOWS, end_state).await;
}
