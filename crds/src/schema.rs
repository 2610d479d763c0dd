//! The CustomResourceDefinitions: what the derives generate, made strict.
//!
//! Pure. In: the kinds. Out: the objects that the API server is given.

use crate::{Backup, BackupPolicy, ChaosExperiment, ResilientService, Restore};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

/// Every CustomResourceDefinition, in the order in which a reader meets the kinds.
///
/// # Errors
/// If a generated schema does not survive a round trip through JSON, which would be a bug of this crate.
pub fn custom_resource_definitions() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [
        (ResilientService::crd(), json!({"observedGeneration": -1})),
        (ChaosExperiment::crd(), json!({"observedGeneration": -1})),
        (BackupPolicy::crd(), json!({"observedGeneration": -1})),
        (
            Backup::crd(),
            json!({"phase": "Scheduled", "upload": {"state": "None"}}),
        ),
        (Restore::crd(), json!({"observedGeneration": -1, "phase": "Pending"})),
    ]
    .into_iter()
    .map(|(definition, status)| strict(&definition, &status))
    .collect()
}

/// Applies the house's schema rules and gives the status its default, so that Helm and kstatus wait for a controller.
fn strict(
    definition: &CustomResourceDefinition,
    status_default: &Value,
) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(definition)?;
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
                if let Some(status) = schema.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
                    status.insert("default".into(), status_default.clone());
                }
            }
        }
    }
    serde_json::from_value(value)
}

/// Removes what makes the API server's messages misleading or what later versions refuse.
///
/// - `nullable`: with it `replicas: null` fails with a message about types instead of being treated as absent.
/// - `default: null`: the derive's way of saying "no default".
/// - `uint*` and `int32` formats: bounds are written out, and Kubernetes 1.36 refuses some of them.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            tidy_object(object);
            for child in object.values_mut() {
                tidy(child);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn tidy_object(object: &mut Map<String, Value>) {
    if object.get("nullable").is_some_and(Value::is_boolean) {
        object.remove("nullable");
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if object.get("type").and_then(Value::as_str) == Some("integer") && object.contains_key("format") {
        object.insert("format".into(), json!("int64"));
    }
    // A property of an object may be called `enum`; only a list of values is the keyword.
    if let Some(values) = object.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
}
