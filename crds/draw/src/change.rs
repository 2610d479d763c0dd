//! Two states of one object that differ at a leaf, both within the rules: what a field may change from, and to.

use super::{Draws, words};
use kube::core::cel::compile_schema;
use rand::seq::IndexedRandom;
use serde_json::Value;
use std::collections::BTreeSet;

/// How often a service with the leaf is drawn before it is taken as not to be had.
const SERVICES: usize = 400;
/// How often what is wrong with one of them is drawn anew.
const MENDS: usize = 40;
/// How often another value is drawn before it is looked for round the leaf.
const VALUES: usize = 20;

/// A service, and what it may become.
#[derive(Clone, Debug)]
pub struct Change {
    /// A service that has the leaf.
    pub before: Value,
    /// The same with another value of it, and where that alone would be refused, of what it stands in.
    pub after: Value,
    /// The same without the leaf, where it may be left out.
    pub without: Option<Value>,
}

impl Draws {
    /// A ResilientService `name` that changes at `leaf`, one of [`Draws::leaves`]; none if none was found. `refused` is
    /// asked as by [`Draws::service`].
    pub fn change(&mut self, name: &str, leaf: &str, refused: impl Fn(&Value) -> Vec<String>) -> Option<Change> {
        self.wanted = Some(leaf.to_owned());
        let found = (0..SERVICES).find_map(|_| {
            self.density = *[0.1, 0.3, 0.6].choose(&mut self.random).unwrap_or(&0.3);
            let mut before = self.some_fields(name);
            if !self.mend(&mut before, &refused, MENDS) || places(&before, leaf).is_empty() {
                return None;
            }
            let after = self.changed(&before, leaf, &refused)?;
            let without = self.without(&before, leaf, &refused);
            Some(Change { before, after, without })
        });
        self.wanted = None;
        found
    }

    /// Another value at the leaf, or round it: the narrower the better.
    fn changed(&mut self, before: &Value, leaf: &str, refused: &impl Fn(&Value) -> Vec<String>) -> Option<Value> {
        let depth = steps(leaf).count();
        for around in 0..depth - 1 {
            let scope: Vec<String> = steps(leaf).take(depth - around).collect();
            let path = written(&scope);
            let schema = self.schema_at(&scope)?;
            for _ in 0..VALUES {
                let place = places(before, &path).choose(&mut self.random)?.clone();
                let Some(drawn) = self.value(&schema, &path) else {
                    break;
                };
                let mut after = before.clone();
                *after.pointer_mut(&place)? = drawn;
                if values(&after, leaf) != values(before, leaf)
                    && !places(&after, leaf).is_empty()
                    && self.accepts(&after, refused)
                {
                    return Some(after);
                }
            }
        }
        None
    }

    fn without(&mut self, before: &Value, leaf: &str, refused: &impl Fn(&Value) -> Vec<String>) -> Option<Value> {
        let scope: Vec<String> = steps(leaf).collect();
        // What has a default is there again at once.
        if self.schema_at(&scope)?.get("default").is_some() {
            return None;
        }
        let around = self.schema_at(&scope[..scope.len() - 1])?;
        let mut required = around["required"].as_array().into_iter().flatten();
        if required.any(|name| *name == *scope[scope.len() - 1]) {
            return None;
        }
        let place = places(before, leaf).choose(&mut self.random)?.clone();
        let (parent, field) = place.rsplit_once('/')?;
        let mut after = before.clone();
        match after.pointer_mut(parent)? {
            Value::Object(fields) => drop(fields.remove(&field.replace("~1", "/").replace("~0", "~"))),
            Value::Array(items) => {
                let fewest = around["minItems"].as_u64().unwrap_or(0);
                items.remove(field.parse().ok()?);
                if (items.len() as u64) < fewest {
                    return None;
                }
            }
            _ => return None,
        }
        self.accepts(&after, refused).then_some(after)
    }

    /// Whether the schema's rules hold, and `refused` names nothing.
    fn accepts(&mut self, object: &Value, refused: &impl Fn(&Value) -> Vec<String>) -> bool {
        let spec = &self.schema["properties"]["spec"];
        if !is_told_apart(spec, &object["spec"]) {
            return false;
        }
        let rules = self.all_rules.get_or_insert_with(|| compile_schema(spec));
        let holds = self.validator.validate_compiled(rules, &object["spec"], None).is_ok();
        holds && refused(object).is_empty()
    }

    fn schema_at(&self, scope: &[String]) -> Option<Value> {
        let mut schema = &*self.schema;
        for step in scope {
            schema = match step.as_str() {
                "[]" => &schema["items"],
                "{}" => &schema["additionalProperties"],
                name => &schema["properties"][name],
            };
        }
        schema.is_object().then(|| schema.clone())
    }
}

/// The parts of a path: names, `[]` and `{}`.
fn steps(path: &str) -> impl Iterator<Item = String> {
    let apart = path.replace("[]", ".[]").replace("{}", ".{}");
    apart.split('.').map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// A path of its parts.
fn written(steps: &[String]) -> String {
    steps.join(".").replace(".[]", "[]").replace(".{}", "{}")
}

/// JSON pointers of everything in an object that stands at `path`, as [`Draws::leaves`] writes it.
pub fn places(object: &Value, path: &str) -> Vec<String> {
    let mut places = vec![(String::new(), object)];
    for step in steps(path) {
        places = places
            .into_iter()
            .flat_map(|(pointer, value)| below(&pointer, value, &step))
            .collect();
    }
    places.into_iter().map(|(pointer, _)| pointer).collect()
}

fn below<'a>(pointer: &str, value: &'a Value, step: &str) -> Vec<(String, &'a Value)> {
    match (step, value) {
        ("[]", Value::Array(items)) => {
            let numbered = items.iter().enumerate();
            numbered
                .map(|(index, item)| (format!("{pointer}/{index}"), item))
                .collect()
        }
        ("{}", Value::Object(fields)) => {
            let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
            fields
                .iter()
                .map(|(name, value)| (format!("{pointer}/{}", escaped(name)), value))
                .collect()
        }
        (name, Value::Object(fields)) => {
            let field = fields.get(name).into_iter();
            field.map(|value| (format!("{pointer}/{name}"), value)).collect()
        }
        _ => Vec::new(),
    }
}

fn values<'a>(object: &'a Value, path: &str) -> Vec<Option<&'a Value>> {
    let places = places(object, path);
    places.iter().map(|place| object.pointer(place)).collect()
}

/// Whether no two entries of a list have the same key, where the schema names one.
fn is_told_apart(schema: &Value, value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            let keys = words(&schema["x-kubernetes-list-map-keys"]);
            let mut seen = BTreeSet::new();
            let is_new = |item: &Value| seen.insert(keys.iter().map(|key| item[key].to_string()).collect::<Vec<_>>());
            (keys.is_empty() || items.iter().all(is_new))
                && items.iter().all(|item| is_told_apart(&schema["items"], item))
        }
        Value::Object(fields) => fields.iter().all(|(name, below)| match &schema["properties"][name] {
            Value::Null => is_told_apart(&schema["additionalProperties"], below),
            schema => is_told_apart(schema, below),
        }),
        _ => true,
    }
}
