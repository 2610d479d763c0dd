//! What an uninstall does on the wire before the operator goes.

use super::*;

fn removal(seconds: u64) -> drain::Removal<'static> {
    drain::Removal {
        namespace: "valerix-system",
        deployment: None,
        timeout: Duration::from_secs(seconds),
    }
}

#[tokio::test]
async fn drain_ends_what_runs_keeps_the_experiments_and_lifts_the_stop() {
    let shop = Shop::open();
    let clients = Clients::single(shop.api.client());
    let _operator = shop.operator();
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    drain::drain(&clients, &[Scope::Cluster], removal(15)).await.unwrap();
    let status = shop.api.get(EXPERIMENT).unwrap()["status"].clone();
    assert_eq!(
        (&status["verdict"], &status["reason"]),
        (&json!("Stopped"), &json!("SafetyLever"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("the operator is being removed")
    );
    assert_eq!((shop.entries(), shop.api.get(SAFETY)), (0, None));
}

#[tokio::test]
async fn drain_names_what_it_could_not_end_and_leaves_somebody_elses_order() {
    let shop = Shop::open();
    let operator = shop.operator();
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    // Nobody is there to recover it.
    drop(operator);
    let clients = Clients::single(shop.api.client());
    let error = drain::drain(&clients, &[Scope::Cluster], removal(1)).await.unwrap_err();
    assert!(error.to_string().contains("shop/test (Running)"), "{error}");
    let order = shop.api.get(SAFETY).unwrap();
    assert_eq!(order["data"]["stop"], json!("true"), "what runs is still to be stopped");

    shop.api.merge(SAFETY, json!({"data": {"reason": "incident 7"}}));
    let _operator = shop.operator();
    drain::drain(&clients, &[Scope::Cluster], removal(15)).await.unwrap();
    assert_eq!(
        shop.api.get(SAFETY).unwrap()["data"]["reason"],
        json!("incident 7"),
        "it was not ours to lift"
    );
}

#[tokio::test]
async fn drain_lifts_the_stop_only_when_the_operator_has_ended() {
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/valerix-system/deployments";
    const PODS: &str = "/api/v1/namespaces/valerix-system/pods";
    let deployment = format!("{DEPLOYMENTS}/valerix-operator");
    let shop = Shop::open();
    let clients = Clients::single(shop.api.client());
    let labels = json!({"app.kubernetes.io/name": "valerix-operator"});
    shop.api.create(
        DEPLOYMENTS,
        json!({"metadata": {"name": "valerix-operator"},
               "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {}}}),
    );
    shop.api.create(
        PODS,
        json!({"metadata": {"name": "valerix-operator-1", "labels": labels}}),
    );
    let removal = |seconds| drain::Removal {
        deployment: Some("valerix-operator"),
        ..removal(seconds)
    };
    let error = drain::drain(&clients, &[Scope::Cluster], removal(1)).await.unwrap_err();
    assert!(error.to_string().contains("pods of it are left"), "{error}");
    assert_eq!(shop.api.get(&deployment).unwrap()["spec"]["replicas"], json!(0));
    assert_eq!(
        shop.api.get(SAFETY).unwrap()["data"]["stop"],
        json!("true"),
        "a pod that is still there must start nothing"
    );

    shop.api.delete(&format!("{PODS}/valerix-operator-1"));
    drain::drain(&clients, &[Scope::Cluster], removal(5)).await.unwrap();
    assert_eq!(shop.api.get(SAFETY), None);
}

#[tokio::test]
async fn drain_gives_back_what_stood_there_before_though_it_failed_once() {
    let shop = Shop::open();
    let operator = shop.operator();
    let data = json!({"stop": "false", "reason": "none since incident 6"});
    shop.api.create(
        SAFETY.trim_end_matches("/valerix-safety"),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "valerix-safety"}, "data": data}),
    );
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    drop(operator);
    let clients = Clients::single(shop.api.client());
    drain::drain(&clients, &[Scope::Cluster], removal(1)).await.unwrap_err();
    assert_eq!(shop.api.get(SAFETY).unwrap()["data"]["stop"], json!("true"));

    let _operator = shop.operator();
    drain::drain(&clients, &[Scope::Cluster], removal(15)).await.unwrap();
    let left = shop.api.get(SAFETY).unwrap();
    assert_eq!(left["data"], data);
    let annotations = left["metadata"]["annotations"].as_object();
    assert!(annotations.is_none_or(serde_json::Map::is_empty), "{left:#}");
}
