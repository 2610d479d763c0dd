//! Killed at any write, the next life ends in the same state: one row for everything that this controller writes.

use super::*;
use crate::fake_api::kills::{Flow, killed_at_any_write};
use futures::FutureExt;

const TRIAL: &str = "/apis/batch/v1/namespaces/shop/jobs/shop-v20260821";
const RUNNERS_BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/shop-backup";
const VERIFIER: &str = "/api/v1/namespaces/shop/serviceaccounts/shop-verify";
const VERIFIERS_BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/shop-verify";
const VERIFIERS_NETWORK: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/shop-verify";

/// One field of an object that is there.
fn is(api: &FakeApi, path: &str, field: &str, value: &Value) -> bool {
    api.get(path).is_some_and(|object| object.pointer(field) == Some(value))
}

fn has(api: &FakeApi, path: &str, condition: [&str; 3]) -> bool {
    let [kind, status, reason] = condition;
    api.get(path).is_some_and(|object| shows(&object, kind, status, reason))
}

/// Everything that the operator writes: no names that the server draws, no versions and no times.
fn end_state(api: &FakeApi) -> Value {
    let spec = |path: &str| api.get(path).map(|object| object["spec"].clone());
    let record = |slot: &str| {
        api.get(&format!("{RECORDS}/shop-{slot}")).map(|record| {
            json!([
                record["spec"],
                record["status"]["phase"],
                record["status"]["reason"],
                record["status"]["upload"],
                record["status"]["verified"],
                record["status"]["verification"]["state"],
                record["metadata"]["labels"]
            ])
        })
    };
    let slots = ["20260812-found", "20260819", "20260820", "20260821", "20260822"];
    let policy = api.get(POLICY);
    let conditions = policy
        .iter()
        .flat_map(|policy| policy["status"]["conditions"].as_array());
    let conditions: Vec<_> = conditions
        .flatten()
        .map(|condition| {
            json!([
                condition["type"],
                condition["status"],
                condition["reason"],
                condition["message"]
            ])
        })
        .collect();
    let verifier = [VERIFIER, VERIFIERS_BINDING, VERIFIERS_NETWORK].map(|path| api.get(path).is_some());
    json!({
        "conditions": conditions,
        "lastRun": policy.as_ref().map(|policy| policy["status"]["lastRun"].clone()),
        "lastSuccess": policy.as_ref().map(|policy| policy["status"]["lastSuccess"].clone()),
        "records": slots.map(|slot| json!([slot, record(slot)])),
        "cronJob": spec(CRON_JOB),
        "job": api.get(JOB).map(|job| json!([job["spec"], job["metadata"]["labels"], job["metadata"]["annotations"]])),
        "trial": spec(TRIAL),
        "binding": api.get(RUNNERS_BINDING).map(|binding| binding["roleRef"].clone()),
        "verifier": verifier,
    })
}

/// An operator that came to rest before, and is gone.
async fn settled(api: &FakeApi, policy: Value, now: fn() -> DateTime<Utc>) {
    api.create(POLICIES, policy);
    let operator = Operator::start_at(api, now);
    api.until(POLICY, |policy| shows(policy, "Ready", "True", "Reconciled"))
        .await;
    rest(api).await;
    drop(operator);
}

fn verified(restore: &str) -> Value {
    let mut policy = policy();
    policy["spec"]["verification"] = json!({"restore": restore});
    policy
}

fn stored(api: &FakeApi, slot: &str, more: Value) {
    let mut status = json!({
        "phase": "Completed", "completedAt": format!("{slot}T02:16:00Z"), "verified": "Local",
        "upload": {"state": "Completed", "sha256": "abc", "bytes": 7, "key": format!("shop/shop/{}.tar.zst", slot.replace('-', ""))},
    });
    if let (Some(status), Value::Object(more)) = (status.as_object_mut(), more) {
        status.extend(more);
    }
    api.create(
        RECORDS,
        with_slot(&format!("shop-{}", slot.replace('-', "")), slot, status),
    );
}

fn soon() -> DateTime<Utc> {
    fixtures::at("2026-08-21T03:15:00Z")
}

