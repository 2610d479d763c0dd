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

mod configuration;
mod evidence;
mod news;
mod rollouts;

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
            awaits_turn: false,
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
fn a_circuit_in_a_state_of_a_newer_library_is_not_closed() {
    let service = service(spec(2));
    let with = |inventory: &str, payment: &str| {
        let breakers = json!([
            {"target": "inventory", "state": inventory}, {"target": "payment", "state": payment},
            {"target": "made-up", "state": "Torn"}
        ]);
        Some(json!({"policy": {"hash": hash(&service)}, "circuitBreakers": breakers}))
    };
    let judged = |second| {
        let status = judge(
            &service,
            &seen(2, 2, vec![pod(1, with("Closed", "Closed")), pod(2, second)]),
        );
        let condition = status
            .conditions
            .iter()
            .find(|known| known.type_ == "CircuitsClosed")
            .unwrap();
        let counts = &status.circuit_breakers[0];
        (
            format!("{}/{}", condition.status, condition.reason),
            condition.message.clone(),
            status.summary.unwrap().circuits,
            (counts.closed, counts.open, counts.half_open),
        )
    };
    assert_eq!(
        judged(with("Isolated", "Closed")),
        (
            "Unknown/CircuitUnknown".into(),
            "no circuit is open in 2 pods; a newer library says \"Isolated\" of the circuit to inventory, which this \
             operator does not know; upgrade the operator"
                .into(),
            "unknown".into(),
            (1, 0, 0)
        )
    );
    let (open, _, summary, _) = judged(with("Isolated", "Open"));
    assert_eq!((open.as_str(), summary.as_str()), ("False/CircuitOpen", "1 open"));
    assert_eq!(
        judged(with("Closed", "Closed")).0,
        "True/AllClosed",
        "of no target of the specification"
    );
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
            awaits_turn: false,
            children: vec![ChildResult {
                kind: kind.into(),
                name: "order".into(),
                result: Ok(outcome),
            }],
        },
    }
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
    for (disruption, is_forbidden) in [
        (json!({"minAvailable": 3}), true),
        (json!({"minAvailable": "3"}), true),
        (json!({"minAvailable": "67%"}), true),
        (json!({"minAvailable": "66%"}), false),
        (json!({"minAvailable": 2}), false),
        (json!({"maxUnavailable": 0}), true),
        (json!({"maxUnavailable": "0%"}), true),
        (json!({"maxUnavailable": "1%"}), false),
    ] {
        let expected = is_forbidden.then_some("EvictionForbidden");
        let warned = warned(json!({"replicas": 3, "disruption": disruption.clone()}));
        assert_eq!(warned.as_deref(), expected, "{disruption}");
    }
    let until = |until: &str| {
        let target = json!({"name": "inventory", "override": {"circuitBreaker": "ForcedOpen", "until": until}});
        warned(json!({"resilience": {"targets": [target]}}))
    };
    let (past, future) = (now(), now() + Duration::from_secs(1));
    assert_eq!(until(&past.to_rfc3339()).as_deref(), Some("OverrideEnded"));
    assert_eq!(until(&future.to_rfc3339()), None);
    assert_eq!(
        warned(json!({"replicas": 3, "autoscaling": scaled(2)})).as_deref(),
        Some("ReplicasIgnored")
    );
}

#[test]
fn no_warning_hides_another() {
    let past = now().to_rfc3339();
    let service = service(
        json!({"image": "a", "replicas": 3, "disruption": {"maxUnavailable": 0}, "resilience": {"targets": [
            {"name": "inventory", "override": {"circuitBreaker": "ForcedOpen", "until": past}}
        ]}}),
    );
    let status = judge(&service, &seen(3, 3, vec![]));
    let warning = find_condition(&status.conditions, "Warning").unwrap();
    assert_eq!(warning.reason, "EvictionForbidden");
    assert_eq!(
        warning.message,
        "spec.disruption spares none of 3 pods, so a drain of a node waits for them without end; let one be missing \
         (maxUnavailable: 1), or run more; OverrideEnded: the override of these targets is over, and their circuits work \
         by themselves: inventory; remove it, or set another time"
    );
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
