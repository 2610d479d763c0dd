//! Restarts, late caches, failures that last, and others who write what is ours.

use super::*;

async fn ready(api: &FakeApi) -> Operator {
    api.create(SERVICES, order());
    let operator = Operator::start(api);
    all_pods_ready(api, "order").await;
    api.until(ORDER, |service| reason(service, "Ready") == "True/AllPodsCurrent")
        .await;
    operator.rest().await;
    operator
}

fn deployment_writes(api: &FakeApi) -> usize {
    let is_deployment = |write: &&String| write.ends_with("/deployments/order");
    api.writes().iter().filter(is_deployment).count()
}

#[tokio::test]
async fn a_restarted_operator_judges_nothing_before_it_has_seen_everything() {
    let api = FakeApi::default();
    drop(ready(&api).await);
    api.forget_requests();
    api.inject(|request| {
        let is_slow = request.path.ends_with("/endpointslices") || request.path.ends_with("/configmaps");
        (is_slow && !request.is_watch()).then_some(Fault::Delay(Duration::from_secs(2)))
    });
    let second = Operator::start(&api);
    while second.count("Success") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.rest().await;
    assert_eq!(api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn changes_that_no_watch_told_are_found_by_the_next_list() {
    let api = FakeApi::default();
    let _operator = ready(&api).await;
    api.break_watches();
    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 5}}));
    api.delete(SERVICE);
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 1)
        .await;
    api.until(SERVICE, |_| true).await;
}

#[tokio::test]
async fn a_specification_that_becomes_invalid_right_after_another_change_is_judged_all_the_same() {
    let api = FakeApi::default();
    let operator = ready(&api).await;
    api.merge(ORDER, json!({"spec": {"env": [{"name": "A", "value": "1"}]}}));
    api.until(ORDER, |service| service["status"]["observedGeneration"] == 2)
        .await;
    // Within a second of that writing.
    let twice = json!([{"name": "http", "containerPort": 3001}, {"name": "again", "containerPort": 3001}]);
    api.merge(ORDER, json!({"spec": {"ports": twice}}));
    let service = api
        .until(ORDER, |service| service["status"]["observedGeneration"] == 3)
        .await;
    assert_eq!(reason(&service, "Ready"), "False/InvalidSpec");
    assert_eq!(reason(&service, "Stalled"), "True/InvalidSpec");
    drop(operator);
}

#[tokio::test]
async fn a_child_that_cannot_be_written_keeps_nothing_else_from_being_shown_in_time() {
    let api = FakeApi::default();
    let mut reporting = order();
    reporting["spec"]["resilience"] = json!({"targets": [{"name": "inventory"}]});
    api.create(SERVICES, reporting);
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.inject(|request| {
        request
            .path
            .ends_with("/services/order-pods")
            .then_some(Fault::Refuse(422))
    });
    api.delete("/api/v1/namespaces/shop/services/order-pods");
    let report = |state: &str| {
        let report = json!({
            "podUID": "pod-of-order", "service": "order", "now": Utc::now(), "policy": {"versions": [1]},
            "circuitBreakers": [{"target": "inventory", "state": state}]
        });
        let report = PodReport {
            namespace: "shop".into(),
            service: "order".into(),
            pod: "order-1".into(),
            report: serde_json::from_value(report).unwrap(),
            received_at: Utc::now(),
        };
        operator.ctx.reports.put("pod-of-order", report);
        operator.ctx.stores.services.triggers().trigger("shop", "order");
    };
    report("Open");
    let service = api
        .until(ORDER, |service| service["status"]["summary"]["circuits"] == "1 open")
        .await;
    assert_eq!(reason(&service, "Ready"), "False/ApplyFailed");
    // Within the second in which the status may not be written again; the backoff of the failure may be longer.
    report("Closed");
    api.until(ORDER, |service| service["status"]["summary"]["circuits"] == "closed")
        .await;
}

#[tokio::test]
async fn a_child_under_another_services_label_comes_back() {
    let api = FakeApi::default();
    let _operator = ready(&api).await;
    for child in [DEPLOYMENT, "/api/v1/namespaces/shop/services/order-pods"] {
        api.merge(
            child,
            json!({"metadata": {"labels": {"resilience.valerix.io/service": "x"}}}),
        );
        api.until(child, |object| {
            object["metadata"]["labels"]["resilience.valerix.io/service"] == "order"
        })
        .await;
    }
}

#[tokio::test]
async fn children_that_lost_their_owner_are_taken_back_as_they_are() {
    let api = FakeApi::default();
    drop(ready(&api).await);
    let children = [
        DEPLOYMENT,
        CONFIG_MAP,
        SERVICE,
        "/api/v1/namespaces/shop/serviceaccounts/order",
    ];
    let uid = |path: &str| api.get(path).unwrap()["metadata"]["uid"].clone();
    let before: Vec<_> = children.iter().map(|path| uid(path)).collect();
    let template = api.get(DEPLOYMENT).unwrap()["spec"]["template"].clone();
    for child in children {
        api.merge(child, json!({"metadata": {"ownerReferences": null}}));
    }
    let _second = Operator::start(&api);
    for child in children {
        api.until(child, |object| {
            object["metadata"]["ownerReferences"][0]["controller"] == true
        })
        .await;
    }
    assert_eq!(children.iter().map(|path| uid(path)).collect::<Vec<_>>(), before);
    assert_eq!(
        api.get(DEPLOYMENT).unwrap()["spec"]["template"],
        template,
        "the pods would restart"
    );
}

