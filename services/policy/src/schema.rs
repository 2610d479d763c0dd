//! JSON Schemas of the documents and the OpenAPI document of the report, from the types. Pure.
//!
//! What the types do not say (the bounds of numbers) stands here in one table, and a test compares it with what the
//! parser accepts.

use schemars::Schema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{Duration, Faults, Policy, Report, Runtime};

/// The least and the largest value of each number, by definition and field.
const BOUNDS: &[(&str, &str, u32, u32)] = &[
    ("Policy", "version", 1, 1),
    ("Faults", "version", 1, 1),
    ("Runtime", "version", 1, 1),
    ("RateLimitRule", "requests", 1, 1_000_000),
    ("RateLimitRule", "burst", 1, 1_000_000),
    ("Concurrency", "max", 1, 1_000_000),
    ("Concurrency", "min", 1, 1_000_000),
    ("Concurrency", "initial", 1, 1_000_000),
    ("Concurrency", "maxQueue", 0, 1_000_000),
    ("Priorities", "defaultPercent", 1, 100),
    ("Priorities", "sheddablePercent", 1, 100),
    ("Priorities", "bestEffortPercent", 1, 100),
    ("Retry", "maxAttempts", 1, 10),
    ("RetryBudget", "percent", 0, 100),
    ("RetryBudget", "minPerSecond", 0, 1_000),
    ("CircuitBreaker", "consecutiveFailures", 1, 10_000),
    ("CircuitBreaker", "minimumRequests", 1, 10_000),
    ("CircuitBreaker", "failureRatePercent", 1, 100),
    ("CircuitBreaker", "slowCallRatePercent", 1, 100),
    ("CircuitBreaker", "halfOpenPermits", 1, 1_000),
    ("Window", "calls", 1, 10_000),
    ("Bulkhead", "maxConcurrent", 1, 1_000_000),
    ("Hedge", "percentile", 50, 99),
    ("Hedge", "maxHedgedAttempts", 1, 3),
    ("LatencyFault", "percent", 1, 100),
    ("ErrorsFault", "percent", 1, 100),
    ("ErrorsFault", "status", 400, 599),
    ("AbortFault", "percent", 1, 100),
    ("CrashFault", "times", 1, 3),
    ("CpuStressFault", "loadPercent", 1, 100),
    ("CpuStressFault", "workers", 1, 64),
];

/// The schema of each document, by file name, as pretty JSON (draft 2020-12).
///
/// A reader ignores fields that it does not know, so the schemas allow them; an editor may want to set
/// `additionalProperties` to find typos.
///
/// ```
/// let (name, text) = &valerix_policy::schema::documents()[0];
/// assert_eq!(*name, "policy.v1.schema.json");
/// assert!(text.contains("\"title\": \"Policy\""));
/// ```
#[must_use]
pub fn documents() -> Vec<(&'static str, String)> {
    let generator = || SchemaSettings::draft2020_12().into_generator();
    [
        ("policy.v1.schema.json", generator().into_root_schema_for::<Policy>()),
        ("faults.v1.schema.json", generator().into_root_schema_for::<Faults>()),
        ("runtime.v1.schema.json", generator().into_root_schema_for::<Runtime>()),
        ("report.schema.json", written().into_root_schema_for::<Report>()),
    ]
    .map(|(name, schema)| (name, render(schema)))
    .to_vec()
}

/// The OpenAPI 3.1 document of `GET /resilience`, as pretty JSON.
///
/// ```
/// let document = valerix_policy::schema::openapi();
/// assert!(document.contains("\"/resilience\"") && document.contains("\"304\""));
/// ```
#[must_use]
pub fn openapi() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let report = generator.subschema_for::<Report>();
    let wait = generator.subschema_for::<Duration>();
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    tidy_all(&mut schemas);
    let entity_tag = json!({"ETag": {
        "description": "Changes when hash, error, breaker state, limit or fault changes; not with the clock or a count.",
        "schema": {"type": "string"}
    }});
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Valerix resilience report",
            "version": "1",
            "description": "What one process says about the resilience policy that it obeys: the proof that a change arrived.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "paths": {"/resilience": {"get": {
            "operationId": "getResilience",
            "summary": "The report, at once or when it changes",
            "description": "Without `since`, or when the report is another one, it is answered at once. Else the request waits up to `wait` for a change. At most four requests wait at a time; one more is answered at once with 200.",
            "parameters": [
                {"name": "since", "in": "query", "required": false, "schema": {"type": "string"},
                 "description": "The entity tag that the caller has, with or without its quotes; If-None-Match means the same.",
                 "example": "8d1f0c6c5b6e4d7f9a3b2c1d0e9f8a7b"},
                {"name": "wait", "in": "query", "required": false, "schema": wait, "example": "120s",
                 "description": "How long to wait for a change, at most 120s. Default 0s."},
                {"name": "If-None-Match", "in": "header", "required": false, "schema": {"type": "string"},
                 "description": "As `since`, which wins where both are given."}
            ],
            "responses": {
                "200": {"description": "The report.", "headers": entity_tag,
                        "content": {"application/json": {"schema": report}}},
                "304": {"description": "It is still the one of `since`, also after the wait.", "headers": entity_tag},
                "400": {"description": "A query parameter is not good; `parameter` names it.",
                        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
            }
        }}},
        "components": {"schemas": schemas}
    });
    crate::policy::render(&document)
}

/// The schema of a document of a service's own, in the same form.
#[must_use]
pub fn document<T: schemars::JsonSchema>() -> String {
    render(
        SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<T>(),
    )
}

/// A generator for what is written, as opposed to what may be left out when it is read.
fn written() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

fn render(schema: Schema) -> String {
    let mut schema = Value::from(schema);
    let title = schema["title"].as_str().map(str::to_owned);
    tidy(&mut schema, title.as_deref());
    crate::policy::render(&schema)
}

/// Turns the texts from rustdoc into plain ones, and sets the bounds of `name` and of the definitions inside.
fn tidy(schema: &mut Value, name: Option<&str>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, None)),
        Value::Object(object) => {
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = plain(text);
            }
            if let (Some(name), Some(Value::Object(properties))) = (name, object.get_mut("properties")) {
                bound(name, properties);
            }
            for (key, child) in object.iter_mut() {
                match child {
                    Value::Object(definitions) if key == "$defs" => tidy_all(definitions),
                    _ => tidy(child, None),
                }
            }
        }
        _ => {}
    }
}

/// Definitions by name.
fn tidy_all(definitions: &mut Map<String, Value>) {
    definitions.iter_mut().for_each(|(name, child)| tidy(child, Some(name)));
}

fn bound(name: &str, properties: &mut Map<String, Value>) {
    for (_, field, least, most) in BOUNDS.iter().filter(|(definition, ..)| *definition == name) {
        if let Some(Value::Object(property)) = properties.get_mut(*field) {
            property.insert("minimum".to_owned(), json!(least));
            property.insert("maximum".to_owned(), json!(most));
        }
    }
}

/// `[`Name`]` is a link in rustdoc only, and a line break there is none.
fn plain(text: &str) -> String {
    text.replace("[`", "`")
        .replace("`]", "`")
        .replace("\\[", "[")
        .replace("\\]", "]")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// RFC 9457, with the member that every 400 of the report has.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A refusal with its reason (RFC 9457).",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "What clients key on."},
            "title": {"type": "string", "description": "The type in words."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": {"type": "string", "description": "The value found and what to send instead."},
            "parameter": {"type": "string", "description": "The query parameter that is not good."}
        }
    })
}
