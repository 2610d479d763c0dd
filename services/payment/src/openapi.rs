//! The service's API as an OpenAPI document. Pure.

use serde_json::{Value, json};
use valerix_kit::openapi::{Document, json_body, json_response, path_parameter, problem};

/// The whole document.
#[must_use]
pub fn document() -> Document {
    Document::new(
        "payment",
        "Takes the money of an order once. Semantics: README.md of the service.",
    )
    .schema("NewPayment", new_payment())
    .schema(
        "Void",
        json!({
            "type": "object",
            "required": ["order_id"],
            "additionalProperties": false,
            "properties": {"order_id": {"type": "string", "format": "uuid"}},
        }),
    )
    .schema("Payment", payment())
    .operation(
        "post",
        "/payments",
        json!({
            "summary": "Charge an order",
            "parameters": [{
                "name": "Idempotency-Key", "in": "header", "required": true,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }],
            "requestBody": json_body("NewPayment"),
            "responses": {
                "201": json_response("CHARGED", "Payment"),
                "202": json_response("PROCESSING: the processor has not answered in time", "Payment"),
                "402": problem("Declined; the member payment shows the payment"),
                "409": problem("Voided, or the first request with this key is still being answered"),
            },
        }),
    )
    .operation(
        "post",
        "/payments/void",
        json!({
            "summary": "Give an order's payment up, whether or not it was asked for",
            "requestBody": json_body("Void"),
            "responses": {"200": json_response("The payment as it is now", "Payment")},
        }),
    )
    .operation(
        "get",
        "/payments/{id}",
        json!({
            "summary": "Show a payment",
            "parameters": [path_parameter("id", &json!({"type": "string", "format": "uuid"}))],
            "responses": {"200": json_response("The payment", "Payment"), "404": problem("There is no such payment")},
        }),
    )
}

fn new_payment() -> Value {
    json!({
        "type": "object",
        "required": ["order_id", "amount_minor", "currency"],
        "additionalProperties": false,
        "properties": {
            "order_id": {"type": "string", "format": "uuid"},
            "amount_minor": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000_000_i64},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        },
    })
}

fn payment() -> Value {
    json!({
        "type": "object",
        "required": ["payment_id", "order_id", "amount_minor", "currency", "status", "reason"],
        "properties": {
            "payment_id": {"type": "string", "format": "uuid"},
            "order_id": {"type": "string", "format": "uuid"},
            "amount_minor": {"type": ["integer", "null"]},
            "currency": {"type": ["string", "null"]},
            "status": {"type": "string", "enum": ["PROCESSING", "CHARGED", "DECLINED", "VOIDED", "REFUNDING", "REFUNDED"]},
            "reason": {"type": ["string", "null"]},
        },
    })
}
