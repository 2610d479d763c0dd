//! A whole object: drawn, and what its rules refuse drawn anew, until nothing is refused any more.

use super::Draws;
use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How often something is drawn anew before the object is given up for another one.
const ATTEMPTS: usize = 400;
/// What is required, or has a default that rules read.
const ALWAYS: [&str; 3] = ["image", "replicas", "terminationGracePeriodSeconds"];

impl Draws {
    /// A ResilientService `name` that the schema and its rules accept, and of which `refused` names no field, as in
    /// `spec.ports[0].name`: what is refused by somebody else.
    pub fn service(&mut self, name: &str, refused: impl Fn(&Value) -> Vec<String>) -> Value {
        loop {
            self.density = *[0.15, 0.5, 0.9].choose(&mut self.random).unwrap_or(&0.5);
            let mut object = self.some_fields(name);
            if self.mend(&mut object, &refused, ATTEMPTS) {
                return object;
            }
        }
    }

    /// Fields by chance, which may contradict each other.
    pub(crate) fn some_fields(&mut self, name: &str) -> Value {
        let mut object = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": name},
            "spec": {}
        });
        let fields = self.schema["properties"]["spec"]["properties"].as_object().cloned();
        for field in fields.into_iter().flatten().map(|(field, _)| field) {
            let is_needed = ALWAYS.contains(&field.as_str()) || self.leads(&format!("spec.{field}"));
            if is_needed || self.random.random_bool(self.density) {
                self.draw_field(&mut object, &field);
            }
        }
        object
    }

    /// Whether everything is accepted at last.
    pub(crate) fn mend(
        &mut self,
        object: &mut Value,
        refused: &impl Fn(&Value) -> Vec<String>,
        attempts: usize,
    ) -> bool {
        for _ in 0..attempts {
            let mut wrong = self.broken(object);
            if wrong.is_empty() {
                wrong = refused(object).iter().filter_map(|path| field_of(path)).collect();
            }
            let Some(field) = wrong.choose(&mut self.random).cloned() else {
                return true;
            };
            let is_needed = ALWAYS.contains(&field.as_str()) || self.leads(&format!("spec.{field}"));
            if self.random.random_bool(0.3) && !is_needed {
                if let Some(spec) = object["spec"].as_object_mut() {
                    spec.remove(&field);
                }
            } else {
                self.draw_field(object, &field);
            }
        }
        false
    }

    /// Fields of the specification that a broken rule reads.
    fn broken(&self, object: &Value) -> Vec<String> {
        let Err(errors) = self.validator.validate_compiled(&self.rules, &object["spec"], None) else {
            return Vec::new();
        };
        let named: BTreeSet<String> = errors
            .as_slice()
            .iter()
            .flat_map(|error| error.rule.split("self.").skip(1))
            .map(|rest| {
                let end = rest.find(|character: char| !character.is_ascii_alphanumeric());
                rest[..end.unwrap_or(rest.len())].to_owned()
            })
            .collect();
        named.into_iter().collect()
    }

    pub(crate) fn draw_field(&mut self, object: &mut Value, field: &str) {
        let schema = self.schema.clone();
        let schema = &schema["properties"]["spec"]["properties"][field];
        if let Some(value) = self.value(schema, &format!("spec.{field}")) {
            object["spec"][field] = value;
        }
    }
}

/// The field of the specification in which a path ends, if it names one.
fn field_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix("spec.")?;
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
