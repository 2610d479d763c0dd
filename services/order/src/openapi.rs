//! The service's API as an OpenAPI document. Pure.

use serde_json::{Value, json};
use valerix_kit::openapi::{Document, json_body, json_response, path_parameter, problem};

/// The whole document.
#[must_use]
pub fn document() -> Document {
    Document::new("order", "Takes orders and brings each of them to an end. Semantics: README.md of the service.")
        .schema("NewOrder", new_order())
        .schema("Order", order())
        .schema(
            "OrderPage",
            json!({"type": "object", "required": ["orders", "next_cursor"], "properties": {
                "orders": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}},
                "next_cursor": {"type": ["string", "null"], "format": "uuid"},
            }}),
        )
        .operation(
            "post",
            "/api/orders",
            json!({
                "summary": "Place an order",
                "parameters": [{
                    "name": "Idempotency-Key", "in": "header", "required": true,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                }],
                "requestBody": json_body("NewOrder"),
                "responses": {
                    "201": json_response("At its end: CONFIRMED or CANCELLED", "Order"),
                    "202": json_response("Accepted, will be finished: QUEUED or CANCELLING", "Order"),
                    "409": problem("The first request with this key is still being answered"),
                    "422": problem("A field is not acceptable, the item is not known, or the key came with another body"),
                },
            }),
        )
        .operation(
            "get",
            "/api/orders",
            json!({
                "summary": "List orders, newest first",
                "parameters": [
                    {"name": "cursor", "in": "query", "schema": {"type": "string", "format": "uuid"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}},
                ],
                "responses": {"200": json_response("A page", "OrderPage")},
            }),
        )
        .operation(
            "get",
            "/api/orders/{id}",
            json!({
                "summary": "Show an order",
                "parameters": [path_parameter("id", &json!({"type": "string", "format": "uuid"}))],
                "responses": {"200": json_response("The order", "Order"), "404": problem("There is no such order")},
            }),
        )
}

fn new_order() -> Value {
    json!({
        "type": "object",
        "required": ["item_id", "quantity"],
        "additionalProperties": false,
        "properties": {
            "item_id": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._-]+$"},
            "quantity": {"type": "integer", "minimum": 1, "maximum": 10_000},
            "gremlin": {"type": "boolean", "description": "Lose the answers of the fast path; 422 unless chaos is allowed"},
        },
    })
}

fn order() -> Value {
    json!({
        "type": "object",
        "required": ["order_id", "item_id", "quantity", "status", "reason", "amount_minor", "currency"],
        "properties": {
            "order_id": {"type": "string", "format": "uuid"},
            "item_id": {"type": "string"},
            "quantity": {"type": "integer"},
            "status": {"type": "string", "enum": ["QUEUED", "CONFIRMED", "CANCELLING", "CANCELLED", "REFUNDING", "REFUNDED"]},
            "reason": {"type": ["string", "null"]},
            "amount_minor": {"type": ["integer", "null"]},
            "currency": {"type": ["string", "null"]},
        },
    })
}
