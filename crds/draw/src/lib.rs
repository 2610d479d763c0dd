//! ResilientServices drawn from their schema, within its rules: what nobody thought of, for tests. No client.
//!
//! The same seed draws the same objects. Every leaf comes from the schema, so a new field is drawn without a change here;
//! only the parts that are Kubernetes' own, of which the schema knows nothing, are chosen from [`verbatim`].

mod change;
mod mend;
mod text;
mod value;
mod verbatim;

pub use change::{Change, places};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};
use text::Texts;
use valerix_crds::schema::custom_resource_definitions;

/// Draws objects, one after another.
pub struct Draws {
    schema: Arc<Value>,
    rules: CompiledSchema,
    validator: Validator,
    /// The rules of each part, so that none is compiled twice.
    parts: HashMap<String, Arc<CompiledSchema>>,
    /// The rules of the whole with those of every part, once they were asked for.
    all_rules: Option<CompiledSchema>,
    random: StdRng,
    texts: Texts,
    /// How likely an optional field is there, in the object that is being drawn.
    density: f64,
    /// The leaf that is to be there, whatever else is.
    wanted: Option<String>,
}

impl Draws {
    /// Begins at `seed`.
    ///
    /// # Errors
    /// If the schema is none, which would be a bug of the kinds' crate.
    pub fn seeded(seed: u64) -> Result<Self, serde_json::Error> {
        let mut schema = Value::Null;
        for definition in custom_resource_definitions()? {
            if definition.spec.names.kind == "ResilientService" {
                schema = serde_json::to_value(&definition.spec.versions[0].schema)?["openAPIV3Schema"].take();
            }
        }
        Ok(Self {
            rules: compile_schema(&value::of_this_alone(&schema["properties"]["spec"])),
            schema: Arc::new(schema),
            validator: Validator::new(),
            parts: HashMap::new(),
            all_rules: None,
            random: StdRng::seed_from_u64(seed),
            texts: Texts::seeded(seed),
            density: 0.5,
            wanted: None,
        })
    }

    /// Path and schema of every leaf of the specification: a value that has nothing below it, or more than the schema says.
    /// `[]` stands for an item of a list and `{}` for a value of a map.
    pub fn leaves(&self) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        leaves(&self.schema["properties"]["spec"], "spec", &mut found);
        found
    }
}

fn leaves(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if let Some(properties) = schema["properties"].as_object() {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            found.push((path.to_owned(), schema.clone()));
        }
        for (name, below) in properties {
            leaves(below, &format!("{path}.{name}"), found);
        }
    } else if schema["items"].is_object() {
        leaves(&schema["items"], &format!("{path}[]"), found);
    } else if schema["additionalProperties"].is_object() {
        leaves(&schema["additionalProperties"], &format!("{path}{{}}"), found);
    } else {
        found.push((path.to_owned(), schema.clone()));
    }
}

/// The words of a list in a schema, such as the names of what is required; none where there is no list.
fn words(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
