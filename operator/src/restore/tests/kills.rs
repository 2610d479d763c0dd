//! Killed at any write, the next life ends in the same state, and never is a second Job made.

use super::*;
use crate::fake_api::kills::{killed_at, rest};
use futures::StreamExt;

/// Lives at a time.
const AT_ONCE: usize = 24;
const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/back-restore";

struct Flow {
    name: &'static str,
    /// What has happened to a Restore whose Job was made; `None` where there is none yet.
    happened: Option<fn(&FakeApi)>,
    done: fn(&FakeApi) -> bool,
    /// Fewer would mean that the row tries nothing.
    writes: usize,
}

fn has(api: &FakeApi, condition: [&str; 3]) -> bool {
    let [kind, status, reason] = condition;
    api.get(RESTORE)
        .is_some_and(|restore| shows(&restore, kind, status, reason))
}

fn failed(api: &FakeApi, job: &str) {
    let failed = json!({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many"});
    api.merge(&format!("{job}/status"), json!({"status": {"conditions": [failed]}}));
}

fn replaced(api: &FakeApi) {
    let database = json!({"name": "orders", "as": "orders", "phase": "Completed", "previous": "orders_before_20260821", "previousUntil": "2026-08-21T11:59:59Z"});
    report(
        api,
        json!({"phase": "Completed", "reason": "Restored", "podUID": "pod", "databases": [database], "completedAt": "2026-08-21T11:30:00Z"}),
    );
}

const FLOWS: [Flow; 5] = [
    Flow {
        name: "a Restore begins",
        happened: None,
        done: |api| has(api, ["Ready", "Unknown", "Running"]) && api.get(JOB).is_some(),
        writes: 4,
    },
    Flow {
        name: "its runner has restored",
        happened: Some(|api| {
            let databases = json!([{"name": "orders", "as": "orders", "phase": "Completed", "tables": 3}]);
            report(
                api,
                json!({"phase": "Completed", "reason": "Restored", "podUID": "pod", "databases": databases, "completedAt": "2026-08-21T12:00:00Z"}),
            );
        }),
        done: |api| has(api, ["Ready", "True", "Restored"]),
        writes: 1,
    },
    Flow {
        name: "its Job has failed",
        happened: Some(|api| {
            report(
                api,
                json!({"podUID": "pod", "phase": "Restoring", "reason": "NotUndone", "message": "half done"}),
            );
            failed(api, JOB);
        }),
        done: |api| has(api, ["Ready", "False", "NotUndone"]),
        writes: 1,
    },
    Flow {
        name: "its Job is gone",
        happened: Some(|api| {
            report(api, json!({"podUID": "pod", "phase": "Swapping"}));
            api.delete(JOB);
        }),
        done: |api| has(api, ["Stalled", "True", "JobGone"]),
        writes: 1,
    },
    Flow {
        name: "what was replaced is to go",
        happened: Some(replaced),
        done: |api| has(api, ["Ready", "True", "Restored"]) && api.get(DROP_JOB).is_some(),
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

/// The end state of a life that is killed, once it is `wanted`, and how much it wrote.
async fn lived(flow: &Flow, killed: (usize, bool), wanted: Option<&Value>) -> (Value, usize) {
    let api = FakeApi::default();
    match flow.happened {
        None => {
            api.create(RECORDS, fixtures::record("2026-08-21"));
            api.create(RESTORES, restore());
        }
        Some(happened) => {
            drop(begun(&api).await);
            rest(&api).await;
            happened(&api);
        }
    }
    api.forget_requests();
    let done = |api: &FakeApi| (flow.done)(api) && wanted.is_none_or(|wanted| end_state(api) == *wanted);
    let writes = killed_at(&api, killed, Operator::start, done).await;
    (end_state(&api), writes)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_the_next_life_ends_in_the_same_state() {
    let references = futures::future::join_all(FLOWS.iter().map(|flow| lived(flow, (usize::MAX, true), None))).await;
    let mut lives = Vec::new();
    for (flow, (reference, writes)) in FLOWS.iter().zip(&references) {
        assert!(*writes >= flow.writes, "{}: {writes} writes", flow.name);
        lives.extend((0..*writes).flat_map(|at| [(flow, reference, (at, true)), (flow, reference, (at, false))]));
    }
    println!("{} lives of {} flows", lives.len(), FLOWS.len());
    let lives = lives.into_iter().map(|(flow, reference, killed)| async move {
        let (state, _) = lived(flow, killed, Some(reference)).await;
        assert_eq!(
            state, *reference,
            "{}: killed at write {}, taken: {}",
            flow.name, killed.0, killed.1
        );
    });
    futures::stream::iter(lives)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}
