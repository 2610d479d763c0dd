//! What the schemas of this project know: kinds with their names, columns and fields, values of the charts, fields of the
//! library's documents. Read from the generated files, which a check of their own keeps true.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A kind of ours.
pub struct Kind {
    /// Its name.
    pub name: String,
    /// What kubectl takes for it: plural, singular, short names.
    pub names: Vec<String>,
    /// The head of kubectl's table.
    pub columns: Vec<String>,
    schema: Value,
}

/// Everything that has a schema.
pub struct Schemas {
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// The values of each chart, by its folder's name.
    pub charts: BTreeMap<String, Value>,
    /// The path of every field, each between full stops: `.spec.image.`
    paths: Vec<String>,
}

impl Schemas {
    /// Reads them from a checkout.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub fn read(checkout: &Path) -> Result<Self> {
        let mut kinds = Vec::new();
        for text in files(&checkout.join("crds"), "yaml")? {
            let definition = serde_yaml::from_str(&text).context("failed to read a CRD")?;
            kinds.push(kind(&definition).context("a CRD lacks names or a schema")?);
        }
        let mut charts = BTreeMap::new();
        for chart in ["valerix", "valerix-shop"] {
            let path = checkout.join(format!("charts/{chart}/values.schema.json"));
            let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            let schema = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
            charts.insert(chart.to_owned(), schema);
        }
        let mut paths = Vec::new();
        for text in files(&checkout.join("services/policy/schema"), "json")? {
            let document = serde_json::from_str(&text).context("a schema of the library is no JSON")?;
            collect(&document, &document, ".", &mut paths);
        }
        for schema in kinds.iter().map(|kind: &Kind| &kind.schema).chain(charts.values()) {
            collect(schema, schema, ".", &mut paths);
        }
        Ok(Self { kinds, charts, paths })
    }

    /// The kind that kubectl finds by this name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|kind| kind.names.iter().any(|known| known == name))
    }

    /// Whether such a path is there, at any depth of any schema: `safety.minPodAge`.
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        let wanted = format!(".{}.", path.replace("[]", ""));
        self.paths.iter().any(|known| known.contains(&wanted))
    }
}

impl Kind {
    /// Whether a path from the object's top leads to a field: `spec`, `targets`, `0`.
    #[must_use]
    pub fn has(&self, path: &[&str]) -> bool {
        matches!(path.first(), Some(&"metadata" | &"apiVersion" | &"kind")) || leads(&self.schema, &self.schema, path)
    }

    /// What is wrong with a part of an object that stands at `path`; the whole object, where that is empty.
    #[must_use]
    pub fn wrong(&self, path: &[&str], value: &Value) -> Vec<String> {
        let mut schema = &self.schema;
        for part in path {
            let Some(inner) = schema.pointer(&format!("/properties/{part}")) else {
                return vec![format!("{} has no {}", self.name, path.join("."))];
            };
            schema = inner;
        }
        let mut wrong = Vec::new();
        validate(schema, value, "", path.is_empty(), &mut wrong);
        wrong
    }
}

fn files(folder: &Path, extension: &str) -> Result<Vec<String>> {
    let failed = || format!("failed to read {}", folder.display());
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            texts.push(fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?);
        }
    }
    Ok(texts)
}

fn kind(definition: &Value) -> Option<Kind> {
    let names = definition.pointer("/spec/names")?;
    let version = definition.pointer("/spec/versions/0")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&names["kind"])?;
    let plural = text(&names["plural"])?;
    let group = definition.pointer("/spec/group")?.as_str()?;
    let mut known = vec![
        format!("{plural}.{group}"),
        plural,
        text(&names["singular"])?,
        name.clone(),
    ];
    known.push(format!("{}.{group}", text(&names["singular"])?));
    known.extend(names["shortNames"].as_array().into_iter().flatten().filter_map(text));
    let columns = version["additionalPrinterColumns"].as_array()?.iter();
    let columns = columns.filter(|column| column["priority"].as_i64().unwrap_or(0) == 0);
    Some(Kind {
        name,
        names: known,
        columns: columns
            .filter_map(|column| Some(column["name"].as_str()?.to_uppercase()))
            .collect(),
        schema: version.pointer("/schema/openAPIV3Schema")?.clone(),
    })
}

/// A schema behind `$ref`, if it is one.
fn followed<'a>(whole: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| whole.pointer(pointer)).unwrap_or(schema)
}

