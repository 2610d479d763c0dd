//! Something wrong between two times that all was right: the children stay as they are, and the way back leads to them.

use super::*;

/// What the operator refuses although the schema accepts it, with the field that it names.
fn refusals() -> Vec<(Value, &'static str)> {
    let port = |name: &str, number: i32| json!({"name": name, "containerPort": number});
    vec![
        (
            json!({"ports": [port("a", 1), port("b", 1)]}),
            "spec.ports[1].containerPort",
        ),
        (
            json!({"probes": {"readiness": {"path": "/", "port": "nowhere"}}}),
            "spec.probes.readiness.port",
        ),
        (
            json!({"resources": {"requests": {"gpu": 1}}}),
            "spec.resources.requests.gpu",
        ),
        (
            json!({"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}),
            "spec.resources.requests.cpu",
        ),
        (
            json!({"volumes": [{"name": "policy", "emptyDir": {}}]}),
            "spec.volumes[0].name",
        ),
        (
            json!({"volumes": [{"name": "a", "emptyDirr": {}}]}),
            "spec.volumes[0].emptyDirr",
        ),
        (
            json!({"volumeMounts": [{"name": "none", "mountPath": "/a"}]}),
            "spec.volumeMounts[0].name",
        ),
        (json!({"podOverrides": {"volumes": []}}), "spec.podOverrides.volumes"),
        (
            json!({"podOverrides": {"containers": [{"name": "order", "image": "b"}]}}),
            "spec.podOverrides.containers[0].image",
        ),
        (
            json!({"initContainers": [{"name": "order", "image": "a"}]}),
            "spec.initContainers[0].name",
        ),
        (json!({"affinity": {"nodeAfinity": {}}}), "spec.affinity.nodeAfinity"),
        (json!({"strategy": {"maxSurge": 0}}), "spec.strategy.maxSurge"),
        (
            json!({"autoscaling": {"maxReplicas": 2}, "resources": null}),
            "spec.autoscaling.targetCPUUtilizationPercentage",
        ),
        (
            json!({"networkPolicy": {"egressTo": [{"podSelektor": {}}]}}),
            "spec.networkPolicy.egressTo[0].podSelektor",
        ),
        (
            json!({"resilience": {"targets": [{"name": "a", "url": "http://a:0"}]}}),
            "spec.resilience.targets[0].url",
        ),
        (json!({"podLabels": {"a b": "c"}}), "spec.podLabels"),
        (
            json!({"guard": {"mode": "Sidecar"}, "resilience": null}),
            "spec.guard.image",
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_named_and_changes_nothing_and_the_way_back_is_open() {
    let api = FakeApi::default();
    with_monitors(&api);
    let good = with_every_child()["spec"].clone();
    write(&api, &good);
    let _operator = Operator::start(&api);
    settle(&api, SHORT_REST).await;
    let before = state(&api);
    for (change, field) in refusals() {
        let mut wrong = good.clone();
        json_patch::merge(&mut wrong, &change);
        write(&api, &wrong);
        settle(&api, SHORT_REST).await;
        let service = api.get(ORDER).unwrap();
        assert_eq!(reason(&service, "Ready"), "False/InvalidSpec", "{change}");
        assert_eq!(
            service["status"]["observedGeneration"], service["metadata"]["generation"],
            "{change}"
        );
        let message = condition(&service, "Ready").unwrap()["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("{field}: ")) && message.contains("; "),
            "{field}: {message}"
        );
        assert_eq!(state(&api), before, "{change}");
        write(&api, &good);
        settle(&api, SHORT_REST).await;
        assert_eq!(state(&api), before, "after {change}");
        assert!(
            !reason(&api.get(ORDER).unwrap(), "Ready").contains("InvalidSpec"),
            "after {change}"
        );
    }
}

/// An API server with an older schema, or none, lets pass what the operator cannot read.
#[tokio::test(start_paused = true)]
async fn every_leaf_may_be_unreadable_for_a_while() {
    let api = FakeApi::default();
    with_monitors(&api);
    let good = fixtures::full_spec();
    write(&api, &good);
    let operator = Operator::start(&api);
    settle(&api, SHORT_REST).await;
    let before = state(&api);
    let mut paths = Vec::new();
    leaves(&good, "", &mut paths);
    assert!(paths.len() > 120, "{}", paths.len());
    let unreadable = || {
        operator
            .ctx
            .runtime
            .metrics
            .invalid_objects
            .with_label_values(&["resilientservices"])
            .get()
    };
    let mut told = 0;
    for path in &paths {
        let mut wrong = good.clone();
        *wrong.pointer_mut(path).unwrap() = json!({"wrong": [true]});
        let count = unreadable();
        write(&api, &wrong);
        settle(&api, SHORT_REST).await;
        let service = api.get(ORDER).unwrap();
        // What is written as in Kubernetes can be kept, and is refused by the operator.
        let is_told = unreadable() > count || reason(&service, "Ready") == "False/InvalidSpec";
        assert!(is_told, "nobody is told that {path} is wrong: {}", service["status"]);
        told += 1;
        assert_eq!(state(&api), before, "{path}");
        write(&api, &good);
        settle(&api, SHORT_REST).await;
        assert_eq!(state(&api), before, "after {path}");
    }
    assert_eq!(told, paths.len());
    let mut changed = good;
    changed["replicas"] = json!(5);
    changed["autoscaling"] = json!(null);
    changed.as_object_mut().unwrap().remove("autoscaling");
    write(&api, &changed);
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 5)
        .await;
}
