//! For tests of what a service says in its events: the schemas of their payloads are committed, and an event of an older
//! version is still one of this version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// The schemas of all events that a service publishes.
pub struct EventSchemas {
    service: &'static str,
    generator: SchemaGenerator,
    events: BTreeMap<&'static str, Value>,
}

impl EventSchemas {
    /// None yet.
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        Self {
            service,
            generator: settings.into_generator(),
            events: BTreeMap::new(),
        }
    }

    /// The event `kind` travels on `topic`, and its payload is a `T`.
    ///
    /// # Panics
    /// When there is one already.
    #[must_use]
    pub fn event<T: JsonSchema>(mut self, topic: &str, kind: &'static str) -> Self {
        let mut schema = self.generator.subschema_for::<T>();
        schema.insert("x-topic".to_owned(), topic.into());
        assert!(
            self.events.insert(kind, schema.to_value()).is_none(),
            "{kind} is described twice"
        );
        self
    }

    /// What is committed.
    fn document(&self) -> String {
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": format!("Payloads of the events of {}", self.service),
            "description": "One definition for each type of event; x-topic is the stream that it is on. \
                            What is not described is not read.",
            "$defs": self.events,
        });
        format!("{document:#}\n")
    }

    /// Compares with `schema/events.v1.schema.json` in `folder`, the crate's own; `VALERIX_WRITE_SCHEMA=1` writes it. Holds each
    /// payload in `schema/events.v1.samples.json`, which older versions have published, against the schema of its type. Each
    /// field that an event always has must be in one.
    ///
    /// # Panics
    /// When the file is another, or an older event would not be understood.
    pub fn check(&self, folder: &str) {
        let file = |name: &str| -> PathBuf { Path::new(folder).join("schema").join(name) };
        let path = file("events.v1.schema.json");
        if std::env::var_os("VALERIX_WRITE_SCHEMA").is_some() {
            std::fs::write(&path, self.document()).expect("the folder schema is there");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == self.document(),
            "{} is not of these types: run this test with VALERIX_WRITE_SCHEMA=1 and commit the file",
            path.display()
        );
        let samples = std::fs::read_to_string(file("events.v1.samples.json")).expect("samples are committed");
        let samples: BTreeMap<String, Vec<Value>> = serde_json::from_str(&samples).expect("samples by type");
        for (kind, payloads) in &samples {
            let schema = self.events.get(kind.as_str());
            let schema = schema.unwrap_or_else(|| panic!("{kind} is not published any more, and others wait for it"));
            for payload in payloads {
                let broken = incompatibilities(schema, payload);
                assert!(
                    broken.is_empty(),
                    "an older {kind} is not understood: {}",
                    broken.join("; ")
                );
            }
        }
        for (kind, schema) in &self.events {
            let payloads = samples.get(*kind).map(Vec::as_slice).unwrap_or_default();
            let required = schema["required"].as_array().into_iter().flatten();
            for field in required.filter_map(Value::as_str) {
                assert!(
                    payloads.iter().any(|payload| payload.get(field).is_some()),
                    "no sample of {kind} has the field {field}: add one, as it is published from now on"
                );
            }
        }
    }
}

/// Why an event that was published as `payload` is none by `schema`: fields that are gone, of another type, or that it would
/// have to have.
///
/// ```
/// use serde_json::json;
/// use valerix_kit::testing::schemas::incompatibilities;
///
/// let schema = json!({"properties": {"id": {"type": "string"}, "note": {"type": ["string", "null"]}}, "required": ["id"]});
/// assert!(incompatibilities(&schema, &json!({"id": "a"})).is_empty());
/// assert_eq!(incompatibilities(&schema, &json!({"id": 7})), ["the field id is not a string any more, or was none"]);
/// assert_eq!(incompatibilities(&schema, &json!({"id": "a", "old": 1})), ["the field old is gone"]);
/// assert_eq!(incompatibilities(&schema, &json!({})), ["the field id is required and was not there"]);
/// ```
#[must_use]
pub fn incompatibilities(schema: &Value, payload: &Value) -> Vec<String> {
    let mut broken = vec![];
    let Some(fields) = payload.as_object() else {
        return vec!["the payload is no object".to_owned()];
    };
    for (name, value) in fields {
        match schema["properties"].get(name) {
            None => broken.push(format!("the field {name} is gone")),
            Some(described) if !admits(described, value) => {
                let wanted = &described["type"];
                let wanted = wanted.as_str().map_or_else(|| described.to_string(), str::to_owned);
                broken.push(format!("the field {name} is not a {wanted} any more, or was none"));
            }
            Some(_) => {}
        }
    }
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            broken.push(format!("the field {name} is required and was not there"));
        }
    }
    broken
}

/// Whether the value has one of the types, is one of the constants, and has the form of a UUID where that is said.
fn admits(schema: &Value, value: &Value) -> bool {
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let typed = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    let listed = schema["enum"].as_array().is_none_or(|listed| listed.contains(value));
    let constant = schema.get("const").is_none_or(|constant| constant == value);
    let uuid = schema["format"] != "uuid" || value.as_str().is_none_or(|text| uuid::Uuid::parse_str(text).is_ok());
    let one_of = ["oneOf", "anyOf"].iter().all(|word| {
        schema[word]
            .as_array()
            .is_none_or(|schemas| schemas.iter().any(|schema| admits(schema, value)))
    });
    typed && listed && constant && uuid && one_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Payload {
        order_id: String,
        quantity: i64,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct WithMore {
        order_id: String,
        quantity: i64,
        colour: Option<String>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct WithLess {
        order_id: String,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Retyped {
        order_id: String,
        quantity: String,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Demanding {
        order_id: String,
        quantity: i64,
        colour: String,
    }

    fn broken<T: JsonSchema>(sample: &Value) -> Vec<String> {
        let schemas = EventSchemas::new("test").event::<T>("things", "Happened");
        incompatibilities(&schemas.events["Happened"], sample)
    }

    #[test]
    fn a_field_may_come_and_none_may_go_or_change() {
        let older = json!({"order_id": "a", "quantity": 2});
        assert_eq!(broken::<Payload>(&older), [""; 0]);
        assert_eq!(broken::<WithMore>(&older), [""; 0]);
        assert_eq!(broken::<WithLess>(&older), ["the field quantity is gone"]);
        assert_eq!(
            broken::<Retyped>(&older),
            ["the field quantity is not a string any more, or was none"]
        );
        assert_eq!(
            broken::<Demanding>(&older),
            ["the field colour is required and was not there"]
        );
    }

    #[test]
    fn nested_and_listed_values_are_held_against_what_is_said_of_them() {
        for (schema, good, bad) in [
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (json!({"enum": ["A", "B"]}), json!("A"), json!("C")),
            (
                json!({"anyOf": [{"const": "A"}, {"type": "null"}]}),
                json!("A"),
                json!("B"),
            ),
            (json!({"type": "integer"}), json!(-1), json!(1.5)),
            (
                json!({"type": "string", "format": "uuid"}),
                json!("0198c1a0-0000-7000-8000-000000000000"),
                json!("7"),
            ),
        ] {
            assert!(admits(&schema, &good), "{schema} {good}");
            assert!(!admits(&schema, &bad), "{schema} {bad}");
        }
    }
}
