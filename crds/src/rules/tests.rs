//! Every CEL rule refuses what it should and nothing else.

use super::*;
use crate::Duration;
use crate::schema::custom_resource_definitions;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use std::collections::{BTreeMap, BTreeSet};

/// The rules of each kind, compiled once for all objects.
struct Rules(BTreeMap<String, CompiledSchema>);

impl Rules {
    fn compiled() -> Self {
        let definitions = custom_resource_definitions().unwrap();
        let compiled = definitions.iter().map(|definition| {
            let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
            let kind = definition.spec.names.kind.clone();
            (kind, compile_schema(&schema["openAPIV3Schema"]))
        });
        Self(compiled.collect())
    }

    /// What they say to an object, and to how it was changed; nothing where it is right.
    fn problems(&self, object: &Value, old: Option<&Value>) -> String {
        let rules = &self.0[object["kind"].as_str().unwrap()];
        let outcome = Validator::new().validate_compiled(rules, object, old);
        outcome.err().map(|errors| format!("{errors:?}")).unwrap_or_default()
    }
}

#[test]
fn what_is_wrong_is_refused_with_a_text_that_names_it() {
    let rules = Rules::compiled();
    for Refused { object, text, by } in refused() {
        let problems = rules.problems(&object, None);
        let named = problems.contains(text);
        assert!(
            named || by == Judge::Structure,
            "wanted `{text}` of {object}, got `{problems}`"
        );
    }
}

/// A text that is no duration is refused as that, and not by an error of the rule that reads it.
#[test]
fn no_rule_of_an_experiment_fails_on_what_it_reads() {
    let rules = Rules::compiled();
    for Refused { object, .. } in refused() {
        let problems = rules.problems(&object, None);
        assert!(
            object["kind"] != json!("ChaosExperiment") || !problems.contains("EvaluationError"),
            "{object}: {problems}"
        );
    }
}

/// Nor is one of any other kind, wherever it stands.
#[test]
fn a_text_that_is_no_duration_makes_no_rule_fail() {
    let rules = Rules::compiled();
    let mut tried = BTreeSet::new();
    for object in accepted() {
        let mut durations = Vec::new();
        find_durations(&object, "", &mut durations);
        for at in durations {
            let mut object = object.clone();
            *object.pointer_mut(&at).unwrap() = json!("soon");
            let problems = rules.problems(&object, None);
            assert!(!problems.contains("EvaluationError"), "{at} of {object}: {problems}");
            tried.insert(at);
        }
    }
    assert!(tried.len() > 30, "{tried:?}");
}

/// Where the durations of `value` stand, as pointers that begin with `at`.
fn find_durations(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.parse::<Duration>().is_ok() => found.push(at.to_owned()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_durations(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                find_durations(field, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn an_experiment_that_never_ran_keeps_its_schedule_or_stops() {
    let rules = Rules::compiled();
    let refusal = |old_status: Value, new: Value| {
        let scheduled = |spec: Value, status: Value| {
            let mut object = chaos(merged(json!({"podKill": {}}), spec));
            object["status"] = merged(json!({"observedGeneration": 1}), status);
            object
        };
        let old = scheduled(json!({"schedule": "0 10 * * *"}), old_status.clone());
        rules.problems(&scheduled(new, old_status), Some(&old))
    };
    let waits = json!({"phase": "Pending"});
    let refused = refusal(waits.clone(), json!({}));
    assert!(refused.contains("set spec.desired: Stop with it"), "{refused}");
    assert_eq!(refusal(waits.clone(), json!({"desired": "Stop"})), "");
    assert_eq!(refusal(waits.clone(), json!({"schedule": "0 11 * * *"})), "");
    assert_eq!(refusal(waits, json!({"schedule": "0 10 * * *", "suspend": true})), "");
    let has_run = json!({"phase": "Completed", "run": "2026-11-21T10:00:00Z"});
    assert_eq!(refusal(has_run, json!({})), "");
}

#[test]
fn what_is_right_passes() {
    let rules = Rules::compiled();
    for object in accepted() {
        assert_eq!(rules.problems(&object, None), "", "{object}");
    }
}

#[test]
fn a_running_experiment_is_frozen_but_for_its_stop_button() {
    let rules = Rules::compiled();
    let in_phase = |phase: &str, spec: Value| {
        let mut object = chaos(spec);
        object["status"] = json!({"observedGeneration": 1, "phase": phase});
        object
    };
    let spec = json!({"latency": {"delay": "3s"}, "duration": "20s"});
    let refused = |phase: &str, change: Value| {
        let new = in_phase(phase, merged(spec.clone(), change));
        rules.problems(&new, Some(&in_phase(phase, spec.clone())))
    };
    for phase in ["Running", "Recovering"] {
        assert_eq!(refused(phase, json!({"desired": "Stop"})), "");
        for change in [
            json!({"latency": {"delay": "30s"}}),
            json!({"duration": "21s"}),
            json!({"count": 2}),
            json!({"target": {"service": "payment"}}),
            json!({"safety": {}}),
            json!({"dryRun": true}),
            json!({"steadyState": {"probes": [{"name": "a", "http": {"service": "order"}}]}}),
        ] {
            let text = refused(phase, change.clone());
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
            assert_ne!(rules.problems(&new, Some(&old)), "", "{phase}: {fault} to {other}");
            assert_eq!(rules.problems(&old, Some(&old)), "", "{phase}: {fault}");
        }
    }
    assert_eq!(refused("Completed", json!({"duration": "21s"})), "");
}

#[test]
fn what_may_not_change_is_refused_with_a_text_that_names_it() {
    let rules = Rules::compiled();
    for Changed { old, new, text } in changed() {
        assert_eq!(rules.problems(&old, Some(&old)), "", "{old}");
        let problems = rules.problems(&new, Some(&old));
        assert!(problems.contains(text), "wanted `{text}` of {new}, got `{problems}`");
    }
}
