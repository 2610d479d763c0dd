//! What is drawn is the schema's: every leaf and every choice of one comes up, and rules refuse none of it.

#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use kube::core::cel::{Validator, compile_schema};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use valerix_crds::{ResilientService, schema::custom_resource_definitions};
use valerix_draw::Draws;

/// Notes every path that has a value, and which texts and numbers stood there.
fn note(value: &Value, path: &str, seen: &mut BTreeMap<String, BTreeSet<String>>) {
    seen.entry(path.to_owned()).or_default().insert(value.to_string());
    match value {
        Value::Object(fields) => {
            for (name, below) in fields {
                note(below, &format!("{path}.{name}"), seen);
                note(below, &format!("{path}{{}}"), seen);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| note(item, &format!("{path}[]"), seen)),
        _ => {}
    }
}

/// Leaves, and choices of leaves as `path=choice`, that have not come up.
fn missing(leaves: &[(String, Value)], seen: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut missing = Vec::new();
    for (path, schema) in leaves {
        let Some(values) = seen.get(path) else {
            missing.push(path.clone());
            continue;
        };
        let choices = schema["enum"].as_array().into_iter().flatten();
        let absent = choices.filter(|choice| !values.contains(&choice.to_string()));
        missing.extend(absent.map(|choice| format!("{path}={choice}")));
    }
    missing
}

#[test]
fn every_leaf_and_every_choice_comes_up() {
    let mut draws = Draws::seeded(7).unwrap();
    let leaves = draws.leaves();
    assert!(leaves.len() > 150, "{}", leaves.len());
    let mut seen = BTreeMap::new();
    let mut left = missing(&leaves, &seen);
    for _ in 0..30 {
        for _ in 0..20 {
            note(&draws.service("order", |_| Vec::new())["spec"], "spec", &mut seen);
        }
        left = missing(&leaves, &seen);
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_same_seed_draws_the_same_and_all_of_it_can_be_read() {
    let some = |seed| {
        let mut draws = Draws::seeded(seed).unwrap();
        std::array::from_fn::<Value, 20, _>(|_| draws.service("order", |_| Vec::new()))
    };
    let drawn = some(1);
    let definitions = custom_resource_definitions().unwrap();
    let schema = serde_json::to_value(&definitions[0].spec.versions[0].schema).unwrap()["openAPIV3Schema"].take();
    let rules = compile_schema(&schema);
    assert_eq!(drawn, some(1));
    assert_ne!(drawn, some(2));
    for object in drawn {
        let read = serde_json::from_value::<ResilientService>(object.clone());
        assert!(read.is_ok(), "{read:?} of {object}");
        let refused = Validator::new().validate_compiled(&rules, &object, None);
        assert!(refused.is_ok(), "{refused:?} of {object}");
    }
}

#[test]
fn a_field_that_somebody_refuses_is_drawn_anew() {
    let mut draws = Draws::seeded(3).unwrap();
    let refused = |object: &Value| {
        let paused = object["spec"]["paused"] == true;
        paused.then(|| "spec.paused".to_owned()).into_iter().collect()
    };
    let paused = |object: Value| object["spec"]["paused"] == true;
    assert!((0..40).any(|_| paused(draws.service("order", |_| Vec::new()))));
    assert!(!(0..40).any(|_| paused(draws.service("order", refused))));
}

#[test]
fn a_change_has_two_states_that_the_rules_accept_and_that_differ_at_its_leaf() {
    let mut draws = Draws::seeded(11).unwrap();
    let definitions = custom_resource_definitions().unwrap();
    let schema = serde_json::to_value(&definitions[0].spec.versions[0].schema).unwrap()["openAPIV3Schema"].take();
    let rules = compile_schema(&schema);
    for leaf in [
        "spec.image",
        "spec.ports[].name",
        "spec.probes.liveness.type",
        "spec.podLabels{}",
        "spec.volumes[]",
        "spec.resilience.targets[].circuitBreaker.window.calls",
    ] {
        let change = draws.change("order", leaf, |_| Vec::new()).expect(leaf);
        let seen = |object: &Value| {
            let mut seen = BTreeMap::new();
            note(&object["spec"], "spec", &mut seen);
            seen.remove(leaf).unwrap_or_default()
        };
        assert!(!seen(&change.before).is_empty(), "{leaf}: {}", change.before);
        assert!(!seen(&change.after).is_empty(), "{leaf}: {}", change.after);
        for object in [Some(&change.before), Some(&change.after), change.without.as_ref()] {
            let Some(object) = object else { continue };
            let refused = Validator::new().validate_compiled(&rules, object, None);
            assert!(refused.is_ok(), "{leaf}: {refused:?} of {object}");
        }
        assert_ne!(change.before, change.after, "{leaf}");
        match leaf {
            "spec.image" | "spec.ports[].name" => assert_eq!(change.without, None, "{leaf} is required"),
            "spec.podLabels{}" => assert!(change.without.is_some(), "{leaf}"),
            _ => {}
        }
    }
}
