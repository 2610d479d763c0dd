//! A guard that is turned on: an ordinary rollout, during which every pod is reached where it listens.

use super::*;

const NETWORK_POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/order";
const PODS: &str = "/api/v1/namespaces/shop/pods";

/// The target of the Service's first port.
fn target(service: &Value) -> Value {
    service["spec"]["ports"][0]["targetPort"].clone()
}

fn open_ports(policy: &Value) -> Value {
    let ports = policy["spec"]["ingress"][0]["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ports.into_iter().map(|port| port["port"].clone()).collect()
}

#[tokio::test]
async fn turned_on_the_old_pods_are_reached_by_name_until_the_last_is_gone_and_metadata_writes_nothing() {
    let api = FakeApi::default();
    let mut order = order();
    order["spec"]["networkPolicy"] = json!({});
    api.create(SERVICES, order);
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(SERVICE, |service| target(service) == 3001).await;
    operator.rest().await;

    let guard = json!({"mode": "Sidecar", "image": "guard:1"});
    api.merge(
        ORDER,
        json!({"spec": {"guard": guard, "resilience": {"protocol": null}}}),
    );
    api.until(SERVICE, |service| target(service) == "http").await;
    api.until(NETWORK_POLICY, |policy| {
        open_ports(policy) == json!([3001, 9090, 15100])
    })
    .await;
    let deployment = api
        .until(DEPLOYMENT, |deployment| {
            deployment["spec"]["template"]["spec"]["initContainers"][0]["name"] == "valerix-guard"
        })
        .await;

    // Kubernetes replaces the pod.
    let labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
    let metadata = json!({"name": "order-2", "uid": "second", "labels": labels});
    api.create(
        PODS,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": "127.0.0.1"}}),
    );
    api.delete(&format!("{PODS}/order-1"));
    api.until(SERVICE, |service| target(service) == 15100).await;
    api.until(NETWORK_POLICY, |policy| open_ports(policy) == json!([9090, 15100]))
        .await;
    operator.rest().await;

    let children = |write: &String| !write.ends_with("/status");
    let before = api.writes().into_iter().filter(children).count();
    let generation = api.until(DEPLOYMENT, |_| true).await["metadata"]["generation"].clone();
    api.merge(
        ORDER,
        json!({"metadata": {"labels": {"team": "checkout"}, "annotations": {"note": "x"}}}),
    );
    operator.rest().await;
    assert_eq!(api.writes().into_iter().filter(children).count(), before);
    assert_eq!(
        api.until(DEPLOYMENT, |_| true).await["metadata"]["generation"],
        generation
    );
}
