//! A value for a schema: objects, lists, maps and numbers. What a rule of a part refuses is drawn again.

use super::{Draws, verbatim, words};
use kube::core::cel::compile_schema;
use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Map, Number, Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// How often a part is drawn before it is taken as not to be had.
const ATTEMPTS: usize = 30;
/// Keys of maps: labels, annotations and resources have the same type, and the schema cannot bound them.
const KEYS: [&str; 8] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "team",
    "tier",
    "example.com/gpu",
    "example.com/owner",
    "prometheus.io/scrape",
];

impl Draws {
    /// A value that the schema and the rules of this part accept; none if none was found.
    pub(crate) fn value(&mut self, schema: &Value, path: &str) -> Option<Value> {
        let has_rules = schema["x-kubernetes-validations"].is_array();
        for attempt in 0..ATTEMPTS {
            // Less and less of it, since fewer fields contradict each other less.
            let density = self.density;
            self.density = density / (1.0 + attempt as f64 / 4.0);
            let drawn = self.anything(schema, path);
            self.density = density;
            let drawn = drawn?;
            if !has_rules || self.holds(schema, path, &drawn) {
                return Some(drawn);
            }
        }
        None
    }

    /// Whether the leaf that is to be there is here, or below.
    pub(crate) fn leads(&self, path: &str) -> bool {
        let wanted = self.wanted.as_deref().and_then(|wanted| wanted.strip_prefix(path));
        wanted.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
    }

    fn holds(&mut self, schema: &Value, path: &str, value: &Value) -> bool {
        let rules = match self.parts.get(path) {
            Some(rules) => rules.clone(),
            None => {
                let rules = Arc::new(compile_schema(&of_this_alone(schema)));
                self.parts.insert(path.to_owned(), rules.clone());
                rules
            }
        };
        self.validator.validate_compiled(&rules, value, None).is_ok()
    }

    fn anything(&mut self, schema: &Value, path: &str) -> Option<Value> {
        if let Some(values) = schema["enum"].as_array() {
            return values.choose(&mut self.random).cloned();
        }
        let kept = schema["x-kubernetes-preserve-unknown-fields"] == true;
        if kept && let Some(part) = verbatim::of(path, &mut self.random) {
            return Some(part);
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return Some(self.number_or_text(schema));
        }
        match schema["type"].as_str()? {
            "object" if schema["additionalProperties"].is_object() => Some(self.map(schema, path)),
            "object" => self.object(schema, path),
            "array" => self.list(schema, path),
            "integer" => Some(Value::Number(self.integer(schema))),
            "boolean" => Some(json!(self.random.random_bool(0.5))),
            "string" => Some(json!(self.texts.draw(schema, path, &mut self.random))),
            _ => None,
        }
    }

    fn object(&mut self, schema: &Value, path: &str) -> Option<Value> {
        let required = words(&schema["required"]);
        let mut drawn = Map::new();
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            let is_required = required.contains(&name.as_str());
            let path = format!("{path}.{name}");
            if !is_required && !self.leads(&path) && !self.random.random_bool(self.density) {
                continue;
            }
            match self.value(below, &path) {
                Some(value) => drop(drawn.insert(name.clone(), value)),
                None if is_required => return None,
                None => {}
            }
        }
        Some(Value::Object(drawn))
    }

    fn map(&mut self, schema: &Value, path: &str) -> Value {
        let mut drawn = Map::new();
        let fewest = usize::from(self.leads(path));
        for _ in 0..self.random.random_range(fewest..=3) {
            let key = if self.random.random_bool(0.9) {
                KEYS.choose(&mut self.random).copied().unwrap_or_default().to_owned()
            } else {
                self.texts.draw(&json!({"maxLength": 70}), path, &mut self.random)
            };
            if let Some(value) = self.value(&schema["additionalProperties"], &format!("{path}{{}}")) {
                drawn.insert(key, value);
            }
        }
        Value::Object(drawn)
    }

    fn list(&mut self, schema: &Value, path: &str) -> Option<Value> {
        let fewest = schema["minItems"].as_u64().unwrap_or(0).max(self.leads(path).into());
        let most = schema["maxItems"].as_u64().unwrap_or(8);
        let is_cheap = schema["items"]["type"] != "object";
        let wanted = match self.random.random_range(0..50) {
            0 if is_cheap => most,
            _ => self.random.random_range(0..=3),
        };
        let keys = words(&schema["x-kubernetes-list-map-keys"]);
        let mut seen = BTreeSet::new();
        let mut drawn = Vec::new();
        for _ in 0..wanted.clamp(fewest, most) {
            let item = self.value(&schema["items"], &format!("{path}[]"))?;
            let identity: Vec<String> = keys.iter().map(|key| item[key].to_string()).collect();
            if keys.is_empty() || seen.insert(identity) {
                drawn.push(item);
            }
        }
        (drawn.len() as u64 >= fewest).then_some(Value::Array(drawn))
    }

    /// At its bounds more often than by chance, and small more often than large.
    fn integer(&mut self, schema: &Value) -> Number {
        let bound = |name: &str, otherwise: i64| schema[name].as_f64().map_or(otherwise, |bound| bound as i64);
        let (least, most) = (bound("minimum", 0), bound("maximum", 100));
        Number::from(match self.random.random_range(0..10) {
            0 => least,
            1 => most,
            2 => self.random.random_range(least..=most),
            _ => self.random.random_range(least..=most.min(least.saturating_add(60))),
        })
    }

    fn number_or_text(&mut self, schema: &Value) -> Value {
        let number = self.random.random_range(0..=12);
        match schema["pattern"].is_string() {
            true if self.random.random_bool(0.3) => json!(self.texts.draw(schema, "", &mut self.random)),
            true => {
                let unit = ["", "m", "k", "Ki", "Mi", "Gi"].choose(&mut self.random).copied();
                json!(format!("{number}{}", unit.unwrap_or_default()))
            }
            false if self.random.random_bool(0.5) => json!(number),
            false => json!(format!("{}%", self.random.random_range(0..=100))),
        }
    }
}

/// The rules of a part without those of what is below it, which were looked at when that was drawn.
pub fn of_this_alone(schema: &Value) -> Value {
    json!({"type": schema["type"], "x-kubernetes-validations": schema["x-kubernetes-validations"]})
}
