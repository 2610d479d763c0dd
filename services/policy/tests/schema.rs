//! The schemas say what the parser does: the same documents are good, the same numbers are out of bounds.
#![cfg(feature = "schema")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use serde_json::{Map, Value, json};
use valerix_policy::{Faults, Policy, PolicyError, Runtime, schema};

mod full;

fn schema_of(file: &str) -> Value {
    let documents = schema::documents();
    let (_, text) = documents.iter().find(|(name, _)| *name == file).unwrap();
    serde_json::from_str(text).unwrap()
}

/// A number that a document has: where it is, and the bounds that its schema gives.
type Numbers = Vec<(String, Option<u64>, Option<u64>)>;

/// What of JSON Schema these documents use. Says what is wrong with `value`.
fn check(root: &Value, schema: &Value, value: &Value, path: &str, numbers: &mut Numbers) -> Result<(), String> {
    if let Some(target) = schema["$ref"].as_str() {
        let target = root.pointer(target.trim_start_matches('#')).unwrap();
        check(root, target, value, path, numbers)?;
    }
    for alternatives in [&schema["oneOf"], &schema["anyOf"]]
        .into_iter()
        .filter_map(Value::as_array)
    {
        let good = alternatives
            .iter()
            .any(|one| check(root, one, value, path, numbers).is_ok());
        good.then_some(())
            .ok_or(format!("{path}: {value} is none of the alternatives"))?;
    }
    let wanted = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !wanted.is_empty() && !wanted.contains(&found) {
        return Err(format!("{path}: {found} is not {wanted:?}"));
    }
    if schema.get("const").is_some_and(|constant| constant != value) {
        return Err(format!("{path}: {value} is not {}", schema["const"]));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|choices| !choices.contains(value))
    {
        return Err(format!("{path}: {value} is not one of {}", schema["enum"]));
    }
    if let Some(number) = value.as_u64().filter(|_| wanted.contains(&"integer")) {
        let (least, most) = (schema["minimum"].as_u64(), schema["maximum"].as_u64());
        numbers.push((path.to_owned(), least, most));
        if number < least.unwrap_or(0) || number > most.unwrap_or(u64::MAX) {
            return Err(format!("{path}: {number} is not in {least:?}..={most:?}"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], item, &format!("{path}/{index}"), numbers)?;
    }
    if let Some(object) = value.as_object().filter(|_| schema["properties"].is_object()) {
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            object
                .get(name)
                .map(|_| ())
                .ok_or(format!("{path}: {name} is missing"))?;
        }
        for (name, value) in object {
            let property = schema["properties"]
                .get(name)
                .ok_or(format!("{path}: {name} is not described"))?;
            check(root, property, value, &format!("{path}/{name}"), numbers)?;
        }
    }
    Ok(())
}

fn numbers_of(file: &str, document: &Value) -> Numbers {
    let schema = schema_of(file);
    let mut numbers = Numbers::new();
    check(&schema, &schema, document, "", &mut numbers).unwrap();
    numbers
}

#[test]
fn the_parser_and_the_schemas_agree_on_documents_and_bounds() {
    let policy: Value = serde_json::from_str(full::POLICY).unwrap();
    let faults: Vec<Value> = full::FAULTS.iter().map(|fault| full::faults_document(fault)).collect();
    let refuse_policy = |text: &str| Policy::parse(text.as_bytes()).err();
    let refuse_faults = |text: &str| Faults::parse(text.as_bytes()).err();
    let refuse_runtime = |text: &str| Runtime::parse(text.as_bytes()).err();
    type Refuse<'a> = &'a dyn Fn(&str) -> Option<PolicyError>;
    let mut documents: Vec<(&str, &Value, Refuse<'_>)> = vec![("policy.v1.schema.json", &policy, &refuse_policy)];
    documents.extend(
        faults
            .iter()
            .map(|fault| ("faults.v1.schema.json", fault, &refuse_faults as Refuse<'_>)),
    );
    let runtime = json!({"version": 1, "readyReplicas": 3});
    documents.push(("runtime.v1.schema.json", &runtime, &refuse_runtime));
    let mut compared = 0;
    for (file, document, refuse) in documents {
        assert_eq!(refuse(&document.to_string()), None, "{document}");
        for (path, least, most) in numbers_of(file, document) {
            let with = |number: u64| {
                let mut changed = document.clone();
                *changed.pointer_mut(&path).unwrap() = json!(number);
                refuse(&changed.to_string())
            };
            if path == "/readyReplicas" {
                assert!(with(u64::from(u32::MAX)).is_none() && most.is_none());
                continue;
            }
            let most = most.unwrap_or_else(|| panic!("{path} has no upper bound in {file}: see schema::BOUNDS"));
            assert!(with(most + 1).is_some(), "{path} is accepted beyond {most}");
            if let Some(below) = least.unwrap_or(0).checked_sub(1) {
                assert!(with(below).is_some(), "{path} is accepted below {least:?}");
            }
            compared += 1;
        }
    }
    assert!(compared >= 30, "only {compared} numbers were compared");
}

#[test]
fn what_the_parser_refuses_for_its_shape_the_schema_refuses_too() {
    let schema = schema_of("policy.v1.schema.json");
    for text in [
        r#"{}"#,
        r#"{"version": 2}"#,
        r#"{"version": 1, "mode": "Off"}"#,
        r#"{"version": 1, "targets": [{}]}"#,
        r#"{"version": 1, "targets": {"name": "a"}}"#,
        r#"{"version": 1, "inbound": {"concurrency": {"priorities": {"header": "Believe"}}}}"#,
        r#"{"version": 1, "inbound": {"concurrency": {"priorities": {"routes": [{"route": "GET /"}]}}}}"#,
    ] {
        assert!(Policy::parse(text.as_bytes()).is_err(), "{text}");
        let value = serde_json::from_str(text).unwrap();
        assert!(
            check(&schema, &schema, &value, "", &mut Numbers::new()).is_err(),
            "{text}"
        );
    }
}

#[test]
fn every_definition_and_field_explains_itself_in_plain_words() {
    fn walk(path: &str, value: &Value) {
        match value {
            Value::Object(object) => {
                for (name, field) in object
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    let text = field["description"].as_str().unwrap_or_default();
                    assert!(text.len() > 5, "{path}.{name} is not explained");
                }
                for (key, child) in object {
                    if key == "description" {
                        let text = child.as_str().unwrap_or_default();
                        assert!(!text.contains("[`") && !text.contains('\n'), "{path}: {text}");
                    }
                    walk(&format!("{path}/{key}"), child);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(path, item)),
            _ => {}
        }
    }
    for (name, text) in schema::documents() {
        walk(name, &serde_json::from_str(&text).unwrap());
    }
    walk(
        "openapi",
        &serde_json::from_str::<Value>(&schema::openapi()).unwrap()["components"],
    );
}

#[test]
fn every_reference_of_the_openapi_document_leads_somewhere() {
    let document: Value = serde_json::from_str(&schema::openapi()).unwrap();
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|child| references(child, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        assert!(
            document.pointer(reference.trim_start_matches('#')).is_some(),
            "{reference}"
        );
    }
    let schemas: &Map<String, Value> = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "Report",
        "PolicyReport",
        "CircuitBreakerReport",
        "LimitReport",
        "FaultReport",
        "Problem",
    ] {
        assert!(schemas.contains_key(name), "{name}");
    }
}
