//! Tables over whole statuses.

use super::*;
use crate::resilient_service::{
    apply::{ChildResult, ChildResults},
    dereference::{Children, ReadyPod},
    fixtures,
    reports::{Contact, Failing, PodReport},
    validate::validate,
};
use crate::runtime::conditions::find_condition;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::ConfigMap,
};
use serde_json::{Value, json};
use std::sync::Arc;
use valerix_policy::Report;

mod evidence;

/// Nothing is remembered.
fn status(service: &ResilientService, observed: &Observed, work: &Work, now: DateTime<Utc>) -> Judged {
    super::status(service, observed, work, Remembered::default(), now)
}

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-03-04T12:00:00Z").unwrap().to_utc()
}

fn service(spec: Value) -> Arc<ResilientService> {
    Arc::new(fixtures::service("order", spec))
}

fn spec(replicas: i32) -> Value {
    json!({"image": "registry.example.com/shop/order:1.4.2", "replicas": replicas,
        "resilience": {"targets": [{"name": "inventory"}, {"name": "payment"}]}})
}

fn deployment(replicas: i32, available: i32) -> Arc<Deployment> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "order", "uid": "d", "generation": 1, "annotations": {"deployment.kubernetes.io/revision": "1"}},
            "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": available}
        }))
        .unwrap(),
    )
}

/// The ReplicaSet of one template of the Deployment.
fn replica_set(template: &str, revision: &str) -> Arc<ReplicaSet> {
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "order", "uid": "d", "controller": true});
    let metadata = json!({
        "name": format!("order-{template}"), "labels": {"pod-template-hash": template}, "ownerReferences": [owner],
        "annotations": {"deployment.kubernetes.io/revision": revision}
    });
    Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
}

fn pod(number: usize, report: Option<Value>) -> (String, ReadyPod) {
    let uid = format!("uid-{number}");
    let report = report.map(|report| {
        let mut full = json!({"podUID": uid, "service": "order", "now": now(), "policy": {"versions": [1]}});
        json_patch::merge(&mut full, &report);
        Arc::new(PodReport {
            namespace: "shop".into(),
            service: "order".into(),
            pod: format!("order-{number}"),
            report: serde_json::from_value::<Report>(full).unwrap(),
            received_at: now(),
        })
    });
    let pod = ReadyPod {
        name: format!("order-{number}"),
        address: "10.0.0.1".parse().unwrap(),
        template: Some("one".into()),
        contact: Contact {
            answered_at: report.as_ref().map(|_| now()),
            failing: None,
        },
        report,
    };
    (uid, pod)
}

fn seen(replicas: i32, available: i32, pods: Vec<(String, ReadyPod)>) -> Observed {
    Observed {
        children: Children {
            deployments: vec![deployment(replicas, available)],
            ..Children::default()
        },
        ready_pods: pods.into_iter().collect(),
        replica_sets: vec![replica_set("one", "1")],
        ..Observed::default()
    }
}

fn work(service: &Arc<ResilientService>) -> Work {
    Work::Applied {
        plan: Box::new(validate(service, 1, "").unwrap()),
        applied: ChildResults {
            children: vec![ChildResult {
                kind: "Deployment".into(),
                name: "order".into(),
                result: Ok(Applied::Unchanged),
            }],
        },
    }
}

fn hash(service: &Arc<ResilientService>) -> String {
    validate(service, 1, "").unwrap().policy_hash
}

fn judge(service: &Arc<ResilientService>, observed: &Observed) -> ResilientServiceStatus {
    status(service, observed, &work(service), now()).status
}

/// Type, status and reason of each condition.
fn table(status: &ResilientServiceStatus) -> Vec<String> {
    status
        .conditions
        .iter()
        .map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason))
        .collect()
}

#[test]
fn all_is_well() {
    let service = service(spec(2));
    let current = json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [
        {"target": "inventory", "state": "Closed"}, {"target": "payment", "state": "Closed"}, {"target": "made-up", "state": "Open"}
    ]});
    let observed = seen(2, 2, vec![pod(1, Some(current.clone())), pod(2, Some(current))]);
    insta::assert_yaml_snapshot!(judge(&service, &observed));
}