/// What is one step below a schema by this name.
fn below<'a>(whole: &'a Value, schema: &'a Value, part: &str) -> Vec<&'a Value> {
    let schema = followed(whole, schema);
    let choices = ["oneOf", "anyOf", "allOf"]
        .into_iter()
        .flat_map(|choice| schema[choice].as_array().into_iter().flatten());
    let mut found: Vec<&Value> = choices.flat_map(|choice| below(whole, choice, part)).collect();
    found.extend(schema.pointer(&format!("/properties/{}", part.replace('~', "~0").replace('/', "~1"))));
    if schema["additionalProperties"].is_object() {
        found.push(&schema["additionalProperties"]);
    }
    if schema["items"].is_object() {
        // An index and a `[]` are steps that need not be written.
        if part.is_empty() || part == "*" || part == "-" || part.parse::<usize>().is_ok() {
            found.push(&schema["items"]);
        } else {
            found.extend(below(whole, &schema["items"], part));
        }
    }
    found
}

/// Whether a schema says nothing of what is inside.
fn is_open(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
        || schema["type"] == "object"
            && schema.get("properties").is_none()
            && !schema["additionalProperties"].is_object()
}

fn leads(whole: &Value, schema: &Value, path: &[&str]) -> bool {
    let Some((part, rest)) = path.split_first() else {
        return true;
    };
    is_open(followed(whole, schema))
        || below(whole, schema, part)
            .into_iter()
            .any(|inner| leads(whole, inner, rest))
}

/// The path of every field below a schema; lists and choices are no step.
fn collect(whole: &Value, schema: &Value, path: &str, paths: &mut Vec<String>) {
    let schema = followed(whole, schema);
    let choices = ["oneOf", "anyOf", "allOf"]
        .into_iter()
        .flat_map(|choice| schema[choice].as_array().into_iter().flatten());
    for inner in choices.chain(schema.get("items").filter(|items| items.is_object())) {
        collect(whole, inner, path, paths);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}{name}.");
        paths.push(path.clone());
        collect(whole, inner, &path, paths);
    }
}

fn validate(schema: &Value, value: &Value, path: &str, whole: bool, wrong: &mut Vec<String>) {
    let at = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let mut say = |text: String| wrong.push(format!("{}: {text}", if path.is_empty() { "it" } else { path }));
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        say(format!("{value} is none of {}", Value::from(allowed.clone())));
    }
    let number = value.as_f64();
    if number
        .zip(schema["minimum"].as_f64())
        .is_some_and(|(number, least)| number < least)
        || number
            .zip(schema["maximum"].as_f64())
            .is_some_and(|(number, most)| number > most)
    {
        say(format!("{value} is out of bounds"));
    }
    let is_right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !is_right {
        say(format!("{value} is no {}", schema["type"]));
        return;
    }
    if whole {
        let required = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        for name in required.filter(|name| value.get(name).is_none()) {
            say(format!("{name} is required"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        match below(schema, schema, name).first() {
            Some(schema) => validate(schema, inner, &at(name), true, wrong),
            None if is_open(schema) => {}
            None => wrong.push(format!("{} is no field", at(name))),
        }
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        validate(&schema["items"], inner, &format!("{path}[{index}]"), true, wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schemas() -> Schemas {
        Schemas::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the schemas")
    }

    #[test]
    fn paths_are_found_and_others_are_not() {
        let schemas = schemas();
        for path in [
            "spec.configReload.deadline",
            "safety.minPodAge",
            "chaos.namespaces",
            "resilience.targets[].circuitBreaker",
            "console.enabled",
        ] {
            assert!(schemas.has_path(path), "{path}");
        }
        for path in [
            "spec.configReload.timeout",
            "safety.maxPodAge",
            "console.on",
            "deadline.spec",
        ] {
            assert!(!schemas.has_path(path), "{path}");
        }
        let service = schemas.kind("rsvc").expect("a kind");
        assert!(service.has(&[
            "spec",
            "resilience",
            "targets",
            "0",
            "circuitBreaker",
            "consecutiveFailures"
        ]));
        assert!(service.has(&["status", "conditions", "*", "type"]) && service.has(&["metadata", "name"]));
        assert!(!service.has(&["status", "podNames"]) && schemas.kind("service").is_none());
    }

    #[test]
    fn a_part_of_an_object_is_held_against_its_schema() {
        let schemas = schemas();
        let policy = schemas.kind("bkp").expect("a kind");
        let wrong = |value: Value| policy.wrong(&["spec"], &value);
        assert!(wrong(json!({"retention": {"daily": 14}})).is_empty());
        assert_eq!(
            wrong(json!({"retention": {"dayly": 14}})),
            ["retention.dayly is no field"]
        );
        assert!(wrong(json!({"retention": {"daily": "14"}}))[0].contains("no \"integer\""));
        assert!(wrong(json!({"verification": {"restore": "Never"}}))[0].contains("none of"));
        assert!(policy.wrong(&[], &json!({"apiVersion": "x", "kind": "BackupPolicy"}))[0].contains("spec is required"));
        assert!(policy.wrong(&["specification"], &json!({}))[0].contains("has no specification"));
    }
}
