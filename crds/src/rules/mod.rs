//! Every CEL rule refuses what it should and nothing else. End-to-end tests show a real API server objects of each rule too.

mod accepted;
mod backup;
mod chaos;
mod service;

use crate::{Backup, BackupPolicy, ChaosExperiment, ResilientService};
use serde_json::{Value, json};

fn service(spec: Value) -> Value {
    object(
        "ResilientService",
        "order",
        merged(
            json!({"image": "order:1", "terminationGracePeriodSeconds": 45, "replicas": 1}),
            spec,
        ),
    )
}

/// A service with two ports and this guard.
fn guarded(guard: Value) -> Value {
    service(json!({
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "redis", "containerPort": 6379}],
        "guard": guard
    }))
}

/// The same object with these fields of its specification instead.
fn merged_spec(mut object: Value, spec: Value) -> Value {
    object["spec"] = merged(object["spec"].take(), spec);
    object
}

fn chaos(spec: Value) -> Value {
    object(
        "ChaosExperiment",
        "slow",
        merged(json!({"target": {"service": "inventory"}, "count": 1}), spec),
    )
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn merged(mut base: Value, extra: Value) -> Value {
    if let (Some(base), Value::Object(extra)) = (base.as_object_mut(), extra) {
        base.extend(extra);
    }
    base
}

fn problems(object: &Value) -> String {
    let outcome = match object["kind"].as_str() {
        Some("ResilientService") => serde_json::from_value::<ResilientService>(object.clone())
            .unwrap()
            .validate_cel(),
        Some("ChaosExperiment") => serde_json::from_value::<ChaosExperiment>(object.clone())
            .unwrap()
            .validate_cel(),
        Some("BackupPolicy") => serde_json::from_value::<BackupPolicy>(object.clone())
            .unwrap()
            .validate_cel(),
        other => panic!("no rules for {other:?}"),
    };
    outcome.err().map(|errors| format!("{errors:?}")).unwrap_or_default()
}

/// Each object is refused with its text.
fn assert_refused(rows: impl IntoIterator<Item = (Value, &'static str)>) {
    for (object, text) in rows {
        let problems = problems(&object);
        assert!(problems.contains(text), "wanted `{text}` of {object}, got `{problems}`");
    }
}

#[test]
fn a_running_experiment_is_frozen_but_for_its_stop_button() {
    let in_phase = |phase: &str, spec: Value| -> ChaosExperiment {
        let mut object = chaos(spec);
        object["status"] = json!({"observedGeneration": 1, "phase": phase});
        serde_json::from_value(object).unwrap()
    };
    let spec = json!({"latency": {"delay": "3s"}, "duration": "20s"});
    let refused = |phase: &str, change: Value| {
        let new = in_phase(phase, merged(spec.clone(), change));
        let old = in_phase(phase, spec.clone());
        new.validate_cel_update(&old).err().map(|errors| format!("{errors:?}"))
    };
    for phase in ["Running", "Recovering"] {
        assert_eq!(refused(phase, json!({"desired": "Stop"})), None);
        for change in [
            json!({"latency": {"delay": "30s"}}),
            json!({"duration": "21s"}),
            json!({"count": 2}),
            json!({"target": {"service": "payment"}}),
            json!({"safety": {}}),
            json!({"dryRun": true}),
            json!({"steadyState": {"probes": [{"name": "a", "http": {"service": "order"}}]}}),
        ] {
            let text = refused(phase, change.clone()).unwrap_or_default();
            assert!(
                text.contains("frozen while a run is Running or Recovering"),
                "{phase} {change}: {text}"
            );
        }
        for (fault, other) in [
            (json!({"latency": {"delay": "3s"}}), json!({"latency": {"delay": "4s"}})),
            (json!({"errors": {}}), json!({"errors": {"percent": 1}})),
            (json!({"abort": {}}), json!({"abort": {"percent": 1}})),
            (json!({"partition": {"peer": "a"}}), json!({"partition": {"peer": "b"}})),
            (json!({"crash": {}}), json!({"crash": {"times": 2}})),
            (json!({"cpuStress": {}}), json!({"cpuStress": {"workers": 2}})),
            (
                json!({"memoryStress": {"size": "1Mi"}}),
                json!({"memoryStress": {"size": "2Mi"}}),
            ),
            // What another fault adds or takes away is seen too.
            (json!({"refuse": {}}), json!({"errors": {}})),
            (json!({"errors": {}}), json!({"refuse": {}})),
        ] {
            let base = json!({"duration": "20s"});
            let old = in_phase(phase, merged(base.clone(), fault.clone()));
            let new = in_phase(phase, merged(base, other.clone()));
            assert!(new.validate_cel_update(&old).is_err(), "{phase}: {fault} to {other}");
            assert!(old.validate_cel_update(&old).is_ok(), "{phase}: {fault}");
        }
    }
    assert_eq!(refused("Completed", json!({"duration": "21s"})), None);
}

#[test]
fn a_record_never_changes() {
    let record = |slot: &str| -> Backup {
        serde_json::from_value(object(
            "Backup",
            "shop-20260821",
            json!({
                "policyRef": {"name": "shop", "uid": "u"}, "slot": slot, "scheduledAt": "2026-08-21T00:00:00Z"
            }),
        ))
        .unwrap()
    };
    assert!(record("2026-08-21").validate_cel_update(&record("2026-08-21")).is_ok());
    assert!(record("2026-08-22").validate_cel_update(&record("2026-08-21")).is_err());
}
