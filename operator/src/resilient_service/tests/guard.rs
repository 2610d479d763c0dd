//! A guard that is turned on, a port that moves: an ordinary rollout, during which every pod is reached where it listens.

use super::*;

const NETWORK_POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/order";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

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

/// A pod of the service that is ready, if it is to be.
fn pod_at(api: &FakeApi, name: &str, labels: &Value, (port, number): (&str, i32), ready: bool) {
    let container = json!({"name": "order", "ports": [{"name": port, "containerPort": number}]});
    let mut labels = labels.clone();
    labels["resilience.valerix.io/service"] = json!("order");
    api.create(
        PODS,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": name, "labels": labels},
            "spec": {"containers": [container]}, "status": {"podIP": "127.0.0.1"}}),
    );
    let reference = json!({"kind": "Pod", "name": name, "uid": name});
    api.create(
        SLICES,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [],
            "metadata": {"name": format!("of-{name}"), "labels": {
                "kubernetes.io/service-name": "order-pods", "resilience.valerix.io/service": "order"}},
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}, "targetRef": reference}]}),
    );
}

#[tokio::test]
async fn a_port_with_another_name_and_number_is_left_where_the_pods_that_serve_have_it() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    let labels = api.until(DEPLOYMENT, |_| true).await["spec"]["template"]["metadata"]["labels"].clone();
    pod_at(&api, "order-1", &labels, ("http", 3001), true);
    api.until(SERVICE, |service| target(service) == 3001).await;
    operator.rest().await;

    let renamed = json!([{"name": "web", "containerPort": 3002, "servicePort": 80}]);
    api.merge(ORDER, json!({"spec": {"ports": renamed}}));
    api.until(SERVICE, |service| service["spec"]["ports"][0]["name"] == "web")
        .await;
    // The new one starts: nobody listens there yet.
    pod_at(&api, "order-2", &labels, ("web", 3002), false);
    operator.rest().await;
    assert_eq!(target(&api.get(SERVICE).unwrap()), 3001);
    // Both serve: by its number the old one would be asked too.
    api.merge(
        &format!("{SLICES}/of-order-2"),
        json!({"endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": "order-2", "uid": "order-2"}}]}),
    );
    api.until(SERVICE, |service| target(service) == "web").await;
    api.delete(&format!("{SLICES}/of-order-1"));
    api.delete(&format!("{PODS}/order-1"));
    api.until(SERVICE, |service| target(service) == 3002).await;
}

#[tokio::test]
async fn a_port_that_moves_is_found_by_its_name_until_the_last_pod_of_before_is_gone() {
    let api = FakeApi::default();
    let mut order = order();
    order["spec"]["networkPolicy"] = json!({});
    order["spec"]["guard"] = json!({"mode": "Sidecar", "image": "guard:1", "inbound": {"ports": [{"name": "admin"}]}});
    order["spec"]["resilience"] = json!({});
    order["spec"]["ports"] = json!([
        {"name": "http", "containerPort": 3001, "servicePort": 80}, {"name": "admin", "containerPort": 4001}
    ]);
    api.create(SERVICES, order);
    let operator = Operator::start(&api);
    let labels = api.until(DEPLOYMENT, |_| true).await["spec"]["template"]["metadata"]["labels"].clone();
    let pod = |name: &str, number: i32| {
        let container = json!({"name": "order", "ports": [{"name": "http", "containerPort": number}]});
        let metadata = json!({"name": name, "labels": labels});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})
    };
    api.create(PODS, pod("order-1", 3001));
    api.until(SERVICE, |service| target(service) == 3001).await;
    operator.rest().await;

    api.forget_requests();
    let moved = json!([
        {"name": "http", "containerPort": 3002, "servicePort": 80}, {"name": "admin", "containerPort": 4001}
    ]);
    api.merge(ORDER, json!({"spec": {"ports": moved}}));
    api.until(DEPLOYMENT, |deployment| {
        let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
        ports
            .as_array()
            .unwrap()
            .iter()
            .any(|port| port["containerPort"] == 3002)
    })
    .await;
    // Kubernetes replaces the pod: both stand for a while.
    api.create(PODS, pod("order-2", 3002));
    operator.rest().await;
    let written = api.requests().into_iter().filter(|request| {
        let is_service = request.path.ends_with("/services/order") || request.path.ends_with("/services/order-pods");
        request.is_write() && is_service
    });
    let targets: Vec<Value> = written.map(|request| target(&request.body)).collect();
    assert_eq!(
        targets,
        ["http", "http"],
        "the pod that serves listens at the old number"
    );
    assert_eq!(
        open_ports(&api.get(NETWORK_POLICY).unwrap()),
        json!([3001, 3002, 9090, 15101])
    );

    api.delete(&format!("{PODS}/order-1"));
    api.until(SERVICE, |service| target(service) == 3002).await;
    api.until(NETWORK_POLICY, |policy| {
        open_ports(policy) == json!([3002, 9090, 15101])
    })
    .await;
}
