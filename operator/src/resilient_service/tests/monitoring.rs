//! ServiceMonitors, whose kind comes and goes with the Prometheus operator.

use super::*;
use futures::FutureExt;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servicemonitors.monitoring.coreos.com";
const MONITOR: &str = "/apis/monitoring.coreos.com/v1/namespaces/shop/servicemonitors/order";

fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"}})
}

/// One whose metrics somebody may ask for.
fn scraped() -> Value {
    let mut service = order();
    service["spec"]["monitoring"] = json!({"port": "http", "interval": "1m"});
    service
}

fn asked_for_monitors(api: &FakeApi) -> Vec<String> {
    let requests = api.requests().into_iter();
    let of_monitors = requests.filter(|request| request.path.contains("monitoring.coreos.com/v1"));
    of_monitors
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

async fn until_gone(api: &FakeApi, path: &str) {
    let gone = tokio::time::timeout(Duration::from_secs(60), async {
        while api.get(path).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.unwrap_or_else(|_| panic!("{path} stays"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_kind_is_asked_nothing_and_one_that_gets_it_gets_the_monitor() {
    let api = FakeApi::default();
    // Of a kind with a similar name.
    let mut another = definition();
    another["metadata"]["name"] = json!("podmonitors.monitoring.coreos.com");
    api.create(DEFINITIONS, another);
    api.create(SERVICES, scraped());
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    let service = api
        .until(ORDER, |order| reason(order, "Ready").starts_with("True"))
        .await;
    assert_eq!(reason(&service, "ResourcesReady"), "True/AllApplied");
    operator.rest().await;
    assert_eq!(asked_for_monitors(&api), Vec::<String>::new());
    assert!(
        operator
            .ctx
            .runtime
            .readiness
            .full(&Scope::Cluster)
            .now_or_never()
            .is_some()
    );

    api.create(DEFINITIONS, definition());
    let monitor = api.until(MONITOR, |_| true).await;
    let asked = monitor["spec"]["endpoints"].clone();
    for (field, value) in [("port", "http"), ("path", "/metrics"), ("interval", "60s")] {
        assert_eq!(asked[0][field], value);
    }
    let chosen = json!({"resilience.valerix.io/service": "order", "resilience.valerix.io/headless": "true"});
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], chosen);
    operator.rest().await;
    api.forget_requests();
    let edited = json!([{"port": "http", "path": "/else", "interval": "60s"}]);
    api.merge(MONITOR, json!({"spec": {"endpoints": edited}}));
    api.until(MONITOR, |monitor| monitor["spec"]["endpoints"] == asked)
        .await;
    operator.rest().await;
    assert_eq!(api.writes(), [format!("PATCH {MONITOR}")], "put back, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_goes_takes_nothing_with_it_and_may_come_back() {
    let api = FakeApi::default();
    api.create(DEFINITIONS, definition());
    api.create(SERVICES, scraped());
    let operator = Operator::start(&api);
    api.until(MONITOR, |_| true).await;
    operator.rest().await;
    // As Kubernetes does it: the definition is marked, its objects go, then itself.
    api.merge(
        DEFINITION,
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    operator.rest().await;
    api.forget_requests();
    api.delete(MONITOR);
    operator.rest().await;
    assert_eq!(api.get(MONITOR), None, "it was made again while its kind goes");
    api.delete(DEFINITION);
    operator.rest().await;
    assert_eq!(asked_for_monitors(&api), Vec::<String>::new());
    api.merge(ORDER, json!({"spec": {"image": "order:2"}}));
    api.until(DEPLOYMENT, |deployment| deployment.to_string().contains("order:2"))
        .await;
    operator.rest().await;
    assert_eq!(reason(&api.get(ORDER).unwrap(), "ResourcesReady"), "True/AllApplied");
    api.create(DEFINITIONS, definition());
    api.until(MONITOR, |_| true).await;

    api.merge(ORDER, json!({"spec": {"monitoring": null}}));
    until_gone(&api, MONITOR).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_definitions_works_without_monitors() {
    let api = FakeApi::default();
    api.create(DEFINITIONS, definition());
    api.create(SERVICES, scraped());
    api.inject(|request| {
        request
            .path
            .contains("customresourcedefinitions")
            .then_some(Fault::Refuse(403))
    });
    let _operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    assert_eq!(asked_for_monitors(&api), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_prometheus_that_cannot_use_the_monitor_is_named() {
    let api = FakeApi::default();
    api.create(DEFINITIONS, definition());
    api.create(SERVICES, scraped());
    let _operator = Operator::start(&api);
    api.until(MONITOR, |_| true).await;
    let accepted = |status: &str| {
        json!({"status": {"bindings": [{"group": "monitoring.coreos.com", "resource": "prometheuses", "name": "main", "namespace": "watch",
            "conditions": [{"type": "Accepted", "status": status, "message": "no such port"}]}]}})
    };
    api.merge(MONITOR, accepted("False"));
    let warned = api
        .until(ORDER, |order| reason(order, "Warning") == "True/MonitorRejected")
        .await;
    let message = condition(&warned, "Warning").unwrap()["message"].as_str().unwrap();
    assert!(
        message.starts_with("Prometheus watch/main does not take the ServiceMonitor: no such port"),
        "{message}"
    );
    api.merge(MONITOR, accepted("True"));
    api.until(ORDER, |order| condition(order, "Warning").is_none()).await;
}