const FLOWS: [Flow<Operator>; 9] = [
    Flow {
        name: "a run by hand",
        start: Operator::start,
        before: |api| {
            async {
                let mut asked = policy();
                asked["metadata"]["annotations"] = json!({"resilience.valerix.io/run": "one"});
                api.create(POLICIES, asked);
            }
            .boxed()
        },
        done: |api| {
            is(api, POLICY, "/status/lastRun/id", &json!("one")) && has(api, POLICY, ["Ready", "True", "Reconciled"])
        },
        holds: |state| assert_eq!(state["lastRun"]["result"], "Started", "{state}"),
        writes: 6,
    },
    Flow {
        name: "the day's run after one by hand that has failed",
        start: |api| Operator::start_at(api, soon),
        before: |api| {
            async {
                still_due::failed_over_the_days_time(api).await;
            }
            .boxed()
        },
        done: |api| {
            // The second of its name.
            is(api, TODAY, "/status/reason", &json!("RunByHandFailed"))
                && api.get(JOB).is_some_and(|job| {
                    job.pointer("/metadata/annotations/resilience.valerix.io~1run")
                        .is_none()
                        && job["status"]["conditions"].is_null()
                })
        },
        holds: |_| {},
        writes: 3,
    },
    Flow {
        name: "records of archives that retention has removed",
        start: Operator::start,
        before: |api| {
            async {
                stored(api, "2026-08-19", json!({}));
                stored(api, "2026-08-20", json!({}));
                let told = json!({"healthy": true, "message": "1 archives removed, 2 kept", "removed": ["2026-08-19"]});
                stored(api, "2026-08-21", json!({"retention": told}));
                let mut retaining = policy();
                retaining["spec"]["retention"] = json!({"daily": 2});
                api.create(POLICIES, retaining);
            }
            .boxed()
        },
        done: |api| {
            api.get(&format!("{RECORDS}/shop-20260819")).is_none()
                && has(api, POLICY, ["RetentionHealthy", "True", "Applied"])
        },
        holds: |_| {},
        writes: 6,
    },
    Flow {
        name: "records of archives that were found",
        start: Operator::start,
        before: |api| {
            async {
                let archive = |slot: &str, uid: &str| {
                    json!({
                        "slot": slot, "policyUID": uid, "madeAt": format!("{slot}T02:16:00Z"),
                        "databases": [{"name": "orders", "bytes": 5000, "tables": 3}],
                        "upload": {"state": "Completed", "key": format!("pg/shop/shop/{}.tar.zst", slot.replace('-', "")),
                                   "claimName": "backups", "sha256": "ab".repeat(32), "bytes": 2048},
                    })
                };
                let found = json!({
                    "message": "2 archives lie on the destination without a record",
                    "archives": [archive("2026-08-19", "policy-uid"), archive("2026-08-12", "lost")],
                });
                stored(api, "2026-08-21", json!({"found": found}));
                api.create(POLICIES, policy());
            }
            .boxed()
        },
        done: |api| {
            ["20260819", "20260812-found"].iter().all(|slot| {
                is(
                    api,
                    &format!("{RECORDS}/shop-{slot}"),
                    "/status/phase",
                    &json!("Completed"),
                )
            }) && has(api, POLICY, ["Ready", "True", "Reconciled"])
        },
        holds: |state| {
            for index in [0, 1] {
                assert_eq!(state["records"][index][1][2], "Found", "{state}");
            }
        },
        writes: 8,
    },
    Flow {
        name: "a trial restore",
        start: Operator::start,
        before: |api| {
            async {
                stored(api, "2026-08-21", json!({}));
                api.create(POLICIES, verified("EveryRun"));
            }
            .boxed()
        },
        done: |api| api.get(TRIAL).is_some() && has(api, POLICY, ["Verified", "Unknown", "NotRestored"]),
        holds: |state| assert_eq!(state["verifier"], json!([true, true, true]), "{state}"),
        writes: 9,
    },
    Flow {
        name: "a trial that ended without a word",
        start: Operator::start,
        before: |api| {
            async {
                stored(api, "2026-08-21", json!({}));
                settled(api, verified("EveryRun"), fixtures::now).await;
                api.merge(TODAY, json!({"status": {"verification": {"state": "Running"}}}));
                let failed =
                    json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "late"}]);
                api.merge(TRIAL, json!({"status": {"conditions": failed}}));
            }
            .boxed()
        },
        done: |api| has(api, POLICY, ["Verified", "Unknown", "Inconclusive"]),
        holds: |state| assert_eq!(state["records"][3][1][4], "Local", "{state}"),
        writes: 2,
    },
    Flow {
        name: "no trials any more",
        start: Operator::start,
        before: |api| {
            async {
                settled(api, verified("Weekly"), fixtures::now).await;
                api.merge(
                    POLICY,
                    json!({"spec": {"verification": {"restore": "Off"}}, "metadata": {"generation": 2}}),
                );
            }
            .boxed()
        },
        done: |api| {
            let left = [VERIFIER, VERIFIERS_BINDING, VERIFIERS_NETWORK];
            left.iter().all(|path| api.get(path).is_none())
        },
        holds: |_| {},
        writes: 3,
    },
    Flow {
        name: "a policy that was edited into a wrong one, with a run that has failed",
        start: Operator::start,
        before: |api| {
            async {
                settled(api, policy(), fixtures::now).await;
                api.merge(POLICY, json!({"spec": {"schedule": {"timeOfDay": "02:30"}}}));
                api.create(
                    RECORDS,
                    with_slot("shop-20260821", "2026-08-21", json!({"phase": "Dumping"})),
                );
                let mut failed = job_at_work(json!({"resilience.valerix.io/policy": "shop"}));
                failed["status"] =
                    json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]});
                api.create(JOBS, failed);
            }
            .boxed()
        },
        done: |api| {
            is(api, CRON_JOB, "/spec/suspend", &json!(true))
                && is(api, TODAY, "/status/reason", &json!("JobFailed"))
                && has(api, POLICY, ["Scheduled", "False", "InvalidSchedule"])
                && has(api, POLICY, ["LastBackupSucceeded", "False", "Failed"])
        },
        holds: |_| {},
        writes: 3,
    },
    Flow {
        name: "a policy that is gone in the middle of a run",
        start: Operator::start,
        before: |api| {
            async {
                settled(api, policy(), fixtures::now).await;
                api.create(
                    RECORDS,
                    with_slot(
                        "shop-20260821",
                        "2026-08-21",
                        json!({"phase": "Uploading", "upload": {"state": "Started"}}),
                    ),
                );
                api.delete(POLICY);
            }
            .boxed()
        },
        done: |api| {
            is(api, TODAY, "/status/phase", &json!("Unknown")) && is(api, NEXT, "/status/phase", &json!("Missed"))
        },
        holds: |state| assert_eq!(state["records"][3][1][2], "PolicyGone", "{state}"),
        writes: 2,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_the_next_life_ends_in_the_same_state() {
    killed_at_any_write(&FLOWS, end_state).await;
}
