//! Parts of a specification that are Kubernetes' own, written as in a Pod. Their types are large enough to make the
//! definition several times its size, so the schema keeps what it does not know; the operator reads each part into
//! Kubernetes' type and names the field that does not fit.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// An object of Kubernetes' API, kept as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verbatim(pub Map<String, Value>);

impl JsonSchema for Verbatim {
    fn schema_name() -> Cow<'static, str> {
        "Verbatim".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

/// A list of objects that are told apart by their names, at most `most` of them.
pub fn named_objects(most: u32) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": most,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 63,
                    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                    "description": "Name by which it is told apart from the others; the rest is as in a Pod. Required.",
                },
            },
            "x-kubernetes-preserve-unknown-fields": true,
        },
    })
}
