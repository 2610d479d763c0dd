//! Documents of a manifest, and fields that are taken out of them one by one, so that what nobody takes is known.

use super::Error;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One object of the manifest.
#[derive(Clone, Debug)]
pub struct Document {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
    pub body: Value,
}

impl Document {
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let of_document = self.api_version.split_once('/').map_or("", |(group, _)| group);
        of_document == group && self.kind == kind
    }

    /// Whether both are in the same namespace; one that names none goes wherever the other is.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.namespace.is_none() || other.namespace.is_none() || self.namespace == other.namespace
    }
}

/// Every object, those of lists one by one.
pub fn read(text: &str) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let body = Value::deserialize(document).map_err(|source| Error::Read {
            number: index + 1,
            source,
        })?;
        add(&mut documents, body);
    }
    Ok(documents)
}

fn add(documents: &mut Vec<Document>, body: Value) {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    if let Some(items) = body.get("items").and_then(Value::as_array) {
        for item in items {
            add(documents, item.clone());
        }
        return;
    }
    if let (Some(api_version), Some(kind)) = (text("/apiVersion"), text("/kind")) {
        documents.push(Document {
            api_version,
            kind,
            name: text("/metadata/name").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            body,
        });
    }
}

/// Whether labels satisfy a selector of equalities, which must not be empty: that would be everything.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    selector
        .as_object()
        .is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// The fields of an object that nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    pub fn new(object: Option<Value>) -> Self {
        match object {
            Some(Value::Object(fields)) => Self(fields),
            _ => Self::default(),
        }
    }

    pub fn of(object: &Value) -> Self {
        Self::new(Some(object.clone()))
    }

    /// The field, unless it is missing or null.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    pub fn put(&mut self, field: &str, value: Value) {
        self.0.insert(field.to_owned(), value);
    }

    pub fn forget(&mut self, fields: &[&str]) {
        for field in fields {
            self.0.remove(*field);
        }
    }

    /// Drops fields that say what Kubernetes does anyway, as it writes them out itself.
    pub fn forget_defaults(&mut self, defaults: &[(&str, Value)]) {
        for (field, default) in defaults {
            if self.0.get(*field) == Some(default) {
                self.0.remove(*field);
            }
        }
    }

    /// What nobody took and is not empty.
    pub fn rest(self) -> Map<String, Value> {
        let is_said = |value: &Value| match value {
            Value::Null => false,
            Value::Object(fields) => !fields.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        self.0.into_iter().filter(|(_, value)| is_said(value)).collect()
    }
}
