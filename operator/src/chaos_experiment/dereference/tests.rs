use super::*;
use serde_json::json;

fn pod(value: serde_json::Value) -> PodView {
    pod_view(&serde_json::from_value(value).unwrap())
}

#[test]
fn a_pod_tells_whether_and_by_whom_it_is_removed() {
    let evicted = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": "2026-11-21T10:00:01Z"});
    let preempted = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "lastTransitionTime": "2026-11-21T10:00:01Z"});
    let ready = json!({"type": "Ready", "status": "True"});
    let meta = json!({"name": "a", "uid": "u", "creationTimestamp": "2026-11-21T09:00:00Z"});
    let mut going = meta.clone();
    going["deletionTimestamp"] = json!("2026-11-21T10:00:31Z");
    going["deletionGracePeriodSeconds"] = json!(30);
    let asked_for = Removal::Deleted("2026-11-21T10:00:01Z".parse().unwrap());
    for (metadata, conditions, expected) in [
        (&meta, vec![&ready], Removal::None),
        (&meta, vec![&ready, &evicted], Removal::None),
        (
            &going,
            vec![&ready, &evicted],
            Removal::Evicted("2026-11-21T10:00:01Z".parse().unwrap()),
        ),
        (&going, vec![&preempted], asked_for),
        (&going, vec![], asked_for),
    ] {
        let view = pod(json!({"metadata": metadata, "status": {"conditions": conditions}}));
        assert_eq!((view.removal, view.ready), (expected, conditions.contains(&&ready)));
    }
    let over = |second: u8| {
        json!({"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 1,
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T09:30:00Z"}},
        "state": {"terminated": {"exitCode": 137, "finishedAt": format!("2026-11-21T10:00:0{second}Z")}}})
    };
    let failed = json!({"phase": "Failed", "containerStatuses": [over(1), over(0)]});
    assert_eq!(pod(json!({"metadata": meta, "status": failed})).removal, asked_for);
    assert!(matches!(
        pod(json!({"metadata": meta, "status": {"phase": "Failed"}})).removal,
        Removal::Deleted(_)
    ));
}

#[test]
fn a_pod_tells_when_a_process_of_it_ended_and_its_slice_in_which_zone_it_is() {
    let ended = |time: &str| json!({"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 1, "lastState": {"terminated": {"exitCode": 134, "finishedAt": time}}});
    let view = pod(
        json!({"metadata": {"name": "a", "uid": "u"}, "status": {"containerStatuses": [
            ended("2026-11-21T10:00:01Z"), ended("2026-11-21T10:00:03Z"),
        ]}}),
    );
    assert_eq!(view.process_ended_at, Some("2026-11-21T10:00:03Z".parse().unwrap()));
    for state in [
        json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        json!({"terminated": {"exitCode": 134, "finishedAt": "2026-11-21T10:00:09Z"}}),
    ] {
        let mut next = ended("2026-11-21T10:00:03Z");
        next["state"] = state;
        let status = json!({"containerStatuses": [next]});
        let view = pod(json!({"metadata": {"name": "a", "uid": "u"}, "status": status}));
        assert_eq!(view.process_ended_at, None, "it has ended once more since");
    }
    let slice: EndpointSlice = serde_json::from_value(json!({"addressType": "IPv4", "endpoints": [
        {"addresses": ["10.0.0.1"], "zone": "west-1", "targetRef": {"uid": "u"}},
        {"addresses": ["10.0.0.2"], "zone": "west-2"},
    ]}))
    .unwrap();
    let other = PodView {
        uid: "v".into(),
        ..view.clone()
    };
    let zones = in_zones([view, other].into_iter(), [&slice].into_iter());
    assert_eq!(
        (zones[0].zone.as_deref(), zones[1].zone.as_deref()),
        (Some("west-1"), None)
    );
}

#[test]
fn who_hurts_the_same_target_or_lets_it_recover_is_under_way() {
    let experiment = |name: &str, target: &str, phase: Option<&str>| -> Arc<ChaosExperiment> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
                "metadata": {"name": name, "uid": format!("{name}-uid")},
                "spec": {"target": {"service": target}, "latency": {"delay": "1s"}},
                "status": {"phase": phase},
            }))
            .unwrap(),
        )
    };
    let own = experiment("own", "inventory", Some("Running"));
    for (name, target, phase, expected) in [
        ("other", "inventory", Some("Running"), true),
        ("other", "inventory", Some("Recovering"), true),
        ("other", "inventory", Some("Pending"), false),
        ("other", "inventory", Some("Completed"), false),
        ("other", "inventory", Some("Failed"), false),
        ("other", "inventory", None, false),
        ("other", "order", Some("Running"), false),
        ("other", "order", Some("Recovering"), false),
        ("own", "inventory", Some("Recovering"), false),
    ] {
        let quiet = experiment("quiet", "inventory", Some("Pending"));
        let all = vec![own.clone(), quiet, experiment(name, target, phase)];
        let found = under_way(&on_same_target(all, &own));
        assert_eq!(
            found.as_deref(),
            expected.then_some("other"),
            "{name} on {target}: {phase:?}"
        );
    }
}

