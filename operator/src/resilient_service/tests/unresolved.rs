//! A target that no Service stands behind.

use super::*;

const KUBERNETES_SERVICES: &str = "/api/v1/namespaces/shop/services";

fn asked(api: &FakeApi, name: &str) -> usize {
    let path = format!("{KUBERNETES_SERVICES}/{name}");
    let requests = api.requests().into_iter();
    requests
        .filter(|request| !request.is_write() && request.path == path)
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_target_without_a_service_is_told_until_there_is_one_and_costs_a_request_a_minute() {
    let api = FakeApi::default();
    let mut service = order();
    service["spec"]["resilience"]["targets"] = json!([
        {"name": "stock", "url": "http://inventory.shop.svc"}, {"name": "mail", "url": "http://api.example.com"},
        {"name": "cache", "url": "http://redis:6379"}
    ]);
    api.create(
        KUBERNETES_SERVICES,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "redis"}, "spec": {"type": "ExternalName"}}),
    );
    api.create(SERVICES, service);
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    let told = api
        .until(ORDER, |order| reason(order, "Warning") == "True/TargetUnresolved")
        .await;
    let message = &condition(&told, "Warning").unwrap()["message"];
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("stock (Service inventory in namespace shop)"),
        "{message}"
    );
    assert!(!message.as_str().unwrap().contains("redis"), "{message}");
    assert_eq!(reason(&told, "Ready"), "True/AllPodsCurrent");

    let before = asked(&api, "inventory");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let asked_since = asked(&api, "inventory") - before;
    assert!((4..=5).contains(&asked_since), "{asked_since} in five minutes");
    // One that stands costs no more than what else there is to look at.
    assert!(asked(&api, "redis") <= asked(&api, "inventory"));

    // Neither an API server that does not say nor an operator that has just begun takes it back.
    let since = condition(&told, "Warning").unwrap()["lastTransitionTime"].clone();
    api.inject(|request| {
        let is_question = !request.is_write() && request.path.ends_with("/services/inventory");
        is_question.then_some(Fault::Refuse(503))
    });
    tokio::time::sleep(Duration::from_secs(200)).await;
    api.inject(|_| None);
    drop(operator);
    let operator = Operator::start(&api);
    operator.rest().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let told = api.get(ORDER).unwrap();
    assert_eq!(reason(&told, "Warning"), "True/TargetUnresolved");
    assert_eq!(condition(&told, "Warning").unwrap()["lastTransitionTime"], since);

    api.create(
        KUBERNETES_SERVICES,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "inventory"}, "spec": {"clusterIP": "None"}}),
    );
    api.until(ORDER, |order| condition(order, "Warning").is_none()).await;
    operator.rest().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    api.forget_requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let at_rest = api.requests().into_iter().filter(|request| !request.is_watch());
    assert_eq!(at_rest.count(), 0, "at rest");
}