#[test]
fn one_open_circuit_never_clears_ready() {
    let service = service(spec(2));
    let with = |state: &str| {
        json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [
            {"target": "inventory", "host": "a", "state": "Closed"},
            {"target": "inventory", "host": "b", "state": state},
            {"target": "payment", "state": "HalfOpen"}
        ]})
    };
    let observed = seen(2, 2, vec![pod(1, Some(with("Open"))), pod(2, Some(with("Closed")))]);
    insta::assert_yaml_snapshot!(judge(&service, &observed));
}

#[test]
fn open_circuits_of_single_addresses_are_named() {
    let service = service(spec(2));
    let with = |hosts: &[(&str, &str)]| {
        let breakers = hosts
            .iter()
            .map(|(host, state)| json!({"target": "inventory", "host": host, "state": state}));
        json!({"policy": {"hash": hash(&service)}, "circuitBreakers": breakers.collect::<Vec<_>>()})
    };
    let first = with(&[
        ("10.0.0.7:3002", "Open"),
        ("10.0.0.8:3002", "Closed"),
        ("<script>", "Open"),
    ]);
    let second = with(&[
        ("[fd00::9]:3002", "HalfOpen"),
        ("10.0.0.6:1", "Open"),
        ("10.0.0.5:1", "Open"),
    ]);
    let status = judge(&service, &seen(2, 2, vec![pod(1, Some(first)), pod(2, Some(second))]));
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "CircuitsClosed")
        .unwrap();
    assert_eq!(
        condition.message,
        "inventory: open in 2 of 2 pods (only for 10.0.0.5:1, 10.0.0.6:1, 10.0.0.7:3002, 1 more)"
    );
    assert_eq!(status.circuit_breakers[0].open, 2);
}

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
fn an_image_that_does_not_report_is_proved_by_its_template() {
    let service = service(json!({"image": "redis", "replicas": 1, "resilience": {"protocol": "None"}}));
    let status = judge(&service, &seen(1, 1, vec![pod(1, None)]));
    assert_eq!(
        table(&status),
        [
            "Ready=True/AllPodsCurrent",
            "Available=True/MinimumReplicasAvailable",
            "Progressing=False/RolloutComplete",
            "ConfigApplied=True/AllPodsCurrent",
            "CircuitsClosed=Unknown/NotReported",
            "ResourcesReady=True/AllApplied",
        ]
    );
}

#[test]
fn config_applied_says_what_pods_say() {
    let service = service(spec(2));
    let current = || Some(json!({"policy": {"hash": hash(&service)}}));
    let rejecting = Some(json!({"policy": {"hash": "old", "error": "version is 9"}}));
    let mut unreachable = pod(2, Some(json!({"policy": {"hash": "old"}})));
    unreachable.1.contact = Contact {
        answered_at: Some(now() - chrono::TimeDelta::seconds(241)),
        failing: Some(Failing {
            since: now(),
            error: "no answer in time".into(),
        }),
    };
    let mut silent = pod(2, None);
    silent.1.contact.failing = Some(Failing {
        since: now(),
        error: "connection refused".into(),
    });
    let short = &hash(&service)[..12];
    let cases = [
        (vec![], "False/WaitingForPods", "no pod is ready yet".to_owned(), (0, 0)),
        (
            vec![pod(1, current()), pod(2, Some(json!({"policy": {"hash": "old"}})))],
            "False/WaitingForPods",
            format!("1 of 2 ready pods run configuration {short}; pod order-2 still runs another one"),
            (1, 0),
        ),
        (
            vec![pod(1, current()), silent],
            "False/WaitingForPods",
            format!(
                "1 of 2 ready pods run configuration {short}; pod order-2 has not reported yet: connection refused (an image without the library needs spec.guard.mode: Sidecar, or spec.resilience.protocol: None)"
            ),
            (1, 0),
        ),
        (
            vec![pod(1, current()), unreachable],
            "Unknown/PodUnreachable",
            format!("1 of 2 ready pods run configuration {short}; pod order-2 has not answered for 240s"),
            (1, 0),
        ),
        (
            vec![pod(1, current()), pod(2, rejecting)],
            "False/RejectedByPods",
            format!(
                "1 of 2 ready pods run configuration {short}; pod order-2 refuses it and keeps the last good one: version is 9"
            ),
            (1, 1),
        ),
    ];
    for (pods, expected, message, counts) in cases {
        let status = judge(&service, &seen(2, 2, pods));
        let condition = find_condition(&status.conditions, "ConfigApplied").unwrap();
        assert_eq!(format!("{}/{}", condition.status, condition.reason), expected);
        assert_eq!(condition.message, message);
        let config = status.config.unwrap();
        assert_eq!((config.applied_replicas, config.rejected_replicas), counts);
    }
}

