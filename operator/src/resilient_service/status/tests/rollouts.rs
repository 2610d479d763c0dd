//! What Kubernetes says of the pods as a set.

use super::*;

#[test]
fn scaled_to_zero_is_ready() {
    let service = service(spec(0));
    let status = judge(&service, &seen(0, 0, vec![]));
    assert_eq!(
        table(&status),
        [
            "Ready=True/ScaledToZero",
            "Available=True/ScaledToZero",
            "Progressing=False/RolloutComplete",
            "ConfigApplied=True/ScaledToZero",
            "CircuitsClosed=Unknown/NoReports",
            "ResourcesReady=True/AllApplied",
        ]
    );
    assert_eq!(status.summary.unwrap().replicas, "0/0");
}

#[test]
fn available_needs_ready_pods_that_kubernetes_counts_and_has_seen() {
    let service = service(spec(2));
    let current = || Some(json!({"policy": {"hash": hash(&service)}}));
    let both = || vec![pod(1, current()), pod(2, current())];
    let mut unseen = seen(2, 2, both());
    let mut newer = Deployment::clone(&unseen.children.deployments[0]);
    newer.metadata.generation = Some(2);
    unseen.children.deployments = vec![Arc::new(newer)];
    for (observed, expected) in [
        (seen(2, 2, both()), "True/MinimumReplicasAvailable"),
        (seen(2, 2, vec![pod(1, current())]), "False/WaitingForPods"),
        (seen(2, 1, both()), "False/WaitingForPods"),
    ] {
        assert_eq!(shown(&judge(&service, &observed), "Available"), expected);
    }
    let status = judge(&service, &unseen);
    for kind in ["Available", "Ready"] {
        assert_eq!(shown(&status, kind), "False/RollingOut");
        assert_eq!(
            find_condition(&status.conditions, kind).unwrap().message,
            "2 of 2 pods are ready; Kubernetes has not begun to roll the newest Deployment out"
        );
    }
}

#[test]
fn a_template_that_kubernetes_has_not_seen_proves_nothing() {
    let service = service(json!({"image": "redis", "replicas": 1, "resilience": {"protocol": "None"}}));
    let mut observed = seen(1, 1, vec![pod(1, None)]);
    let mut newer = Deployment::clone(&observed.children.deployments[0]);
    newer.metadata.generation = Some(2);
    observed.children.deployments = vec![Arc::new(newer)];
    assert_eq!(
        shown(&judge(&service, &observed), "ConfigApplied"),
        "False/WaitingForPods"
    );
}

#[test]
fn a_rollout_is_judged_after_our_own_writing_is_seen() {
    let service = service(spec(1));
    let current = Some(json!({"policy": {"hash": hash(&service)}}));
    let observed = seen(1, 1, vec![pod(1, current)]);
    let progressing =
        |observed: &Observed, work: &Work| shown(&status(&service, observed, work, now()).status, "Progressing");
    let (written, other) = (
        with_outcome(&service, "Deployment", Applied::Updated),
        with_outcome(&service, "ConfigMap", Applied::Updated),
    );
    assert_eq!(progressing(&observed, &written), "True/RollingOut");
    assert_eq!(progressing(&observed, &other), "False/RolloutComplete");
    let mut given_up = observed;
    let mut deployment = Deployment::clone(&given_up.children.deployments[0]);
    let condition = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
    deployment.status.as_mut().unwrap().conditions = serde_json::from_value(json!([condition])).unwrap();
    given_up.children.deployments = vec![Arc::new(deployment.clone())];
    assert_eq!(progressing(&given_up, &other), "False/ProgressDeadlineExceeded");
    assert_eq!(progressing(&given_up, &written), "True/RollingOut");
    deployment.metadata.generation = Some(2);
    given_up.children.deployments = vec![Arc::new(deployment)];
    assert_eq!(progressing(&given_up, &other), "True/RollingOut");

    let terminating = with_outcome(&service, "Service", Applied::Terminating);
    let status = status(&service, &given_up, &terminating, now()).status;
    assert_eq!(shown(&status, "ResourcesReady"), "False/Terminating");
    assert_eq!(
        shown(&status, "Ready"),
        "False/Terminating",
        "the cause comes before its effects"
    );
}

#[test]
fn a_paused_service_without_its_deployment_is_not_whole_and_its_pods_are_judged_by_what_they_read() {
    let service = service(json!({"image": "a", "replicas": 1, "paused": true}));
    let nothing = status(&service, &Observed::default(), &Work::Paused, now()).status;
    assert_eq!(shown(&nothing, "ResourcesReady"), "False/Paused");
    assert_eq!(shown(&nothing, "ConfigApplied"), "Unknown/NotBuilt");
    let live = valerix_policy::hash(b"{}");
    let mut observed = seen(1, 1, vec![pod(1, Some(json!({"policy": {"hash": live}})))]);
    observed.children.config_maps = vec![Arc::new(
        serde_json::from_value::<ConfigMap>(
            json!({"metadata": {"name": "order-policy"}, "data": {"policy.v1.json": "{}"}}),
        )
        .unwrap(),
    )];
    let paused = status(&service, &observed, &Work::Paused, now()).status;
    assert_eq!(shown(&paused, "ResourcesReady"), "True/Paused");
    assert_eq!(shown(&paused, "ConfigApplied"), "True/AllPodsCurrent");
}
