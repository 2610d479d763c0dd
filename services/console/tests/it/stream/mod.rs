//! What a page is told: as much as its reader may see, in time, and honestly late.

mod late;
mod rights;

use serde_json::{Value, json};
use valerix_crds::names::SERVICE_LABEL;
use valerix_kit::testing::eventually;

use super::cluster::Cluster;
use super::support::{Console, experiment, followed, names, service};

fn is(kind: &str) -> impl Fn(&Value) -> bool + '_ {
    move |message| message["type"] == kind
}

#[tokio::test]
async fn everything_comes_first_and_then_what_changes() {
    let cluster = Cluster::new();
    cluster.put("resilientservices", "shop", "order", service("all is well"));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let snapshot = stream
        .until("the snapshot", |message| {
            message["objects"].as_array().is_some_and(|all| !all.is_empty())
        })
        .await;
    assert_eq!(names(&snapshot), ["ResilientService/shop/order"]);
    let shown = &snapshot["objects"][0];
    assert_eq!(
        (&shown["light"], &shown["reason"], &shown["since"]),
        (&json!("Green"), &json!("AllIsWell"), &json!("2026-11-27T10:00:00Z"))
    );
    cluster.put("chaosexperiments", "shop", "slow", experiment());
    let upserted = stream.until("the experiment", is("upserted")).await;
    assert_eq!(upserted["object"]["endsAt"], "2026-11-27T10:00:30Z");
    assert_eq!(
        (&upserted["object"]["fault"], &upserted["object"]["settings"]["delay"]),
        (&json!("latency"), &json!("2s"))
    );
    cluster.remove("chaosexperiments", "shop", "slow");
    let deleted = stream.until("its end", is("deleted")).await;
    assert_eq!(
        deleted,
        json!({"type": "deleted", "kind": "ChaosExperiment", "namespace": "shop", "name": "slow"})
    );
}

#[tokio::test]
async fn a_restore_is_told_step_by_step() {
    let cluster = Cluster::new();
    let restore = |status: Value| {
        json!({"kind": "Restore", "metadata": {}, "status": status, "spec": {
            "source": {"policyRef": {"name": "daily"}, "select": "Slot", "slot": "2026-11-20"},
            "target": {"connectionSecretRef": {"name": "db"}}, "databases": [{"name": "orders", "as": "orders_look"}]}})
    };
    cluster.put("restores", "shop", "look", restore(json!({})));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let snapshot = stream
        .until("the restore", |message| {
            message["objects"].as_array().is_some_and(|all| !all.is_empty())
        })
        .await;
    let shown = &snapshot["objects"][0];
    assert_eq!(
        (
            &shown["kind"],
            &shown["phase"],
            &shown["over"],
            &shown["slot"],
            &shown["policy"],
            &shown["mode"]
        ),
        (
            &json!("Restore"),
            &json!("Pending"),
            &json!(false),
            &json!("2026-11-20"),
            &json!("daily"),
            &json!("NewDatabase")
        )
    );
    assert_eq!(
        shown["databases"][0]["target"], "orders_look",
        "what was asked for, before the runner says more"
    );
    let done = json!({"phase": "Completed", "tables": 7, "databases": [{"name": "orders", "as": "orders", "phase": "Completed", "tables": 7,
        "previous": "orders_before_20261120", "previousUntil": "2026-12-04T00:00:00Z"}]});
    cluster.put("restores", "shop", "look", restore(done.clone()));
    let upserted = stream.until("its end", is("upserted")).await;
    let shown = &upserted["object"];
    assert_eq!((&shown["over"], &shown["tables"]), (&json!(true), &json!(7)));
    assert_eq!(shown["databases"][0]["previous"], "orders_before_20261120");
    let mut dropped = done;
    dropped["databases"][0]["previousDropped"] = json!(true);
    cluster.put("restores", "shop", "look", restore(dropped));
    let upserted = stream.until("the old one's end", is("upserted")).await;
    assert_eq!(
        upserted["object"]["databases"][0]["previous"],
        Value::Null,
        "what is dropped is not offered"
    );
}

#[tokio::test]
async fn it_is_remembered_when_a_pod_was_ready() {
    let cluster = Cluster::new();
    let pod = |ready: bool| {
        let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        json!({"kind": "Pod", "metadata": {"labels": {SERVICE_LABEL: "order"}}, "status": {"phase": "Running", "conditions": conditions}})
    };
    cluster.put("pods", "shop", "order-1", pod(true));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    cluster.put("pods", "shop", "order-1", pod(false));
    cluster.put("pods", "shop", "order-2", pod(true));
    cluster.remove("pods", "shop", "order-1");
    let turns = eventually("every turn is remembered", || async {
        let answer = console.server.get("/api/services/shop/order/readiness").await.body();
        let turns = answer["turns"].as_array()?.clone();
        (turns.len() == 4).then_some(turns)
    })
    .await;
    let told: Vec<String> = turns
        .iter()
        .map(|turn| format!("{} {}", turn["pod"], turn["state"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        ["order-1 Ready", "order-1 Unready", "order-2 Ready", "order-1 Gone"]
    );
    let other = console.server.get("/api/services/shop/payment/readiness").await;
    assert_eq!(other.body(), json!({"turns": []}), "another's pods are not its own");
}

#[tokio::test]
async fn what_happened_is_told_however_much_happens_to_others() {
    let cluster = Cluster::new();
    let put = |namespace: &str, name: &str, version: &str, at: u32| {
        let of = json!({"apiVersion": version, "kind": "X", "namespace": namespace, "name": "x"});
        let at = format!("2026-11-27T10:{:02}:{:02}Z", at / 60, at % 60);
        let event = json!({"kind": "Event", "involvedObject": of, "metadata": {}, "reason": name, "lastTimestamp": at});
        cluster.put("events", namespace, name, event);
    };
    for number in 0..600 {
        put("busy", &format!("foreign-{number:03}"), "v1", 3_000);
    }
    // More than a page of our own too, the newest of them behind all others.
    for number in 0..700 {
        put(
            "shop",
            &format!("own-{number:03}"),
            "resilience.valerix.io/v1alpha1",
            number,
        );
    }
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    let happened = console.server.get("/api/happened").await.body();
    let events = happened["events"].as_array().unwrap();
    assert_eq!(
        (
            events.len(),
            &events[0]["reason"],
            &events[199]["reason"],
            &happened["truncated"]
        ),
        (200, &json!("own-699"), &json!("own-500"), &json!(false))
    );
}

#[tokio::test]
async fn hostile_names_and_words_are_data() {
    let cluster = Cluster::new();
    let hostile = "</script><img src=x onerror=alert(1)>\u{2028}data: {\"type\":\"signedOut\"}\n\nevent: x";
    cluster.put("resilientservices", "shop", "order", service(hostile));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let snapshot = stream
        .until("the snapshot", |message| message["type"] == "snapshot")
        .await;
    assert_eq!(snapshot["objects"][0]["message"], hostile, "as it is, in one message");
    let next = stream.next().await.unwrap();
    assert_ne!(next["type"], "signedOut");
}