async fn put_back_thrice(api: &FakeApi) -> Operator {
    let operator = ready(api).await;
    for _ in 0..3 {
        api.merge(DEPLOYMENT, json!({"spec": {"replicas": 4}}));
        api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 1)
            .await;
        operator.rest().await;
    }
    operator
}

#[tokio::test]
async fn an_autoscaler_on_the_deployment_is_not_fought_without_end_and_is_named() {
    let api = FakeApi::default();
    let operator = put_back_thrice(&api).await;
    api.forget_requests();
    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 4}}));
    let service = api
        .until(ORDER, |service| reason(service, "Warning") == "True/ReplicasContested")
        .await;
    let message = condition(&service, "Warning").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("target ResilientService order instead"), "{message}");
    operator.rest().await;
    assert_eq!(api.get(DEPLOYMENT).unwrap()["spec"]["replicas"], 4);
    // One apply that leaves the number as it is, for the hash of what is desired.
    assert!(deployment_writes(&api) <= 1, "{:?}", api.writes());
}

/// The replicas are left to somebody else.
async fn contested(api: &FakeApi) -> Operator {
    let operator = put_back_thrice(api).await;
    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 4}}));
    api.until(ORDER, |service| reason(service, "Warning") == "True/ReplicasContested")
        .await;
    operator.rest().await;
    operator
}

#[tokio::test(start_paused = true)]
async fn after_the_pause_the_replicas_are_put_back_once_to_see_whether_it_goes_on() {
    let api = FakeApi::default();
    let operator = contested(&api).await;
    api.forget_requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 1)
        .await;
    operator.rest().await;
    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 4}}));
    operator.rest().await;
    assert_eq!(api.get(DEPLOYMENT).unwrap()["spec"]["replicas"], 4, "it goes on");
    let service = api.get(ORDER).unwrap();
    assert_eq!(reason(&service, "Warning"), "True/ReplicasContested");
}

#[tokio::test]
async fn a_number_that_the_user_asks_for_meanwhile_is_applied() {
    let api = FakeApi::default();
    let _operator = contested(&api).await;
    api.merge(ORDER, json!({"spec": {"replicas": 20}}));
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 20)
        .await;
    api.until(ORDER, |service| {
        service["status"]["observedGeneration"] == 2 && condition(service, "Warning").is_none()
    })
    .await;
}

#[tokio::test]
async fn pods_of_a_paused_service_are_nudged_for_the_end_of_a_fault_alone() {
    let api = FakeApi::default();
    let mut paused = order();
    paused["spec"]["paused"] = json!(true);
    paused["spec"]["resilience"] = json!({});
    api.create(SERVICES, paused);
    api.create(
        "/api/v1/namespaces/shop/configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"policy.v1.json": "{}"}, "metadata": {
            "name": "order-policy", "labels": {"app.kubernetes.io/managed-by": "valerix", "resilience.valerix.io/service": "order"}}}),
    );
    one_ready_pod(&api, "order");
    let operator = Operator::start(&api);
    operator.ctx.reports.put("pod-of-order", old_report());
    operator.ctx.stores.services.triggers().trigger_all();
    api.until(ORDER, |service| reason(service, "Warning") == "True/Paused")
        .await;
    operator.rest().await;
    let writes = api.writes();
    assert!(
        writes
            .iter()
            .all(|write| write.ends_with("/resilientservices/order/status")),
        "{writes:?}"
    );
    // The experiment was stopped: its entry is gone from the map, and this pod still has it.
    let mut faulty = old_report();
    faulty.report.faults_hash = Some("entry".into());
    operator.ctx.reports.put("pod-of-order", faulty);
    operator.ctx.stores.services.triggers().trigger_all();
    api.until("/api/v1/namespaces/shop/pods/order-1", |pod| {
        pod["metadata"]["annotations"]["resilience.valerix.io/nudge"].is_string()
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_hangs_costs_one_wait_and_not_one_for_each_child() {
    let api = FakeApi::default();
    api.inject(|request| {
        let is_child = request.is_write() && !request.path.contains("/resilientservices/");
        is_child.then_some(Fault::Refuse(504))
    });
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    api.until(ORDER, |service| reason(service, "Ready") == "False/ApplyFailed")
        .await;
    let tried: std::collections::BTreeSet<String> = api
        .writes()
        .into_iter()
        .filter(|write| !write.contains("/resilientservices/"))
        .collect();
    assert_eq!(
        tried.into_iter().collect::<Vec<_>>(),
        ["PATCH /api/v1/namespaces/shop/serviceaccounts/order"]
    );
    drop(operator);
}
