//! What runs already is taken over as it runs: no pod is missed, nothing of before stays.

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
const KUBERNETES_SERVICES: &str = "/api/v1/namespaces/shop/services";

fn owned_by(manager: &str, api_version: &str) -> Value {
    json!([{"manager": manager, "operation": "Update", "apiVersion": api_version, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {}}}])
}

/// A Deployment and a Service as somebody else's chart made them.
fn of_before(api: &FakeApi, adopt: Value) {
    let labels = json!({"app": "order", "app.kubernetes.io/name": "web"});
    api.create(
        DEPLOYMENTS,
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "order", "labels": {"app": "order"}, "annotations": adopt, "managedFields": owned_by("helm", "apps/v1")},
            "spec": {"replicas": 5, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [{"name": "server", "image": "order:0", "ports": [{"containerPort": 3001}]}]}}}}),
    );
    api.create(
        KUBERNETES_SERVICES,
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "order", "annotations": adopt, "managedFields": owned_by("helm", "v1")},
            "spec": {"selector": {"app": "order"}, "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}}),
    );
}

fn selector(api: &FakeApi) -> Value {
    api.get(SERVICE).unwrap()["spec"]["selector"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_handed_over_is_left_alone_and_the_message_says_how_it_is() {
    let api = FakeApi::default();
    of_before(&api, json!({}));
    let before = api.get(DEPLOYMENT);
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    let refused = api
        .until(ORDER, |order| reason(order, "ResourcesReady") == "False/NotOwned")
        .await;
    let message = condition(&refused, "ResourcesReady").unwrap()["message"].to_string();
    assert!(message.contains("resilience.valerix.io/adopt"), "{message}");
    operator.rest().await;
    assert_eq!(api.get(DEPLOYMENT), before);
}

#[tokio::test(start_paused = true)]
async fn a_running_workload_is_taken_over_and_its_service_leads_to_pods_that_are_there_at_every_moment() {
    let api = FakeApi::default();
    of_before(&api, json!({"resilience.valerix.io/adopt": "true"}));
    let uids = [DEPLOYMENT, SERVICE].map(|path| api.get(path).unwrap()["metadata"]["uid"].clone());
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    let taken = api
        .until(DEPLOYMENT, |deployment| {
            deployment["metadata"]["ownerReferences"][0]["name"] == "order"
        })
        .await;
    let pods = &taken["spec"]["template"];
    let names: Vec<_> = pods["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["order"], "the container of before would hold the port");
    assert_eq!(
        taken["spec"]["selector"]["matchLabels"],
        json!({"app": "order", "app.kubernetes.io/name": "web"})
    );
    for (label, value) in [
        ("app", "order"),
        ("app.kubernetes.io/name", "web"),
        ("resilience.valerix.io/service", "order"),
    ] {
        assert_eq!(pods["metadata"]["labels"][label], value);
    }
    let waiting = api
        .until(ORDER, |order| reason(order, "ResourcesReady") == "False/TakingOver")
        .await;
    assert_eq!(condition(&waiting, "Stalled"), None, "time alone will help");
    operator.rest().await;
    assert_eq!(selector(&api), json!({"app": "order"}), "no pod of ours is ready");

    all_pods_ready(&api, "order").await;
    api.until(SERVICE, |service| {
        service["spec"]["selector"] == json!({"resilience.valerix.io/service": "order"})
    })
    .await;
    let ready = api
        .until(ORDER, |order| reason(order, "Ready").starts_with("True"))
        .await;
    assert_eq!(reason(&ready, "ResourcesReady"), "True/AllApplied");
    let ports = api.get(SERVICE).unwrap()["spec"]["ports"].clone();
    assert_eq!(ports.as_array().unwrap().len(), 1, "{ports}");
    assert_eq!(
        [DEPLOYMENT, SERVICE].map(|path| api.get(path).unwrap()["metadata"]["uid"].clone()),
        uids
    );
    operator.rest().await;

    // The operator of later knows the Deployment's selector from what stands.
    drop(operator);
    api.forget_requests();
    let operator = Operator::start(&api);
    operator.rest().await;
    assert_eq!(api.writes(), Vec::<String>::new());
    api.merge(ORDER, json!({"spec": {"image": "order:2"}}));
    let next = api
        .until(DEPLOYMENT, |deployment| deployment.to_string().contains("order:2"))
        .await;
    assert_eq!(
        next["spec"]["selector"], taken["spec"]["selector"],
        "it can never change"
    );
}

#[tokio::test(start_paused = true)]
async fn an_autoscaled_workload_keeps_its_pods() {
    let api = FakeApi::default();
    of_before(&api, json!({"resilience.valerix.io/adopt": "true"}));
    let mut service = order();
    service["spec"]["resources"] = json!({"requests": {"cpu": "100m"}});
    service["spec"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 10});
    api.create(SERVICES, service);
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |deployment| {
        deployment["metadata"]["ownerReferences"][0]["name"] == "order"
    })
    .await;
    operator.rest().await;
    assert_eq!(api.get(DEPLOYMENT).unwrap()["spec"]["replicas"], 5, "five run");
}

#[tokio::test]
async fn of_two_services_that_would_share_a_child_the_second_waits_and_follows_when_the_first_goes() {
    for (first, second) in [("pay", "pay-pods"), ("pay-pods", "pay")] {
        let api = FakeApi::default();
        let named = |name: &str| {
            let mut service = order();
            service["metadata"]["name"] = json!(name);
            service
        };
        let path = |name: &str| format!("{SERVICES}/{name}");
        api.create(SERVICES, named(first));
        let operator = Operator::start(&api);
        let child = "/api/v1/namespaces/shop/services/pay-pods";
        let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["name"].clone();
        api.until(child, |object| owner(object) == first).await;
        api.create(SERVICES, named(second));
        let waiting = api
            .until(&path(second), |service| reason(service, "Ready") == "False/NotOwned")
            .await;
        let message = condition(&waiting, "Ready").unwrap()["message"].as_str().unwrap();
        assert_eq!(
            message,
            format!("Service pay-pods exists and belongs to ResilientService {first}; rename one of the two")
        );
        // It has waited for so long that its next look is far away.
        while operator.count("NotOwned") < 7 {
            operator.ctx.stores.services.triggers().trigger("shop", second);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        api.delete(&path(first));
        let followed = tokio::time::timeout(
            Duration::from_secs(5),
            api.until(child, |object| owner(object) == second),
        );
        followed.await.expect("the name is free");
    }
}