#[test]
fn waiting_has_a_deadline() {
    let service = service(spec(1));
    let observed = seen(1, 1, vec![pod(1, Some(json!({"policy": {"hash": "old"}})))]);
    let after = |second| {
        let remembered = Remembered {
            awaited_since: Some(now()),
            ..Remembered::default()
        };
        let later = now() + chrono::TimeDelta::seconds(second);
        super::status(&service, &observed, &work(&service), remembered, later)
    };
    for (second, left) in [(0, 60), (59, 1)] {
        let judged = after(second);
        assert_eq!(shown(&judged.status, "ConfigApplied"), "False/WaitingForPods");
        assert_eq!(judged.look_again, Some(Duration::from_secs(left)));
    }
    let judged = after(60);
    assert_eq!(
        (shown(&judged.status, "ConfigApplied").as_str(), judged.look_again),
        ("False/DeadlineExceeded", None)
    );
    assert_eq!(shown(&judged.status, "Stalled"), "True/DeadlineExceeded");
    // An operator that starts now does not begin anew, and forgets it for another configuration.
    let current = hash(&service);
    assert_eq!(
        overdue_since(&judged.status, &current),
        Some(now() + chrono::TimeDelta::seconds(60))
    );
    assert_eq!(overdue_since(&judged.status, "another"), None);
    assert_eq!(overdue_since(&after(59).status, &current), None);
}

#[test]
fn a_missing_secret_is_named() {
    let service = service(spec(1));
    let mut observed = seen(1, 0, vec![]);
    observed.pods = vec![Arc::new(
        serde_json::from_value(json!({"metadata": {"name": "order-1", "namespace": "shop", "labels": {"pod-template-hash": "one"}}, "status": {"containerStatuses": [{
            "name": "order", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"order-database\" not found"}}
        }]}}))
        .unwrap(),
    )];
    let status = judge(&service, &observed);
    let ready = find_condition(&status.conditions, "Ready").unwrap();
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        (
            "SecretNotFound",
            "0 of 1 pods are ready; pod order-1 waits: secret \"order-database\" not found; create it in namespace shop"
        )
    );
}

#[test]
fn faults_count_only_if_somebody_asked_for_them() {
    let service = service(spec(2));
    let fault = |run: &str, state: &str| json!({"run": run, "type": "Latency", "state": state, "remainingMs": 5});
    let report = |faults: Vec<Value>| Some(json!({"policy": {"hash": hash(&service)}, "faults": faults}));
    let mut observed = seen(
        2,
        2,
        vec![
            pod(1, report(vec![fault("asked", "Active"), fault("made-up", "Active")])),
            pod(2, report(vec![fault("asked", "Ended")])),
        ],
    );
    let faults = json!({"version": 1, "faults": [{"run": "asked", "fault": {"latency": {"delay": "1s"}}, "podUIDs": ["uid-1"],
        "duration": "60s", "notAfter": now(), "intentAt": now()}]});
    observed.children.config_maps = vec![Arc::new(
        serde_json::from_value::<ConfigMap>(
            json!({"metadata": {"name": "order-policy"}, "data": {"faults.json": faults.to_string()}}),
        )
        .unwrap(),
    )];
    let status = judge(&service, &observed);
    assert_eq!(
        status.active_faults,
        [ActiveFault {
            run: "asked".into(),
            kind: "Latency".into(),
            pods: 1
        }]
    );
    assert_eq!(table(&status)[0], "Ready=True/AllPodsCurrent");
}

#[test]
fn the_same_sight_gives_the_same_status_and_later_keeps_its_times() {
    let mut service = ResilientService::clone(&service(spec(1)));
    let observed = seen(1, 1, vec![pod(1, None)]);
    let first = judge(&Arc::new(service.clone()), &observed);
    service.status = Some(first.clone());
    let service = Arc::new(service);
    let later = status(
        &service,
        &observed,
        &work(&service),
        now() + chrono::TimeDelta::seconds(30),
    )
    .status;
    assert_eq!(first, later);
}

