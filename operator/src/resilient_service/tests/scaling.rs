//! Replicas that an autoscaler decides, and the children that come and go with their fields.

use super::*;

const AUTOSCALER: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/order";
const BUDGET: &str = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/order";
const NETWORK_POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/order";
const SERVICE_ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/order";

/// An order service that could be measured, with these fields added.
fn measured(extra: Value) -> Value {
    let mut service = order();
    service["spec"]["resources"] = json!({"requests": {"cpu": "100m"}});
    json_patch::merge(&mut service["spec"], &extra);
    service
}

/// The requests that wrote the Deployment.
fn deployment_writes(api: &FakeApi) -> usize {
    api.writes().iter().filter(|write| write.ends_with(DEPLOYMENT)).count()
}

async fn until_gone(api: &FakeApi, path: &str) {
    let gone = tokio::time::timeout(Duration::from_secs(20), async {
        while api.get(path).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.unwrap_or_else(|_| panic!("{path} stays"));
}

#[tokio::test]
async fn an_autoscaler_takes_over_the_pods_that_run_and_nobody_writes_against_it() {
    let api = FakeApi::default();
    api.create(SERVICES, measured(json!({"replicas": 5})));
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 5)
        .await;
    operator.rest().await;

    api.forget_requests();
    api.merge(
        ORDER,
        json!({"spec": {"autoscaling": {"minReplicas": 2, "maxReplicas": 10}}}),
    );
    let autoscaler = api.until(AUTOSCALER, |_| true).await;
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], "order");
    operator.rest().await;
    assert_eq!(
        api.get(DEPLOYMENT).unwrap()["spec"]["replicas"],
        5,
        "a Deployment without replicas falls to one"
    );
    let appliers: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|request| request.is_write() && request.path == DEPLOYMENT)
        .collect();
    assert_eq!(appliers.len(), 2, "{appliers:?}");
    assert!(appliers[0].query.contains("fieldManager=valerix-replicas"));
    assert!(
        appliers[0].body["metadata"]["resourceVersion"].is_string(),
        "somebody's scaling could be undone"
    );
    assert_eq!(appliers[1].body["spec"]["replicas"], Value::Null);

    // As the autoscaler would.
    api.forget_requests();
    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 6}}));
    let service = api
        .until(ORDER, |service| service["status"]["summary"]["replicas"] == "0/6")
        .await;
    assert_eq!(reason(&service, "Warning"), "True/ReplicasIgnored");
    operator.rest().await;
    assert_eq!(deployment_writes(&api), 0, "{:?}", api.writes());
    // Another template leaves the number alone.
    api.merge(ORDER, json!({"spec": {"image": "order:2"}}));
    let rolled = api
        .until(DEPLOYMENT, |deployment| {
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "order:2"
        })
        .await;
    assert_eq!(rolled["spec"]["replicas"], 6);

    api.merge(ORDER, json!({"spec": {"autoscaling": null}}));
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 5)
        .await;
    until_gone(&api, AUTOSCALER).await;
}

#[tokio::test]
async fn a_new_deployment_begins_with_the_fewest_pods_and_one_at_zero_is_woken() {
    let api = FakeApi::default();
    let scaled = json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 10}});
    api.create(SERVICES, measured(scaled.clone()));
    let mut asleep = measured(json!({"replicas": 0}));
    asleep["metadata"]["name"] = json!("asleep");
    api.create(SERVICES, asleep);
    let operator = Operator::start(&api);
    api.until(AUTOSCALER, |_| true).await;
    let sleeper = "/apis/apps/v1/namespaces/shop/deployments/asleep";
    api.until(sleeper, |deployment| deployment["spec"]["replicas"] == 0)
        .await;
    operator.rest().await;
    assert_eq!(api.get(DEPLOYMENT).unwrap()["spec"]["replicas"], 3);
    api.merge(&format!("{SERVICES}/asleep"), json!({"spec": scaled}));
    api.until(sleeper, |deployment| deployment["spec"]["replicas"] == 3)
        .await;
    operator.rest().await;

    // Kubernetes leaves it so: an autoscaler is off while there is to be no pod.
    api.merge(sleeper, json!({"spec": {"replicas": 0}}));
    let generation = api.get(sleeper).unwrap()["metadata"]["generation"].clone();
    api.merge(sleeper, json!({"status": {"observedGeneration": generation}}));
    let off = api
        .until(&format!("{SERVICES}/asleep"), |service| {
            reason(service, "Stalled") == "True/AutoscalingOff"
        })
        .await;
    assert_eq!(reason(&off, "Ready"), "False/AutoscalingOff");
    assert_eq!(
        condition(&off, "Ready").unwrap()["message"],
        "Deployment asleep was scaled to 0, which turns its autoscaler off; scale it to 3, or remove spec.autoscaling"
    );
    assert_eq!(
        api.get(sleeper).unwrap()["spec"]["replicas"],
        0,
        "it is the user's to end"
    );
}

