//! What the API server refuses: each rule of a kind with its message, and the shortest example of the tables of what must be
//! refused that it refuses, as it says itself. A rule without an example is an error. Pure.

use crate::shown::shown;
use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::core::cel::{ErrorKind, Validator, compile_schema};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _};
use valerix_crds::rules::{Changed, changed, refused};

/// A rule, at every place where it stands.
struct Rule {
    text: String,
    message: String,
    places: Vec<String>,
}

/// Examples by rule and message.
type Examples = BTreeMap<(String, String), String>;

/// The section of the reference on what is refused of a kind; nothing where it has no rules.
///
/// # Errors
/// With the rule that refuses nothing of the tables.
pub fn section(kind: &str, schema: &JSONSchemaProps) -> Result<String> {
    let mut rules = Vec::new();
    collect(schema, "", &mut rules);
    if rules.is_empty() {
        return Ok(String::new());
    }
    let examples = examples(kind, schema)?;
    let mut section =
        String::from("\nRefused by the API server, each with the rule, where it stands and an example:\n\n");
    for Rule { text, message, places } in rules {
        let example = examples.get(&(text.clone(), message.clone())).with_context(|| {
            format!("nothing that crds/src/rules refuses is refused by this rule of {kind}: give it a row: {message}")
        })?;
        writeln!(section, "- {}", shown(&message))?;
        writeln!(section, "  - {}: `{text}`", places.join(", "))?;
        writeln!(section, "  - {example}")?;
    }
    Ok(section)
}

/// Rules in the order of their places; one that stands at several is one.
fn collect(schema: &JSONSchemaProps, path: &str, rules: &mut Vec<Rule>) {
    for found in schema.x_kubernetes_validations.iter().flatten() {
        let place = if path.is_empty() {
            "object".to_owned()
        } else {
            format!("`{path}`")
        };
        let message = found.message.clone().unwrap_or_default();
        let text = found.rule.clone();
        let known = rules
            .iter_mut()
            .find(|rule| rule.text == text && rule.message == message);
        match known {
            Some(rule) => rule.places.push(place),
            None => rules.push(Rule {
                text,
                message,
                places: vec![place],
            }),
        }
    }
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        collect(field, &path, rules);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
            collect(items, &format!("{path}[]"), rules);
        }
    }
}

/// Asks the rules what they refuse.
fn examples(kind: &str, schema: &JSONSchemaProps) -> Result<Examples> {
    let schema = serde_json::to_value(schema).context("failed to write a schema")?;
    let (rules, validator) = (compile_schema(&schema), Validator::new());
    let asked = refused().into_iter().map(|refused| (refused.object, None));
    let changes = changed().into_iter().map(|Changed { old, new, .. }| (new, Some(old)));
    let mut examples = Examples::new();
    for (object, old) in asked.chain(changes).filter(|(object, _)| object["kind"] == kind) {
        let Err(errors) = validator.validate_compiled(&rules, &object, old.as_ref()) else {
            continue;
        };
        for error in errors
            .into_iter()
            .filter(|error| error.kind == ErrorKind::ValidationFailure)
        {
            let part = |whole: &Value| read_by(&error.rule, at(whole, &error.field_path)).to_string();
            let example = match &old {
                Some(old) => format!("`{}` changed to `{}`", part(old), part(&object)),
                None => format!("`{}`", part(&object)),
            };
            let known = examples.entry((error.rule.clone(), error.message.clone()));
            let shortest = known.or_insert_with(|| example.clone());
            if (example.len(), &example) < (shortest.len(), shortest) {
                *shortest = example;
            }
        }
    }
    Ok(examples)
}

/// The value at a path such as `spec.targets[0].url`, or the nearest around it that is there.
fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    let mut value = object;
    for step in steps {
        let next = match step.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(step),
        };
        let Some(next) = next else { break };
        value = next;
    }
    value
}

/// Of a value with fields those that the rule reads, or the value as it is where it names none.
fn read_by(rule: &str, value: &Value) -> Value {
    let names = |field: &str| {
        // Of `self` or of `oldSelf`.
        let own = format!("elf.{field}");
        rule.match_indices(&own).any(|(place, _)| {
            let behind = rule[place + own.len()..].chars().next();
            !behind.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_')
        })
    };
    let mut part = value.clone();
    if let Some(fields) = part.as_object_mut()
        && fields.keys().any(|field| names(field))
    {
        fields.retain(|field, _| names(field));
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
    use serde_json::json;
    use valerix_crds::schema::custom_resource_definitions;

    fn schema_of(kind: &str) -> JSONSchemaProps {
        let definitions = custom_resource_definitions().unwrap();
        let definition = definitions
            .into_iter()
            .find(|definition| definition.spec.names.kind == kind)
            .unwrap();
        let version = definition.spec.versions.into_iter().next().unwrap();
        version.schema.unwrap().open_api_v3_schema.unwrap()
    }

    #[test]
    fn every_rule_of_every_kind_has_an_example_that_it_refuses() {
        for kind in [
            "ResilientService",
            "ChaosExperiment",
            "BackupPolicy",
            "Backup",
            "Restore",
        ] {
            let schema = schema_of(kind);
            let mut rules = Vec::new();
            collect(&schema, "", &mut rules);
            let examples = examples(kind, &schema).unwrap();
            let without: Vec<&String> = rules
                .iter()
                .filter(|rule| !examples.contains_key(&(rule.text.clone(), rule.message.clone())))
                .map(|rule| &rule.message)
                .collect();
            assert!(
                without.is_empty(),
                "{kind}: give these a row in crds/src/rules: {without:#?}"
            );
        }
    }

    #[test]
    fn a_rule_that_refuses_nothing_is_an_error() {
        let mut schema = schema_of("Backup");
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.x_kubernetes_validations
            .get_or_insert_default()
            .push(ValidationRule {
                rule: "has(self.slot)".into(),
                message: Some("slot is missing".into()),
                ..ValidationRule::default()
            });
        let error = section("Backup", &schema).unwrap_err().to_string();
        assert!(error.contains("slot is missing"), "{error}");
    }

    #[test]
    fn an_example_is_what_the_rule_reads() {
        let object = json!({"spec": {"targets": [{"url": "a"}, {"url": "b", "tls": {}}]}});
        assert_eq!(at(&object, "spec.targets[1].url"), "b");
        assert_eq!(
            at(&object, "spec.targets[0].tls"),
            &json!({"url": "a"}),
            "what is missing is seen around it"
        );
        let value = json!({"url": "b", "tls": {}, "tlsMode": 1});
        assert_eq!(read_by("!has(self.tls) || x", &value), json!({"tls": {}}));
        assert_eq!(read_by("self == oldSelf", &value), value);
    }
}
