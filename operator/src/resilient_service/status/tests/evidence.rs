//! What is shown rests on what is known now: fresh answers, and pods of the current template.

use super::*;
use k8s_openapi::api::core::v1::Pod;
use valerix_crds::CircuitBreakerStatus;

fn silent_for(seconds: i64, pod: (String, ReadyPod)) -> (String, ReadyPod) {
    let (uid, mut pod) = pod;
    pod.contact = Contact {
        answered_at: Some(now() - chrono::TimeDelta::seconds(seconds)),
        failing: Some(Failing {
            since: now(),
            error: "refused".into(),
        }),
    };
    (uid, pod)
}

fn message<'a>(status: &'a ResilientServiceStatus, kind: &str) -> &'a str {
    &find_condition(&status.conditions, kind).unwrap().message
}

#[test]
fn nothing_counts_that_a_pod_said_before_it_fell_silent_for_good() {
    let service = service(spec(2));
    let says = |state: &str| {
        Some(
            json!({"policy": {"hash": hash(&service), "ignoredFields": ["x"]}, "circuitBreakers": [
            {"target": "inventory", "state": state}], "faults": [{"run": "r", "type": "Latency", "state": "Active"}]}),
        )
    };
    let faults = json!({"version": 1, "faults": [{"run": "r", "fault": {"latency": {"delay": "1s"}}, "podUIDs": ["uid-1"],
        "duration": "60s", "notAfter": now(), "intentAt": now()}]});
    let judged = |silent: i64, first: &str, second: &str| {
        let pods = vec![pod(1, says(first)), silent_for(silent, pod(2, says(second)))];
        let mut observed = seen(2, 2, pods);
        let map = json!({"metadata": {"name": "order-policy"}, "data": {"faults.json": faults.to_string()}});
        observed.children.config_maps = vec![Arc::new(serde_json::from_value::<ConfigMap>(map).unwrap())];
        status(&service, &observed, &work(&service), now())
    };
    let heard = judged(239, "Closed", "Closed");
    assert_eq!(shown(&heard.status, "CircuitsClosed"), "True/AllClosed");
    assert_eq!(
        heard.look_again,
        Some(Duration::from_secs(1)),
        "silence becomes Unknown by the clock alone"
    );
    assert_eq!(heard.status.active_faults[0].pods, 2);
    let unheard = judged(240, "Closed", "Closed").status;
    assert_eq!(shown(&unheard, "CircuitsClosed"), "Unknown/PodUnreachable");
    assert_eq!(
        message(&unheard, "CircuitsClosed"),
        "no circuit is open in 1 pods; pod order-2 does not answer"
    );
    assert_eq!(shown(&unheard, "ConfigApplied"), "Unknown/PodUnreachable");
    assert_eq!(
        (unheard.circuit_breakers[0].closed, unheard.active_faults[0].pods),
        (1, 1)
    );
    assert_eq!(unheard.summary.as_ref().unwrap().circuits, "unknown");
    // What one pod sees is so, whoever else is silent; what the silent one saw is not news of today.
    assert_eq!(
        shown(&judged(240, "Open", "Closed").status, "CircuitsClosed"),
        "False/CircuitOpen"
    );
    assert_eq!(
        shown(&judged(240, "Closed", "Open").status, "CircuitsClosed"),
        "Unknown/PodUnreachable"
    );
    // A circuit that is out of sight has not closed.
    let mut open = judged(0, "Closed", "Open").status;
    let mut gone = unheard.clone();
    for status in [&mut open, &mut gone] {
        status.config = None;
        status.conditions.clear();
    }
    gone.circuit_breakers[0] = CircuitBreakerStatus {
        closed: 0,
        ..gone.circuit_breakers[0].clone()
    };
    assert_eq!(news(&open, &gone), []);
}

#[test]
fn that_all_circuits_are_closed_takes_an_answer_of_every_pod() {
    let service = service(spec(3));
    let closed = || {
        Some(
            json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [{"target": "inventory", "state": "Closed"}]}),
        )
    };
    let failing_for = |seconds: i64| {
        let (uid, mut silent) = pod(3, None);
        silent.contact.failing = Some(Failing {
            since: now() - chrono::TimeDelta::seconds(seconds),
            error: "no answer in time".into(),
        });
        let pods = vec![pod(1, closed()), pod(2, closed()), (uid, silent)];
        judge(&service, &seen(3, 3, pods))
    };
    // The operator was restarted: it never heard of that pod, which may refuse every call.
    for (seconds, reason, why) in [
        (239, "NoReports", "has not reported yet"),
        (240, "PodUnreachable", "does not answer"),
    ] {
        let status = failing_for(seconds);
        assert_eq!(shown(&status, "CircuitsClosed"), format!("Unknown/{reason}"));
        assert_eq!(
            message(&status, "CircuitsClosed"),
            format!("no circuit is open in 2 pods; pod order-3 {why}")
        );
        assert_eq!(status.summary.as_ref().unwrap().circuits, "unknown");
    }
}

#[test]
fn a_pod_that_lags_and_does_not_answer_is_told_with_its_error() {
    let service = service(spec(1));
    let lagging = silent_for(5, pod(1, Some(json!({"policy": {"hash": "old"}}))));
    let status = judge(&service, &seen(1, 1, vec![lagging]));
    let text = message(&status, "ConfigApplied");
    assert!(
        text.ends_with("pod order-1 still runs another one as far as it was heard: refused"),
        "{text}"
    );
}

