//! Stops that must get through: while a question of a probe is never answered, and for the whole cluster at once.

use super::*;

/// In which a stop has to be obeyed, which takes a moment unless something is waited for that never comes.
const SOON_ENOUGH: Duration = Duration::from_secs(15);

/// A Deployment that is available, and the probe that asks for it.
fn front(shop: &Shop) -> Value {
    shop.api.create(
        "/apis/apps/v1/namespaces/shop/deployments",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "front"},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        }),
    );
    json!({"probes": [{
        "name": "available", "interval": "200ms", "failureThreshold": 100,
        "condition": {"kind": "Deployment", "name": "front", "type": "Available"},
    }]})
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_probe_that_is_never_answered() {
    for deletes in [false, true] {
        let shop = Shop::open();
        let mut spec = latency("10m");
        spec["steadyState"] = front(&shop);
        let _operator = shop.operator();
        shop.experiment(spec);
        shop.until(|status| status["injectedAt"].is_string()).await;
        let asked = Arc::new(Notify::new());
        let signal = asked.clone();
        shop.api.inject(move |request| {
            request.path.ends_with("/deployments/front").then(|| {
                signal.notify_one();
                Fault::Silence
            })
        });
        asked.notified().await;
        if deletes {
            shop.api.delete(EXPERIMENT);
            let gone = async {
                while shop.api.get(EXPERIMENT).is_some() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(SOON_ENOUGH, gone).await.expect("it goes");
        } else {
            shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
            let over = tokio::time::timeout(SOON_ENOUGH, shop.over());
            let status = over.await.expect("it stops");
            assert_eq!(
                (&status["phase"], &status["reason"]),
                (&json!("Stopped"), &json!("AbortedByUser")),
                "{status:#}"
            );
        }
        assert_eq!(shop.entries(), 0);
    }
}

#[tokio::test]
async fn the_stop_order_ends_what_runs_and_lets_nothing_begin_until_it_is_lifted() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    shop.api.create(
        SAFETY.trim_end_matches("/valerix-safety"),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "valerix-safety"},
            "data": {"stop": "true", "reason": "incident 7"},
        }),
    );
    let stopped = shop.over().await;
    shop.experiment_on("inventory", "second", pod_kill());
    let skipped = shop.end_of("second").await;
    for (status, phase) in [(&stopped, "Stopped"), (&skipped, "Skipped")] {
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!(phase), &json!("SafetyLever")),
            "{status:#}"
        );
        assert!(status["message"].as_str().unwrap().contains("incident 7"), "{status:#}");
    }
    assert_eq!((shop.entries(), shop.evictions().len()), (0, 0));
    shop.api.delete(SAFETY);
    shop.experiment_on("inventory", "third", pod_kill());
    let ran = shop.end_of("third").await;
    assert_eq!(ran["reason"], json!("NoProbes"), "{ran:#}");
    assert_eq!(shop.evictions().len(), 1);
}

/// Whoever is told of a run may be slow: nothing waits for that.
#[tokio::test]
async fn a_stop_does_not_wait_for_events_that_nobody_takes() {
    let shop = Shop::open();
    let told = Arc::new(Notify::new());
    let signal = told.clone();
    shop.api.inject(move |request| {
        let event = request.method == http::Method::POST && request.path.ends_with("/events");
        event.then(|| {
            signal.notify_one();
            Fault::Delay(Duration::from_secs(600))
        })
    });
    let _operator = shop.operator();
    shop.experiment(latency("10m"));
    told.notified().await;
    shop.until(|status| status["injectedAt"].is_string()).await;
    shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
    let over = tokio::time::timeout(SOON_ENOUGH, shop.over()).await;
    assert_eq!(over.expect("it stops")["phase"], json!("Stopped"));
    assert_eq!(shop.entries(), 0);
}

/// A process sent the fault and died; it arrives when the run is over, and it is too late for that.
#[tokio::test]
async fn a_fault_that_arrives_after_the_stop_begins_nothing() {
    let shop = Shop::open();
    let sent = Arc::new(Notify::new());
    let (signal, late) = (sent.clone(), Duration::from_secs(8));
    let mut first = true;
    shop.api.inject(move |request| {
        let lock = request.is_write() && request.path == DOCUMENT;
        (lock && std::mem::take(&mut first)).then(|| {
            signal.notify_one();
            Fault::Late(late)
        })
    });
    let operator = shop.operator();
    shop.experiment(latency("10m"));
    sent.notified().await;
    let arrives = tokio::time::Instant::now() + late;
    drop(operator);
    shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
    let _operator = shop.operator();
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["faultEndedAt"]),
        (&json!("Stopped"), &json!(null)),
        "{status:#}"
    );
    assert!(
        tokio::time::Instant::now() < arrives,
        "it is over before the fault arrives"
    );
    tokio::time::sleep_until(arrives + Duration::from_millis(500)).await;
    assert_eq!(
        shop.entries(),
        0,
        "its version is not the one any more that it was sent for"
    );
}
