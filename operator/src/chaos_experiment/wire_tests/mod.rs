//! The controller against a fake API server: what is on the wire, in which order, and what is left after a crash.

use super::*;
use crate::fake_api::{FakeApi, Fault, Recorded};
use crate::runtime::{Clients, Scope};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;
use valerix_policy::Faults;

mod broken;
mod campaign;
mod interference;
mod kinds;
mod one_after_another;
mod removal;
mod scale;
pub mod shop;
mod stop;

use shop::*;

#[tokio::test]
async fn a_pod_kill_writes_ahead_and_carries_the_recorded_uid() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(pod_kill());
    let status = shop.over().await;
    assert_eq!(
        (&status["verdict"], &status["reason"]),
        (&json!("NotEvaluated"), &json!("NoProbes")),
        "{status:#}"
    );
    assert!(status["timeToRecover"].as_str().unwrap().ends_with('s'));
    let victim = &status["targets"][0];
    let evictions = shop.evictions();
    assert_eq!(evictions.len(), 1);
    assert_eq!(
        evictions[0].path,
        format!("{PODS}/{}/eviction", victim["pod"].as_str().unwrap())
    );
    assert_eq!(
        evictions[0].body["deleteOptions"],
        json!({"preconditions": {"uid": victim["uid"]}, "gracePeriodSeconds": 5})
    );
    assert_eq!(shop.entries(), 0);

    // Begin, finalizer, intent, lock, mark, eviction, answer, recovering, recovered, finalizer, release, end; nothing else.
    let status_write = format!("PATCH {EXPERIMENT}/status");
    let object_write = format!("PATCH {EXPERIMENT}");
    let expected = [
        status_write.clone(),
        object_write.clone(),
        status_write.clone(),
        format!("PATCH {DOCUMENT}"),
        status_write.clone(),
        format!("POST {}", evictions[0].path),
        status_write.clone(),
        status_write.clone(),
        status_write.clone(),
        object_write,
        format!("PATCH {DOCUMENT}"),
        status_write,
        format!("PATCH {SERVICE}/status"),
    ];
    shop.api
        .until(SERVICE, |service| {
            service.pointer("/status/lastExperiment/verdict") == Some(&json!("NotEvaluated"))
        })
        .await;
    assert_eq!(shop.api.writes(), expected);
    let claims = shop
        .api
        .requests()
        .into_iter()
        .filter(|request| request.is_write() && (request.path.starts_with(EXPERIMENT) || request.path == DOCUMENT));
    for claim in claims {
        assert!(
            claim
                .body
                .pointer("/metadata/resourceVersion")
                .is_some_and(Value::is_string),
            "{claim:?}"
        );
        if claim.path == DOCUMENT {
            assert!(claim.query.contains("fieldManager=valerix-chaos"), "{}", claim.query);
        }
    }

    // It is over: nothing but watches from here on.
    shop.api.forget_requests();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let asked: Vec<_> = shop
        .api
        .requests()
        .into_iter()
        .filter(|request| !request.query.contains("watch=true"))
        .collect();
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_victim_deleted_while_the_request_is_held_is_gone_and_nobody_takes_its_place() {
    let shop = Shop::open();
    let held = Arc::new(Notify::new());
    let signal = held.clone();
    shop.api.inject(move |request| {
        request.path.ends_with("/eviction").then(|| {
            signal.notify_one();
            Fault::Delay(Duration::from_millis(500))
        })
    });
    let _operator = shop.operator();
    shop.experiment(pod_kill());
    held.notified().await;
    let victim = shop.evictions()[0].path.trim_end_matches("/eviction").to_owned();
    // As a StatefulSet would do it: another pod of the same name.
    let number = victim.rsplit('-').next().unwrap().to_owned();
    shop.api.delete(&victim);
    shop.api.create(PODS, json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("inventory-{number}"), "uid": "stranger", "labels": {"resilience.valerix.io/service": "inventory"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let status = shop.over().await;
    assert_eq!(
        (&status["targets"][0]["state"], &status["reason"]),
        (&json!("Gone"), &json!("TargetsLost")),
        "{status:#}"
    );
    assert_eq!(shop.evictions().len(), 1);
    assert!(
        pods(&shop.api)
            .iter()
            .all(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
    );
}

#[tokio::test]
async fn latency_is_written_read_back_and_taken_out() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(latency("2s"));
    let running = shop.until(|status| status["injectedAt"].is_string()).await;
    assert_eq!(
        (shop.entries(), &running["summary"]["injected"]),
        (1, &json!("2/2")),
        "{running:#}"
    );
    let map = shop.api.get(DOCUMENT).unwrap();
    let run = format!(
        "test/{}/{}/{}",
        shop.api.get(EXPERIMENT).unwrap()["metadata"]["uid"].as_str().unwrap(),
        running["intentAt"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap()
            .timestamp_millis(),
        running["run"].as_str().unwrap()
    );
    let entry = Faults::parse(map["data"]["faults.json"].as_str().unwrap().as_bytes())
        .unwrap()
        .document
        .faults
        .remove(0);
    assert_eq!(
        (entry.run.clone(), entry.pod_uids.len(), entry.duration.as_millis()),
        (run, 2, 2_000)
    );
    assert_eq!(map["data"]["policy.v1.json"], json!("{}"), "the other keys stay");
    assert_eq!(entry.spared_paths, ["/_healthz"], "the kubelet's probes are not hurt");
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["verdict"]),
        (&json!("Completed"), &json!("NotEvaluated")),
        "{status:#}"
    );
    let at = |field: &str| status[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let lasted = at("faultEndedAt") - at("injectedAt");
    assert!((1_500..2_500).contains(&lasted.num_milliseconds()), "{lasted}");
    assert_eq!((shop.entries(), shop.evictions().len()), (0, 0));
}

#[tokio::test]
async fn stop_and_deletion_end_the_fault_at_once() {
    for delete in [false, true] {
        let shop = Shop::open();
        let _operator = shop.operator();
        shop.experiment(latency("10m"));
        shop.until(|status| status["injectedAt"].is_string()).await;
        if delete {
            shop.api.delete(EXPERIMENT);
            tokio::time::timeout(Duration::from_secs(10), async {
                while shop.api.get(EXPERIMENT).is_some() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await
            .expect("the finalizer goes");
        } else {
            shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
            let status = shop.over().await;
            assert_eq!(
                (&status["phase"], &status["verdict"], &status["reason"]),
                (&json!("Stopped"), &json!("Stopped"), &json!("AbortedByUser"))
            );
        }
        assert_eq!(shop.entries(), 0);
    }
}

#[tokio::test]
async fn without_consent_nothing_is_touched_and_the_remedy_is_named() {
    let shop = Shop::open();
    shop.api
        .merge(SERVICE, json!({"spec": {"chaos": {"admission": "Denied"}}}));
    let _operator = shop.operator();
    shop.experiment(pod_kill());
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Skipped"), &json!("NotAdmitted"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("spec.chaos.admission: Allowed")
    );
    assert_eq!(
        shop.api.writes(),
        [
            format!("PATCH {EXPERIMENT}/status"),
            format!("PATCH {EXPERIMENT}/status")
        ]
    );
}

#[tokio::test]
async fn a_fault_without_an_experiment_is_swept_up() {
    let shop = Shop::open();
    let orphan = |run: &str| {
        json!({"version": 1, "faults": [{
            "run": run, "fault": {"latency": {"delay": "1s"}}, "podUIDs": ["inventory-uid-0"], "duration": "10m",
            "notAfter": "2126-01-01T00:00:00Z", "intentAt": "2026-01-01T00:00:00Z",
        }]})
        .to_string()
    };
    shop.api.merge(
        DOCUMENT,
        json!({"data": {"faults.json": orphan("gone/some-uid/0/some-run")}}),
    );
    let _operator = shop.operator();
    shop.api
        .until(DOCUMENT, |map| {
            map["data"]["faults.json"]
                .as_str()
                .is_some_and(|text| text.contains("\"faults\":[]"))
        })
        .await;

    // A run under way keeps its entry when something else is swept.
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    let clients = Clients::single(shop.api.client());
    assert_eq!(sweep::sweep(&clients, &[Scope::Cluster]).await.unwrap(), 0);
    assert_eq!(shop.entries(), 1);
    // A finalizer that was forced away leaves the entry behind; the deletion is noticed.
    shop.api.merge(EXPERIMENT, json!({"metadata": {"finalizers": null}}));
    shop.api.delete(EXPERIMENT);
    shop.api
        .until(DOCUMENT, |map| {
            map["data"]["faults.json"]
                .as_str()
                .is_some_and(|text| text.contains("\"faults\":[]"))
        })
        .await;
}

/// Nobody asks for it: what a lost answer left behind is looked for every few minutes, and where nothing is left behind
/// nothing is asked.
#[tokio::test(start_paused = true)]
async fn a_fault_without_an_experiment_is_swept_up_without_a_request_too() {
    // Its pods would look at the document all the time.
    let shop = Shop::of(&[]);
    shop.create_map("inventory");
    let _operator = shop.operator();
    tokio::time::sleep(Duration::from_secs(60)).await;
    shop.api.forget_requests();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    let mut asked = shop.api.requests();
    asked.retain(|request| !request.is_watch());
    assert!(asked.is_empty(), "at rest: {asked:#?}");
    let orphan = json!({"version": 1, "faults": [{
        "run": "gone/some-uid/0/some-run", "fault": {"latency": {"delay": "1s"}}, "podUIDs": ["inventory-uid-0"],
        "duration": "10m", "notAfter": "2126-01-01T00:00:00Z", "intentAt": "2026-01-01T00:00:00Z",
    }]});
    shop.api
        .merge(DOCUMENT, json!({"data": {"faults.json": orphan.to_string()}}));
    assert_eq!(shop.entries(), 1);
    let swept = tokio::time::timeout(Duration::from_secs(400), async {
        while shop.entries() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    swept.await.expect("it is swept up");
}
