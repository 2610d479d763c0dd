//! What is asked of one object, and what stays of it whatever a body says.

use super::{Refusal, refuse};
use serde_json::{Value, json};

/// What an object says that a manager applied, although it never did: all but metadata, as somebody wrote it into
/// `managedFields`. Of those this server knows nothing else.
pub(super) fn handed_to(manager: &str, object: &Value) -> Value {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_theirs = |entry: &&Value| entry["manager"] == json!(manager) && entry["operation"] == json!("Apply");
    let Some(fields) = entries
        .into_iter()
        .flatten()
        .find(is_theirs)
        .map(|entry| &entry["fieldsV1"])
    else {
        return Value::Null;
    };
    let named = object.as_object().into_iter().flatten();
    named
        .filter(|(name, _)| *name != "metadata" && fields.get(format!("f:{name}")).is_some())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(super) fn has_finalizers(object: &Value) -> bool {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

pub(super) fn check_version(old: &Value, body: &Value) -> Result<(), Refusal> {
    match body.pointer("/metadata/resourceVersion") {
        Some(version) if !version.is_null() && Some(version) != old.pointer("/metadata/resourceVersion") => {
            refuse(409, "Conflict", "the object has been modified")
        }
        _ => Ok(()),
    }
}

pub(super) fn check_uid(old: &Value, body: &Value) -> Result<(), Refusal> {
    match body.pointer("/metadata/uid") {
        Some(uid) if Some(uid) != old.pointer("/metadata/uid") => refuse(409, "Conflict", "the UID does not match"),
        _ => Ok(()),
    }
}

/// Whatever a body says, these stay.
pub(super) fn keep_identity(old: &Value, object: &mut Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "namespace",
        "name",
    ] {
        if let (Some(value), Some(metadata)) = (
            old.pointer(&format!("/metadata/{field}")),
            object.get_mut("metadata").and_then(Value::as_object_mut),
        ) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
}

pub(super) fn set_version(object: &mut Value, version: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(version.to_string()));
    }
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
