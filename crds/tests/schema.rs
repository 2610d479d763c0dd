//! The schemas keep the house's rules: every field explains itself, every string and list is bounded.

#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use serde_json::Value;
use valerix_crds::schema::custom_resource_definitions;

/// Calls `visit` with the path and schema of every property below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value, bool)) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, field, required.contains(&name.as_str()));
        walk(&path, field, visit);
        walk(&format!("{path}[]"), &field["items"], visit);
    }
}

fn each_field(part: &str, mut visit: impl FnMut(&str, &Value, bool)) {
    let mut seen = 0;
    for definition in custom_resource_definitions().unwrap() {
        let kind = definition.spec.names.kind.clone();
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let schema = &schema["openAPIV3Schema"];
        assert!(schema["properties"][part].is_object(), "{kind} has no {part}");
        walk(
            &format!("{kind}.{part}"),
            &schema["properties"][part],
            &mut |path, field, required| {
                seen += 1;
                visit(path, field, required);
            },
        );
    }
    assert!(seen > 40, "only {seen} fields of {part} were walked");
}

fn is_measured(field: &Value) -> bool {
    field["type"] == "integer"
        || field["pattern"] == "^([0-9]{1,5}(h|m|s|ms)){1,4}$"
        || field["x-kubernetes-int-or-string"] == true
}

/// Fields of metav1.Condition are Kubernetes' own.
fn is_foreign(path: &str) -> bool {
    path.contains(".conditions[]")
}

#[test]
fn every_spec_field_says_what_it_is_its_default_and_its_unit() {
    each_field("spec", |path, field, required| {
        let text = field["description"].as_str().unwrap_or_default();
        assert!(text.len() > 20, "{path} has no description");
        assert!(
            text.contains("Default: ") || text.contains("Required."),
            "{path} names neither a default nor that it is required: {text}"
        );
        assert!(
            !required || text.contains("Required."),
            "{path} is required and does not say so: {text}"
        );
        assert!(
            !is_measured(field) || text.contains("Unit: "),
            "{path} has no unit: {text}"
        );
    });
}

#[test]
fn a_schema_default_is_the_one_that_the_text_names() {
    let mut compared = 0;
    each_field("spec", |path, field, _| {
        let default = match &field["default"] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => return,
        };
        let text = field["description"].as_str().unwrap_or_default();
        compared += 1;
        let named = text
            .split("Default: ")
            .nth(1)
            .unwrap_or_default()
            .trim_start_matches('`');
        assert!(
            named.starts_with(&default),
            "{path} has the default {default} and says: {text}"
        );
    });
    assert!(compared >= 15, "only {compared} defaults were compared");
}

#[test]
fn every_status_field_says_what_it_is_and_its_unit() {
    each_field("status", |path, field, _| {
        let text = field["description"].as_str().unwrap_or_default();
        assert!(text.len() > 10, "{path} has no description");
        let counted = field["type"] == "integer" && !path.to_lowercase().ends_with("generation") && !is_foreign(path);
        assert!(!counted || text.contains("Unit: "), "{path} has no unit: {text}");
    });
}

#[test]
fn every_field_is_written_in_camel_case() {
    for part in ["spec", "status"] {
        each_field(part, |path, _, _| {
            let name = path.rsplit('.').next().unwrap_or_default();
            let good = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.chars().all(|character| character.is_ascii_alphanumeric());
            assert!(good, "{path} is not in camel case");
        });
    }
}

#[test]
fn every_string_and_list_is_bounded_so_that_rules_stay_cheap() {
    for part in ["spec", "status"] {
        each_field(part, |path, field, _| {
            let items = &field["items"];
            let bounded = |schema: &Value| {
                schema["type"] != "string"
                    || schema["maxLength"].is_number()
                    || schema["enum"].is_array()
                    || schema["format"] == "date-time"
            };
            assert!(
                bounded(field) || is_foreign(path),
                "{path} is a string without maxLength"
            );
            assert!(bounded(items), "{path}[] is a string without maxLength");
            assert!(
                field["type"] != "array" || field["maxItems"].is_number(),
                "{path} is a list without maxItems"
            );
        });
    }
}

#[test]
fn nothing_is_nullable_and_no_narrow_integer_format_is_left() {
    for part in ["spec", "status"] {
        each_field(part, |path, field, _| {
            assert!(field["nullable"].is_null(), "{path} is nullable");
            assert!(
                field["type"] != "integer" || field["format"] == "int64",
                "{path} has format {}",
                field["format"]
            );
        });
    }
}

#[test]
fn kinds_have_their_short_names_category_and_status_subresource() {
    let short = |kind: &str| match kind {
        "ResilientService" => vec!["rsvc"],
        "ChaosExperiment" => vec!["chaos"],
        "BackupPolicy" => vec!["bkp"],
        "Restore" => vec!["rst"],
        _ => vec![],
    };
    for definition in custom_resource_definitions().unwrap() {
        let names = &definition.spec.names;
        assert_eq!(
            names.short_names.clone().unwrap_or_default(),
            short(&names.kind),
            "{}",
            names.kind
        );
        assert_eq!(
            names.categories.clone().unwrap_or_default(),
            ["valerix"],
            "{}",
            names.kind
        );
        let version = &definition.spec.versions[0];
        assert!(
            version.subresources.as_ref().is_some_and(|all| all.status.is_some()),
            "{}",
            names.kind
        );
    }
}
