//! The API as an OpenAPI 3.1 document, and a page to read it. Pure.
//!
//! [`Api`](crate::api::Api) fills it; the document adds what all services have in common: the problem responses, `/health`
//! and `/ready`.

mod page;

use axum::Router;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::extract::Json;
use crate::identity::SERVICE_TOKEN;

/// An OpenAPI document under construction.
#[derive(Clone, Debug)]
pub struct Document {
    title: String,
    description: String,
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Document {
    /// A document without operations.
    pub(crate) fn new(title: &str, description: &str) -> Self {
        let document = Self {
            title: title.to_owned(),
            description: description.to_owned(),
            paths: Map::new(),
            schemas: Map::new(),
        };
        document
            .schema("Problem", problem_schema())
            .operation(
                "get",
                "/health",
                json!({"summary": "Whether the process is alive", "responses": {"200": {"description": "Alive"}}}),
            )
            .operation(
                "get",
                "/ready",
                json!({
                    "summary": "Whether requests should be sent here",
                    "responses": {"200": {"description": "Ready"}, "503": problem("Starting, draining or stalled")}
                }),
            )
    }

    /// Adds an operation: an OpenAPI operation object. Responses 400, 404, 413, 415, 422, 500 and 503 of a kind that
    /// any operation may give need not be listed.
    #[must_use]
    pub(crate) fn operation(mut self, method: &str, path: &str, mut operation: Value) -> Self {
        if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
            responses
                .entry("default")
                .or_insert_with(|| problem("An error, as problem+json"));
        }
        let item = self.paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(method.to_owned(), operation);
        }
        self
    }

    /// Adds a schema, named as `#/components/schemas/<name>`.
    #[must_use]
    pub(crate) fn schema(mut self, name: &str, schema: Value) -> Self {
        self.schemas.insert(name.to_owned(), schema);
        self
    }

    /// Adds the operations and schemas of another.
    #[must_use]
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        self.schemas.extend(other.schemas);
        self
    }

    /// The document.
    pub fn to_json(&self) -> Value {
        json!({
            "openapi": "3.1.0",
            "info": {"title": self.title, "description": self.description, "version": env!("CARGO_PKG_VERSION")},
            "paths": self.paths,
            "components": {"schemas": self.schemas, "securitySchemes": {
                "user": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "service": {"type": "apiKey", "in": "header", "name": SERVICE_TOKEN.as_str()},
            }},
        })
    }

    /// A page that lists every operation and schema; needs nothing from elsewhere.
    pub fn to_html(&self) -> String {
        page::render(&self.title, &self.description, &self.paths, &self.schemas)
    }

    /// `/openapi.json` and `/docs`.
    pub(crate) fn router(self) -> Router {
        let (document, page) = (self.to_json(), self.to_html());
        Router::new()
            .route("/openapi.json", get(move || std::future::ready(Json(document.clone()))))
            .route("/docs", get(move || std::future::ready(page::answer(page.clone()))))
    }
}

/// A response that is a problem.
pub(crate) fn problem(description: &str) -> Value {
    json!({"description": description, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}})
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_lists_operations_with_a_problem_as_default() {
        let document =
            Document::new("x", "").operation("post", "/a", json!({"responses": {"200": {"description": "ok"}}}));
        let written = document.to_json();
        assert_eq!(
            written["paths"]["/a"]["post"]["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"],
            "#/components/schemas/Problem"
        );
    }
}
