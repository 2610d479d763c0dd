use super::*;
use crate::fake_api::FakeApi;
use serde_json::{Value, json};

const GROUP: &str = "/api/v1/namespaces/shop";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// A Service `order` whose port 80 is port 8080 of its pods, and the pods `order-1` and `order-2`.
fn shop() -> (FakeApi, ClusterResolver) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api = FakeApi::default();
    api.create(
        &format!("{GROUP}/services"),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "order"},
               "spec": {"clusterIP": "10.96.0.10", "selector": {"a": "b"}, "ports": [{"name": "http", "port": 80}]}}),
    );
    for number in 1..=2 {
        api.create(
            &format!("{GROUP}/pods"),
            json!({"apiVersion": "v1", "kind": "Pod",
                   "metadata": {"name": format!("order-{number}"), "uid": format!("uid-{number}")},
                   "spec": {"containers": []}, "status": {"podIP": format!("10.0.0.{number}")}}),
        );
    }
    let resolver = ClusterResolver::new(Clients::single(api.client()));
    (api, resolver)
}

fn endpoint(number: usize, address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true},
           "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("order-{number}"), "uid": format!("uid-{number}")}})
}

fn slice(api: &FakeApi, endpoints: &[Value]) {
    api.create(
        SLICES,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"name": "order-x", "labels": {"kubernetes.io/service-name": "order"}},
               "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}),
    );
}

#[tokio::test]
async fn the_pods_behind_a_service_are_asked_in_turn() {
    let (api, resolver) = shop();
    slice(&api, &[endpoint(1, "10.0.0.1"), endpoint(2, "10.0.0.2")]);
    let mut asked = BTreeSet::new();
    for _ in 0..2 {
        asked.insert(resolver.resolve("shop", "order", 80).await.unwrap().to_string());
    }
    assert_eq!(asked, ["10.0.0.1:8080".to_owned(), "10.0.0.2:8080".to_owned()].into());
    let Err(Unresolved::NotAsked(why)) = resolver.resolve("shop", "order", 81).await else {
        panic!("there is no such port")
    };
    assert!(why.contains("has no port 81, but 80"), "{why}");
    let Err(Unresolved::NotAsked(why)) = resolver.resolve("shop", "orders", 80).await else {
        panic!("there is no such Service")
    };
    assert!(why.contains("correct http.service"), "{why}");
}

#[tokio::test]
async fn an_address_that_no_pod_of_the_namespace_has_is_not_asked() {
    let nobody = json!({"addresses": ["192.168.7.7"]});
    for (endpoint, word) in [
        (endpoint(1, "192.168.7.7"), "not pod order-1's own address"),
        (endpoint(3, "10.0.0.3"), "not pod order-3's own address"),
        (endpoint(1, "169.254.169.254"), "link-local"),
        (nobody, "no pod's of this namespace"),
    ] {
        let (api, resolver) = shop();
        slice(&api, &[endpoint]);
        let answer = resolver.resolve("shop", "order", 80).await;
        assert!(
            matches!(&answer, Err(Unresolved::NotAsked(why)) if why.contains(word)),
            "{answer:?}"
        );
    }
    let (api, resolver) = shop();
    api.merge(&format!("{GROUP}/pods/order-1"), json!({"spec": {"hostNetwork": true}}));
    slice(&api, &[endpoint(1, "10.0.0.1")]);
    let answer = resolver.resolve("shop", "order", 80).await;
    assert!(
        matches!(&answer, Err(Unresolved::NotAsked(_))),
        "a node's address: {answer:?}"
    );
}

#[tokio::test]
async fn a_service_without_a_ready_pod_is_an_outage_and_not_a_wrong_question() {
    let (api, resolver) = shop();
    let mut unready = endpoint(1, "10.0.0.1");
    unready["conditions"]["ready"] = json!(false);
    slice(&api, &[unready]);
    let answer = resolver.resolve("shop", "order", 80).await;
    assert!(matches!(&answer, Err(Unresolved::NobodyThere(_))), "{answer:?}");
}

#[tokio::test]
async fn a_service_that_leads_out_of_the_namespace_is_not_asked() {
    let (api, resolver) = shop();
    api.merge(
        &format!("{GROUP}/services/order"),
        json!({"spec": {"type": "ExternalName"}}),
    );
    let answer = resolver.resolve("shop", "order", 80).await;
    assert!(
        matches!(&answer, Err(Unresolved::NotAsked(why)) if why.contains("ExternalName")),
        "{answer:?}"
    );
}