#[tokio::test]
async fn every_child_is_put_back_and_goes_with_its_field_and_at_rest_nothing_is_written() {
    let api = FakeApi::default();
    let mut spec = fixtures::full_spec();
    spec["resilience"]["protocol"] = json!("None");
    // The fake server takes two metrics of one type for the same.
    spec["autoscaling"]["targetMemoryUtilizationPercentage"] = Value::Null;
    let mut service = order();
    service["spec"] = spec;
    api.create(SERVICES, service);
    let operator = Operator::start(&api);
    for child in [AUTOSCALER, BUDGET, NETWORK_POLICY] {
        api.until(child, |_| true).await;
    }
    assert_eq!(api.get(SERVICE_ACCOUNT), None, "the user keeps one");
    operator.rest().await;

    for (child, edit, pointer) in [
        (AUTOSCALER, json!({"spec": {"maxReplicas": 99}}), "/spec/maxReplicas"),
        (
            BUDGET,
            json!({"spec": {"maxUnavailable": "100%"}}),
            "/spec/maxUnavailable",
        ),
        (NETWORK_POLICY, json!({"spec": {"ingress": [{}]}}), "/spec/ingress"),
    ] {
        let good = api.get(child).unwrap();
        api.merge(child, edit);
        api.until(child, |object| object.pointer(pointer) == good.pointer(pointer))
            .await;
        api.delete(child);
        api.until(child, |object| object["metadata"]["uid"] != good["metadata"]["uid"])
            .await;
    }
    operator.rest().await;

    // The next one finds everything in place.
    drop(operator);
    api.forget_requests();
    let next = Operator::start(&api);
    while next.count("Success") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    next.rest().await;
    assert_eq!(api.writes(), Vec::<String>::new());
    // What others write into a status is no news.
    api.forget_requests();
    api.merge(
        AUTOSCALER,
        json!({"status": {"currentReplicas": 3, "desiredReplicas": 3}}),
    );
    api.merge(BUDGET, json!({"status": {"disruptionsAllowed": 1}}));
    next.rest().await;
    let own: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|request| !request.is_watch())
        .collect();
    assert!(own.is_empty(), "{own:?}");

    // The budget is no part of the autoscaler: it stays when that goes.
    let budget = api.get(BUDGET).unwrap()["metadata"]["uid"].clone();
    api.merge(ORDER, json!({"spec": {"autoscaling": null, "replicas": 2}}));
    until_gone(&api, AUTOSCALER).await;
    next.rest().await;
    assert_eq!(api.get(BUDGET).unwrap()["metadata"]["uid"], budget);

    api.merge(
        ORDER,
        json!({"spec": {"disruption": null, "networkPolicy": {"mode": "None", "ingressFrom": null, "egressTo": null},
            "serviceAccountName": null, "podOverrides": null}}),
    );
    for child in [AUTOSCALER, BUDGET, NETWORK_POLICY] {
        until_gone(&api, child).await;
    }
    api.until(SERVICE_ACCOUNT, |_| true).await;
}

#[tokio::test]
async fn a_part_that_kubernetes_could_not_read_is_named_and_nothing_is_made() {
    let api = FakeApi::default();
    api.create(
        SERVICES,
        measured(json!({"disruption": {}, "podOverrides": {"containers": [{"name": "order", "image": "other"}]}})),
    );
    let _operator = Operator::start(&api);
    let service = api
        .until(ORDER, |service| reason(service, "Ready") == "False/InvalidSpec")
        .await;
    let message = condition(&service, "Ready").unwrap()["message"].as_str().unwrap();
    assert_eq!(
        message,
        "spec.podOverrides.containers[0].image: it has a field of its own; write spec.image"
    );
    assert_eq!(reason(&service, "Warning"), "True/DisruptionUnbounded");
    assert_eq!(api.get(DEPLOYMENT), None);
}
