//! A pod that waits for its volumes, whose own status does not say for which.

use super::*;

const EVENTS: &str = "/api/v1/namespaces/shop/events";
const PODS: &str = "/api/v1/namespaces/shop/pods";

fn asked(api: &FakeApi) -> usize {
    api.requests()
        .iter()
        .filter(|request| !request.is_write() && request.path == EVENTS)
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_missing_volume_is_named_from_the_events_which_nobody_reads_otherwise() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    let generation = api.get(DEPLOYMENT).unwrap()["metadata"]["generation"].clone();
    api.merge(
        DEPLOYMENT,
        json!({"status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1}}),
    );
    operator.rest().await;
    assert_eq!(asked(&api), 0);
    let event = |name: &str, pod: &str, reason: &str, said: &str| {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": {"kind": "Pod", "uid": pod},
            "reason": reason, "message": said, "lastTimestamp": "2026-01-01T00:00:00Z"})
    };
    let said = "MountVolume.SetUp failed for volume \"keys\" : secret \"order-keys\" not found";
    api.create(
        EVENTS,
        event(
            "a",
            "another",
            "FailedMount",
            "MountVolume.SetUp failed : configmap \"x\" not found",
        ),
    );
    api.create(EVENTS, event("b", "pod", "Scheduled", "there is a node"));
    api.create(EVENTS, event("c", "pod", "FailedMount", said));
    let conditions = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "PodReadyToStartContainers", "status": "False"}
    ]);
    let pod = |name: &str, uid: &str, phase: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": uid,
            "labels": {"resilience.valerix.io/service": "order"}}, "status": {"phase": phase, "conditions": conditions}})
    };
    // It was evicted, and its sandbox is gone: it looks as if it waited, and nothing will ever be mounted for it.
    api.create(PODS, pod("order-0", "evicted", "Failed"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(asked(&api), 0);
    api.create(PODS, pod("order-1", "pod", "Pending"));
    let waiting = api
        .until(ORDER, |order| reason(order, "Available") == "False/WaitingForVolumes")
        .await;
    let message = condition(&waiting, "Available").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("secret \"order-keys\" not found; create it in namespace shop"),
        "{message}"
    );

    api.merge(
        &format!("{PODS}/order-1"),
        json!({"status": {"conditions": [{"type": "PodReadyToStartContainers", "status": "True"}]}}),
    );
    api.until(ORDER, |order| reason(order, "Available") == "False/WaitingForPods")
        .await;
    operator.rest().await;
    let before = asked(&api);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(asked(&api), before);
}
