//! Others who undo what a run needs: the experiment is deleted, the fault document is put back.

use super::*;
use crate::runtime::Identity;
use tokio_util::task::AbortOnDropHandle;

const ABSENT: &str = "/apis/apps/v1/namespaces/shop/deployments/absent";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/inventory";

/// A probe that reads whether a Deployment is available, five times a second.
fn available(deployment: &str) -> Value {
    json!({"recoveryTimeout": "10m", "probes": [{
        "name": "available", "interval": "200ms", "failureThreshold": 100,
        "condition": {"kind": "Deployment", "name": deployment, "type": "Available"},
    }]})
}

impl Shop {
    /// How often the object at this path was read by itself.
    fn questions(&self, path: &str) -> usize {
        let is_question = |request: &&Recorded| request.method == http::Method::GET && request.path == path;
        self.api.requests().iter().filter(is_question).count()
    }

    async fn gone(&self) {
        let gone = tokio::time::timeout(Duration::from_secs(60), async {
            while self.api.get(EXPERIMENT).is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        gone.await.expect("the experiment goes");
    }

    /// Waits until the object at this path has not been read for five times as long as between two questions.
    async fn falls_silent(&self, path: &str) {
        let silent = tokio::time::timeout(Duration::from_secs(60), async {
            let mut before = usize::MAX;
            while before != self.questions(path) {
                before = self.questions(path);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        silent.await.expect("nobody asks any more");
    }
}

#[tokio::test]
async fn an_experiment_that_is_deleted_before_it_began_asks_nothing_any_more() {
    let shop = Shop::open();
    let _operator = shop.operator();
    let mut spec = pod_kill();
    spec["steadyState"] = available("absent");
    shop.experiment(spec);
    let asked = tokio::time::timeout(Duration::from_secs(60), async {
        while shop.questions(ABSENT) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    asked.await.expect("the probe asks");
    assert_eq!(shop.api.get(EXPERIMENT).unwrap()["status"]["phase"], json!("Pending"));
    shop.api.delete(EXPERIMENT);
    shop.gone().await;
    shop.falls_silent(ABSENT).await;
}

#[tokio::test]
async fn an_experiment_that_is_deleted_while_it_recovers_asks_nothing_any_more() {
    let shop = Shop::open();
    let is = |status: &str| json!({"status": {"conditions": [{"type": "Available", "status": status}]}});
    shop.api.merge(DEPLOYMENT, is("True"));
    let _operator = shop.operator();
    let mut spec = latency("2s");
    spec["steadyState"] = available("inventory");
    shop.experiment(spec);
    shop.until(|status| status["injectedAt"].is_string()).await;
    shop.api.merge(DEPLOYMENT, is("False"));
    // The pods are well, so nothing holds the experiment; its service is not.
    let recovering = |found: &Value| {
        let finalizers = found.pointer("/metadata/finalizers").and_then(Value::as_array);
        found["status"]["phase"] == json!("Recovering") && finalizers.is_none_or(Vec::is_empty)
    };
    shop.api.until(EXPERIMENT, recovering).await;
    shop.api.delete(EXPERIMENT);
    shop.gone().await;
    shop.falls_silent(DEPLOYMENT).await;
}

#[tokio::test]
async fn a_lock_that_somebody_undoes_each_time_is_written_at_a_pace_and_given_up() {
    let shop = Shop::open();
    // Whoever undoes it is faster than anybody can read it.
    shop.api.inject(|request| {
        let reads = request.method == http::Method::GET && request.path == DOCUMENT;
        reads.then(|| Fault::Delay(Duration::from_millis(20)))
    });
    let api = shop.api.clone();
    let _undoing = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            if is_locked(&api) {
                api.merge(DOCUMENT, json!({"data": {"faults.json": null}}));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }));
    let _operator = shop.operator();
    shop.experiment(latency("10m"));
    let locks = || {
        let lock = format!("PATCH {DOCUMENT}");
        shop.api.writes().iter().filter(|write| **write == lock).count()
    };
    let begun = std::time::Instant::now();
    let locked = tokio::time::timeout(Duration::from_secs(60), async {
        while locks() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    locked.await.expect("it is locked again and again");
    // One at once, and one each half second.
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1), "{} locks in {took:?}", locks());
    // The time that a fault has to be delivered passes.
    let long_ago = Utc::now() - chrono::TimeDelta::minutes(2);
    shop.api.merge(EXPERIMENT, json!({"status": {"intentAt": long_ago}}));
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("NotDelivered")),
        "{status:#}"
    );
    assert_eq!(shop.entries(), 0);
}

fn is_locked(api: &FakeApi) -> bool {
    let map = api.get(DOCUMENT);
    let text = map.as_ref().and_then(|map| map.pointer("/data/faults.json")?.as_str());
    text.is_some_and(|text| text.contains("\"latency\""))
}

/// Another process leads since then and has gone on with the run: what it has done, nobody does a second time.
#[tokio::test]
async fn an_eviction_whose_decision_was_overtaken_is_not_sent() {
    let shop = Shop::open();
    shop.experiment(pod_kill());
    let identity = Identity {
        pod: "operator-1".into(),
        uid: "operator-uid".into(),
    };
    let runtime = Runtime::new(identity, Clients::single(shop.api.client()), vec![Scope::Cluster]);
    let publisher = Publisher::new(&runtime, CONTROLLER);
    let pod = shop.api.get(&format!("{PODS}/inventory-0")).unwrap();
    let evict = Action::Evict {
        pod: "inventory-0".into(),
        uid: pod["metadata"]["uid"].as_str().unwrap().into(),
        delete: false,
        grace_period_seconds: None,
    };
    let decided_on = || Arc::new(serde_json::from_value(shop.api.get(EXPERIMENT).unwrap()).unwrap());
    let send = async |experiment| {
        let sent = apply(&runtime.clients, &publisher, &experiment, None, &evict);
        (sent.await.unwrap(), shop.evictions().len())
    };
    let overtaken = decided_on();
    shop.api
        .merge(EXPERIMENT, json!({"metadata": {"labels": {"written": "since"}}}));
    assert!(matches!(send(overtaken).await, (Applied::Stale, 0)));
    assert!(matches!(send(decided_on()).await, (Applied::Evicted(..), 1)));
}
