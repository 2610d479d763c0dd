//! `GET /api/inventory/{item_id}` and `POST /api/inventory/restock`.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path};
use valerix_kit::openapi::{Document, json_body, json_response, path_parameter, problem};
use valerix_kit::problem::Problem;
use valerix_resilience::idempotency::{IdempotencyError, IdempotentRequest, Local, StoredAnswer, refusals};

use super::AppState;
use crate::stock::{Item, ItemId, Quantity};
use crate::store;

const RESTOCK: &str = "/api/inventory/restock";
/// Who restocks: anyone, until callers prove who they are.
const PRINCIPAL: &str = "anonymous";

pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/inventory/{item_id}", get(show))
        .route(RESTOCK, post(restock))
}

#[derive(Deserialize)]
struct Restock {
    item_id: ItemId,
    quantity: Quantity,
}

async fn show(State(state): State<AppState>, Path(item_id): Path<String>) -> Result<Json<Item>, Problem> {
    let absent = || Problem::not_found("unknown-item", "there is no such item");
    // What can not be an id is no item either.
    let item_id = ItemId::try_from(item_id).map_err(|_| absent())?;
    let item = store::item(&state.pool, item_id.as_str())
        .await
        .map_err(|error| Problem::from_sqlx(&error))?;
    item.map(Json).ok_or_else(absent)
}

async fn restock(
    State(state): State<AppState>,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let Restock { item_id, quantity } = body.parse()?;
    let request = IdempotentRequest::new(&key, PRINCIPAL, &Method::POST, RESTOCK, RESTOCK, &body.0);
    let unstored = |error: IdempotencyError| Problem::from_idempotency(&error);
    let idempotency = state.resilience.idempotency();
    let mut claim = match idempotency.begin(&state.pool, &request).await.map_err(unstored)? {
        Local::Fresh(claim) => claim,
        Local::Replay(answer) => return Ok(answer.into_response()),
        Local::InProgress => return Ok(refusals::in_progress().into_response()),
        Local::Mismatch => return Ok(refusals::mismatch().into_response()),
    };
    let item = store::add_stock(claim.transaction(), item_id.as_str(), quantity.get())
        .await
        .map_err(|error| Problem::from_sqlx(&error))?
        .ok_or_else(|| unknown(item_id.as_str()))?;
    let answer = StoredAnswer::json(StatusCode::OK, &item).map_err(|error| Problem::internal(&error))?;
    Ok(claim
        .commit(answer)
        .await
        .map_err(unstored)?
        .into_answer()
        .into_response())
}

/// The item that a request names does not exist.
pub(super) fn unknown(item_id: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "unknown-item",
        format!("there is no item {item_id}"),
    )
    .with(
        "errors",
        json!([{"field": "/item_id", "detail": "there is no such item"}]),
    )
}

pub(super) fn describe(document: Document) -> Document {
    let item_id = json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"});
    document
        .schema(
            "Item",
            json!({
                "type": "object",
                "required": ["item_id", "available", "initial", "unit_price_minor", "currency"],
                "properties": {
                    "item_id": {"type": "string"},
                    "available": {"type": "integer", "minimum": 0, "description": "Pieces that may be reserved"},
                    "initial": {"type": "integer", "minimum": 0, "description": "All that was ever supplied"},
                    "unit_price_minor": {"type": "integer", "description": "In the currency's smallest unit"},
                    "currency": {"type": "string"},
                },
            }),
        )
        .schema(
            "RestockRequest",
            json!({
                "type": "object",
                "required": ["item_id", "quantity"],
                "properties": {
                    "item_id": item_id,
                    "quantity": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                },
            }),
        )
        .operation(
            "get",
            "/api/inventory/{item_id}",
            json!({
                "summary": "One item",
                "parameters": [path_parameter("item_id", &json!({"type": "string"}))],
                "responses": {"200": json_response("The item", "Item"), "404": problem("No such item")},
            }),
        )
        .operation(
            "post",
            RESTOCK,
            json!({
                "summary": "Adds pieces, once per Idempotency-Key",
                "parameters": [{
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": true,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                }],
                "requestBody": json_body("RestockRequest"),
                "responses": {"200": json_response("The item as it was after that", "Item")},
            }),
        )
}