#[test]
fn who_has_hurt_the_target_and_is_not_judged_is_known_and_when_its_fault_ended() {
    let experiment = |status: serde_json::Value| -> Arc<ChaosExperiment> {
        let own = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
            "metadata": {"name": "other", "uid": "other-uid"},
            "spec": {"target": {"service": "inventory"}, "latency": {"delay": "1s"}}, "status": status,
        });
        Arc::new(serde_json::from_value(own).unwrap())
    };
    let target = |at: Option<&str>| json!([{"pod": "a", "uid": "u", "state": "Recovered", "activeAt": at}]);
    let hurt = Some("2026-11-21T10:00:00Z");
    for (phase, targets, expected) in [
        ("Recovering", target(hurt), true),
        ("Recovering", target(None), false),
        ("Running", target(hurt), false),
        ("Completed", target(hurt), false),
    ] {
        let other = experiment(json!({"phase": phase, "targets": targets}));
        assert_eq!(unjudged(&[other]).is_some(), expected, "{phase} {targets}");
    }

    // A run that hurt nobody came after the one that did.
    let past = |run: &str, at: &str, targets: serde_json::Value| json!({"run": run, "type": "Latency", "at": at, "verdict": "Error", "reason": "x", "targets": targets});
    let history = json!([
        past("busy", "2026-11-21T10:05:00Z", target(None)),
        past("good", "2026-11-21T10:01:00Z", target(hurt)),
    ]);
    let own = experiment(json!({"phase": "Failed", "history": history}));
    assert_eq!(last_fault(&[], &own), Some("2026-11-21T10:01:00Z".parse().unwrap()));
    let known = experiment(json!({"phase": "Failed", "history": history, "faultEndedAt": "2026-11-21T10:00:30Z"}));
    assert_eq!(
        last_fault(&[known], &experiment(json!({}))),
        Some("2026-11-21T10:00:30Z".parse().unwrap())
    );
}

#[test]
fn a_rollout_is_seen_before_and_while_it_happens() {
    let view = |generation: i64, seen: i64, desired: i32, updated: i32, all: i32| {
        let value = json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": desired, "selector": {}, "template": {}},
            "status": {"observedGeneration": seen, "updatedReplicas": updated, "replicas": all, "readyReplicas": 0},
        });
        workload_view(&serde_json::from_value(value).unwrap()).progressing
    };
    assert!(!view(3, 3, 2, 2, 2));
    assert!(view(4, 3, 2, 2, 2), "the Deployment controller has not seen it");
    assert!(view(3, 3, 2, 1, 3));
    assert!(view(3, 3, 2, 2, 3), "an old pod is left");
}

#[test]
fn a_service_tells_what_a_fault_must_not_touch_and_whether_its_pods_are_up_to_date() {
    let view = |generation: i64, status: &str| {
        service_view(
            &serde_json::from_value(json!({
                "metadata": {"name": "inventory", "generation": 2},
                "spec": {"image": "x", "probes": {
                    "startup": {"path": "/api/up?quick=1"}, "readiness": {"path": "/api/up"}, "liveness": {"path": "/live"},
                }},
                "status": {"conditions": [{
                    "type": "ConfigApplied", "status": status, "reason": "Applied", "message": "",
                    "observedGeneration": generation, "lastTransitionTime": "2026-11-21T10:00:01Z",
                }]},
            }))
            .unwrap(),
        )
    };
    assert_eq!(view(2, "True").probe_paths, ["/api/up", "/live"]);
    assert!(view(2, "True").config_applied);
    assert!(
        !view(1, "True").config_applied,
        "the operator has not seen the newest spec"
    );
    assert!(!view(2, "False").config_applied);
}

#[test]
fn of_a_guarded_service_the_kubelet_asks_the_container_and_requests_come_where_they_are_spoken() {
    let view = |ports: serde_json::Value| {
        service_view(
            &serde_json::from_value(json!({
                "metadata": {"name": "inventory"},
                "spec": {
                    "image": "x", "probes": {"readiness": {"path": "/"}},
                    "ports": [{"name": "http", "containerPort": 80}, {"name": "redis", "containerPort": 6379}],
                    "guard": {"mode": "Sidecar", "inbound": {"ports": ports}}
                },
            }))
            .unwrap(),
        )
    };
    let redis = json!({"name": "redis", "protocol": "TCP"});
    let sees_requests = |ports| view(ports).guard.map(|guard| guard.sees_requests);
    assert_eq!(sees_requests(json!([])), Some(true), "every port, as HTTP");
    assert_eq!(sees_requests(json!([redis, {"name": "http"}])), Some(true));
    assert_eq!(sees_requests(json!([redis])), Some(false));
    let open = view(json!([]));
    assert!(
        open.reports && open.probe_paths.is_empty(),
        "a fault on / touches no probe"
    );
}

#[test]
fn a_target_cools_down_also_where_who_hurt_it_is_gone_or_made_anew() {
    let last: LastExperiment =
        serde_json::from_value(json!({"name": "slow", "verdict": "Pass", "time": "2026-11-21T10:00:05Z"})).unwrap();
    let experiment = |name: &str, created: &str| -> Arc<ChaosExperiment> {
        let own = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
            "metadata": {"name": name, "uid": name, "creationTimestamp": created},
            "spec": {"target": {"service": "inventory"}, "latency": {"delay": "1s"}},
        });
        Arc::new(serde_json::from_value(own).unwrap())
    };
    for (name, created, gone) in [
        ("slow", "2026-11-21T09:00:00Z", false),
        ("slow", "2026-11-21T10:00:06Z", true),
        ("other", "2026-11-21T09:00:00Z", true),
    ] {
        let found = last_run_of_one_gone(&last, &[experiment(name, created)]);
        assert_eq!(found, gone.then_some(last.time), "{name} of {created}");
    }
    assert_eq!(last_run_of_one_gone(&last, &[]), Some(last.time));
}