#[test]
fn news_are_told_once() {
    let service = service(spec(1));
    let with = |state: &str| {
        let report =
            json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [{"target": "inventory", "state": state}]});
        judge(&service, &seen(1, 1, vec![pod(1, Some(report))]))
    };
    let reasons = |old: &ResilientServiceStatus, new: &ResilientServiceStatus| -> Vec<String> {
        news(old, new)
            .into_iter()
            .map(|news| news.reason.into_owned())
            .collect()
    };
    let nothing = ResilientServiceStatus::default();
    assert_eq!(reasons(&nothing, &with("Closed")), ["ConfigAccepted"]);
    assert_eq!(reasons(&with("Closed"), &with("Closed")), Vec::<String>::new());
    assert_eq!(reasons(&with("Closed"), &with("Open")), ["CircuitOpened"]);
    assert_eq!(reasons(&with("Open"), &with("HalfOpen")), Vec::<String>::new());
    assert_eq!(reasons(&with("HalfOpen"), &with("Closed")), ["CircuitClosed"]);
}

#[test]
fn images_are_shown_short() {
    for (image, expected) in [
        ("order:1", "order:1"),
        ("ghcr.io:5000/acme/order:1.4.2", "order:1.4.2"),
        ("ghcr.io/acme/order@sha256:0123456789abcdef0123", "order@0123456789ab"),
    ] {
        assert_eq!(short_image(image), expected);
    }
}

fn shown(status: &ResilientServiceStatus, kind: &str) -> String {
    find_condition(&status.conditions, kind)
        .map(|condition| format!("{}/{}", condition.status, condition.reason))
        .unwrap_or_default()
}