/// The rollout of an image that cannot be pulled, beside a pod of before that serves.
fn stuck(pods: Vec<(String, ReadyPod)>) -> Observed {
    let mut observed = seen(2, 1, pods);
    let mut deployment = Deployment::clone(&observed.children.deployments[0]);
    deployment.metadata.annotations = Some([("deployment.kubernetes.io/revision".to_owned(), "2".to_owned())].into());
    deployment.status.as_mut().unwrap().updated_replicas = Some(1);
    observed.children.deployments = vec![Arc::new(deployment)];
    observed.replica_sets = vec![replica_set("one", "1"), replica_set("two", "2")];
    let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "nope: not found"}});
    let new: Pod = serde_json::from_value(json!({
        "metadata": {"name": "order-new", "labels": {"pod-template-hash": "two"}},
        "status": {"containerStatuses": [{
            "name": "order", "image": "order:nope", "imageID": "", "ready": false, "restartCount": 0, "state": waiting
        }]}
    }))
    .unwrap();
    observed.pods = vec![Arc::new(new)];
    observed
}

#[test]
fn a_new_image_that_cannot_be_pulled_is_not_ready_whatever_serves_meanwhile() {
    let reporting = service(spec(1));
    let current = Some(json!({"policy": {"hash": hash(&reporting)}}));
    let silent = service(json!({"image": "redis", "replicas": 1, "resilience": {"protocol": "None"}}));
    for (service, pod) in [(&reporting, pod(1, current)), (&silent, pod(1, None))] {
        let mut observed = stuck(vec![pod]);
        let status = judge(service, &observed);
        assert_eq!(shown(&status, "Available"), "True/MinimumReplicasAvailable");
        assert_eq!(shown(&status, "Ready"), "False/ImagePullFailed");
        let text = message(&status, "Ready");
        assert!(
            text.contains("image order:nope cannot be pulled (nope: not found)"),
            "{text}"
        );
        assert_eq!(shown(&status, "Progressing"), "True/RollingOut");
        // Kubernetes gives up: the cause stands beside its words.
        let mut deployment = Deployment::clone(&observed.children.deployments[0]);
        let condition = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"});
        deployment.status.as_mut().unwrap().conditions = serde_json::from_value(json!([condition])).unwrap();
        observed.children.deployments = vec![Arc::new(deployment)];
        let status = judge(service, &observed);
        assert_eq!(shown(&status, "Ready"), "False/ProgressDeadlineExceeded");
        assert_eq!(shown(&status, "Stalled"), "True/ProgressDeadlineExceeded");
        assert!(
            message(&status, "Stalled").contains("timed out; pod order-new waits"),
            "{status:?}"
        );
    }
    let status = judge(&silent, &stuck(vec![pod(1, None)]));
    assert_eq!(
        shown(&status, "ConfigApplied"),
        "False/WaitingForPods",
        "the ready pod is of before"
    );
    assert_eq!(status.config.unwrap().applied_replicas, 0);
}

#[test]
fn a_pod_that_goes_begins_no_rollout() {
    let service = service(spec(2));
    let current = Some(json!({"policy": {"hash": hash(&service)}}));
    let mut observed = seen(2, 1, vec![pod(1, current)]);
    let status = judge(&service, &observed);
    assert_eq!(shown(&status, "Progressing"), "False/RolloutComplete");
    assert_eq!(shown(&status, "Ready"), "False/WaitingForPods");
    // The slices know of the new pod a moment before the Deployment does.
    let both = || vec![pod(1, Some(json!({"policy": {"hash": hash(&service)}}))), pod(2, None)];
    observed.ready_pods = both().into_iter().collect();
    assert_eq!(message(&judge(&service, &observed), "Ready"), "1 of 2 pods are ready");
}

#[test]
fn what_the_api_server_refuses_for_what_it_says_is_stalled() {
    let service = service(spec(1));
    let refused = |code: u16, reason: &str| {
        let status = kube::core::Status::failure("Deployment order is invalid", reason).with_code(code);
        let error = crate::runtime::apply::Error::Api {
            action: "apply",
            kind: "Deployment".into(),
            name: "order".into(),
            source: Box::new(kube::Error::Api(status.boxed())),
        };
        let work = Work::Applied {
            plan: Box::new(validate(&service, 1, "").unwrap()),
            applied: ChildResults {
                awaits_turn: false,
                children: vec![ChildResult {
                    kind: "Deployment".into(),
                    name: "order".into(),
                    result: Err(error),
                }],
            },
        };
        super::status(&service, &seen(1, 0, vec![]), &work, now()).status
    };
    let invalid = refused(422, "Invalid");
    assert_eq!(shown(&invalid, "Stalled"), "True/ApplyFailed");
    assert_eq!(
        message(&invalid, "Ready"),
        "failed to apply Deployment order: Deployment order is invalid"
    );
    assert_eq!(shown(&refused(503, "ServiceUnavailable"), "Stalled"), "");
}

#[test]
fn replicas_that_somebody_else_sets_and_shares_that_are_too_small_are_warned_of() {
    let limited = service(
        json!({"image": "a", "replicas": 6, "resilience": {"inbound": {"rateLimit": {"rules": [
            {"name": "all", "scope": "Service", "requests": 119, "window": "1s"},
            {"name": "enough", "scope": "Service", "requests": 120, "window": "1s"},
            {"name": "own", "requests": 1, "window": "1s"}
        ]}}}}),
    );
    let status = judge(&limited, &seen(6, 6, vec![]));
    assert_eq!(shown(&status, "Warning"), "True/SmallShares");
    assert!(
        message(&status, "Warning").contains("are not fair: all; use scope Distributed"),
        "{status:?}"
    );
    let remembered = Remembered {
        yields_replicas: true,
        ..Remembered::default()
    };
    let status = super::super::status(&limited, &seen(6, 6, vec![]), &work(&limited), remembered, now()).status;
    assert_eq!(shown(&status, "Warning"), "True/ReplicasContested");
    let text = message(&status, "Warning");
    assert!(text.contains("target ResilientService order instead"), "{text}");
}