fn with_outcome(service: &Arc<ResilientService>, kind: &str, outcome: Applied) -> Work {
    Work::Applied {
        plan: Box::new(validate(service, 1, "").unwrap()),
        applied: ChildResults {
            children: vec![ChildResult {
                kind: kind.into(),
                name: "order".into(),
                result: Ok(outcome),
            }],
        },
    }
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
fn an_unreachable_pod_is_one_that_fails_for_twice_the_wait() {
    let service = service(spec(1));
    let verdict = |hash: &str, silent: i64, fails: bool| {
        let mut pod = pod(1, Some(json!({"policy": {"hash": hash}})));
        pod.1.contact = Contact {
            answered_at: Some(now() - chrono::TimeDelta::seconds(silent)),
            failing: fails.then(|| Failing {
                since: now(),
                error: "refused".into(),
            }),
        };
        shown(&judge(&service, &seen(1, 1, vec![pod])), "ConfigApplied")
    };
    let current = hash(&service);
    assert_eq!(verdict(&current, 500, false), "True/AllPodsCurrent");
    assert_eq!(verdict(&current, 239, true), "True/AllPodsCurrent");
    assert_eq!(verdict(&current, 240, true), "Unknown/PodUnreachable");
}

#[test]
fn what_pods_say_is_weighed() {
    let current = |service: &Arc<ResilientService>| Some(json!({"policy": {"hash": hash(service)}}));
    let behind = || Some(json!({"policy": {"hash": "old"}}));
    let two = service(spec(2));
    // An error beside the right hash is of an earlier document.
    let recovered = json!({"policy": {"hash": hash(&two), "error": "version is 9"}});
    let status = judge(&two, &seen(2, 2, vec![pod(1, current(&two)), pod(2, Some(recovered))]));
    assert_eq!(shown(&status, "ConfigApplied"), "True/AllPodsCurrent");
    // One pod is silent for good, another may still come: that is waited for.
    let mut unreachable = pod(1, behind());
    unreachable.1.contact = Contact {
        answered_at: Some(now() - chrono::TimeDelta::seconds(300)),
        failing: Some(Failing {
            since: now(),
            error: "refused".into(),
        }),
    };
    let status = judge(&two, &seen(2, 2, vec![unreachable, pod(2, behind())]));
    assert_eq!(shown(&status, "ConfigApplied"), "False/WaitingForPods");
    // Refused for good: somebody must act.
    let refusing = json!({"policy": {"hash": "old", "error": "version is 9"}});
    let status = judge(&two, &seen(2, 2, vec![pod(1, current(&two)), pod(2, Some(refusing))]));
    assert_eq!(shown(&status, "Stalled"), "True/RejectedByPods");
    // Scaled to zero, and a pod is still there.
    let none = service(spec(0));
    let status = judge(&none, &seen(1, 1, vec![pod(1, behind())]));
    assert_eq!(shown(&status, "ConfigApplied"), "False/WaitingForPods");
    // The first by name is told, whatever its UID.
    let (_, second) = pod(2, behind());
    let mut observed = seen(2, 2, vec![pod(1, behind())]);
    observed.ready_pods.insert("a".into(), second);
    let status = judge(&two, &observed);
    let message = &find_condition(&status.conditions, "ConfigApplied").unwrap().message;
    assert!(message.ends_with("pod order-1 still runs another one"), "{message}");
}

#[test]
fn the_deadline_is_the_one_of_the_specification() {
    let mut long = spec(1);
    long["configReload"] = json!({"deadline": "90s"});
    let service = service(long);
    let observed = seen(1, 1, vec![pod(1, Some(json!({"policy": {"hash": "other"}})))]);
    let after = |second: i64| {
        let remembered = Remembered {
            awaited_since: Some(now() - chrono::TimeDelta::seconds(second)),
            ..Remembered::default()
        };
        let judged = super::status(&service, &observed, &work(&service), remembered, now());
        shown(&judged.status, "ConfigApplied")
    };
    assert_eq!(after(89), "False/WaitingForPods");
    assert_eq!(after(90), "False/DeadlineExceeded");
}

#[test]
fn a_budget_or_a_number_that_says_nothing_is_warned_of() {
    let warned = |extra: Value| {
        let mut spec = spec(1);
        json_patch::merge(&mut spec, &extra);
        let service = service(spec);
        let judged = status(&service, &seen(1, 1, vec![]), &Work::Paused, now());
        find_condition(&judged.status.conditions, "Warning").map(|warning| warning.reason.clone())
    };
    let scaled = |least: i32| json!({"minReplicas": least, "maxReplicas": 5});
    assert_eq!(warned(json!({"autoscaling": scaled(2), "disruption": {}})), None);
    assert_eq!(warned(json!({"replicas": 2, "disruption": {}})), None);
    let unbounded = Some("DisruptionUnbounded".to_owned());
    assert_eq!(warned(json!({"disruption": {}})), unbounded);
    assert_eq!(warned(json!({"autoscaling": scaled(1), "disruption": {}})), unbounded);
    assert_eq!(
        warned(json!({"replicas": 3, "autoscaling": scaled(2)})).as_deref(),
        Some("ReplicasIgnored")
    );
}

#[test]
fn only_ready_pods_that_report_and_do_not_follow_can_exceed_the_deadline() {
    let late = |service: &Arc<ResilientService>, observed: &Observed| {
        let remembered = Remembered {
            awaited_since: Some(now() - chrono::TimeDelta::seconds(300)),
            ..Remembered::default()
        };
        shown(
            &super::status(service, observed, &work(service), remembered, now()).status,
            "ConfigApplied",
        )
    };
    let reporting = service(spec(1));
    assert_eq!(late(&reporting, &seen(1, 0, vec![])), "False/WaitingForPods");
    // A rollout that takes long is the rollout's to say.
    let silent = service(json!({"image": "redis", "replicas": 1, "resilience": {"protocol": "None"}}));
    let mut rolling = seen(2, 1, vec![pod(1, None)]);
    rolling.replica_sets = vec![replica_set("one", "0"), replica_set("two", "1")];
    assert_eq!(late(&silent, &rolling), "False/WaitingForPods");
}

#[test]
fn the_time_of_application_moves_only_when_more_pods_run_it() {
    let mut service = ResilientService::clone(&service(spec(2)));
    let wanted = hash(&Arc::new(service.clone()));
    let current = |number| pod(number, Some(json!({"policy": {"hash": wanted}})));
    let behind = |number| pod(number, Some(json!({"policy": {"hash": "old"}})));
    let mut applied_at = |pods, second| {
        let later = now() + chrono::TimeDelta::seconds(second);
        let this = Arc::new(service.clone());
        let new = status(&this, &seen(2, 2, pods), &work(&this), later).status;
        let time = new.config.as_ref().unwrap().last_applied_time;
        service.status = Some(new);
        time.map(|time| (time - now()).num_seconds())
    };
    assert_eq!(applied_at(vec![behind(1), behind(2)], 0), None);
    assert_eq!(applied_at(vec![current(1), behind(2)], 1), Some(1));
    assert_eq!(applied_at(vec![current(1), behind(2)], 2), Some(1));
    assert_eq!(applied_at(vec![current(1), current(2)], 3), Some(3));
    assert_eq!(applied_at(vec![current(1)], 4), Some(3));
    // Another configuration was in force before: this one is applied anew.
    let config = service.status.as_mut().unwrap().config.as_mut().unwrap();
    (config.hash, config.applied_replicas) = ("before".into(), 2);
    let later = now() + chrono::TimeDelta::seconds(9);
    let this = Arc::new(service.clone());
    let new = status(&this, &seen(2, 2, vec![current(1), current(2)]), &work(&this), later).status;
    assert_eq!(new.config.unwrap().last_applied_time, Some(later));
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

#[test]
fn ignored_fields_are_named_once_and_the_last_experiment_is_kept() {
    let mut service = ResilientService::clone(&service(spec(2)));
    let last = json!({"name": "slow", "verdict": "Passed", "time": "2026-03-04T11:00:00Z"});
    service.status = Some(ResilientServiceStatus {
        last_experiment: Some(serde_json::from_value(last).unwrap()),
        ..ResilientServiceStatus::default()
    });
    let service = Arc::new(service);
    let ignoring =
        || Some(json!({"policy": {"hash": hash(&service), "ignoredFields": ["targets[0].new", "inbound.newer"]}}));
    let status = judge(&service, &seen(2, 2, vec![pod(1, ignoring()), pod(2, ignoring())]));
    let warning = find_condition(&status.conditions, "Warning").unwrap();
    assert_eq!(
        warning.message,
        "pods do not know these fields of the policy and ignore them: inbound.newer, targets[0].new; use a newer version of their library"
    );
    assert!(status.last_experiment.is_some());
}

#[test]
fn a_circuit_is_counted_once_and_its_hosts_are_cut_after_the_third() {
    let service = service(spec(2));
    let with = |states: &[(&str, &str)]| {
        let breakers = states
            .iter()
            .map(|(host, state)| json!({"target": "inventory", "host": host, "state": state}));
        json!({"policy": {"hash": hash(&service)}, "circuitBreakers": breakers.collect::<Vec<_>>()})
    };
    let first = with(&[("10.0.0.1:1", "HalfOpen"), ("10.0.0.2:1", "Open")]);
    let second = with(&[("10.0.0.3:1", "HalfOpen")]);
    let status = judge(&service, &seen(2, 2, vec![pod(1, Some(first)), pod(2, Some(second))]));
    assert_eq!(status.summary.unwrap().circuits, "1 open");
    let condition = find_condition(&status.conditions, "CircuitsClosed").unwrap();
    assert_eq!(
        condition.message,
        "inventory: open in 1 and half-open in 1 of 2 pods (only for 10.0.0.1:1, 10.0.0.2:1, 10.0.0.3:1)"
    );
}

#[test]
fn each_configuration_is_news_and_a_circuit_that_stays_open_is_none() {
    let of = |replicas: i32, timeout: &str, state: &str| {
        let service = service(json!({"image": "a", "replicas": replicas, "resilience": {
            "inbound": {"timeout": timeout}, "targets": [{"name": "inventory"}]}}));
        let report =
            json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [{"target": "inventory", "state": state}]});
        judge(&service, &seen(1, 1, vec![pod(1, Some(report))]))
    };
    let reasons = |old: &ResilientServiceStatus, new: &ResilientServiceStatus| -> Vec<String> {
        news(old, new)
            .into_iter()
            .map(|news| news.reason.into_owned())
            .collect()
    };
    assert_eq!(reasons(&of(1, "5s", "Open"), &of(1, "6s", "Open")), ["ConfigAccepted"]);
    assert_eq!(
        reasons(&of(1, "5s", "Open"), &of(1, "5s", "Open")),
        Vec::<String>::new()
    );
}

#[test]
fn a_pod_that_failed_to_answer_was_asked() {
    let (uid, mut silent) = pod(1, None);
    let asked = |pod: &ReadyPod| !seen(1, 1, vec![(uid.clone(), pod.clone())]).has_unasked_pods();
    assert!(!asked(&silent));
    silent.contact.failing = Some(Failing {
        since: now(),
        error: "refused".into(),
    });
    assert!(asked(&silent));
}
