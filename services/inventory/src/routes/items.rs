//! `GET /api/inventory`, `GET /api/inventory/{item_id}` and `POST /api/inventory/restock`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path, Query};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::page::Page;
use valerix_kit::problem::{Problem, from_idempotency, from_sqlx};
use valerix_resilience::idempotency::{IdempotencyError, IdempotentRequest, Local, StoredAnswer, refusals};

use super::AppState;
use crate::stock::{Item, ItemId, Quantity};
use crate::store;

const RESTOCK: &str = "/api/inventory/restock";

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let several = Operation::new("The items, by id", Access::Public)
        .query::<Page<ItemId>>()
        .answer::<ItemPage>(200, "A page");
    let one = Operation::new("One item", Access::Public)
        .answer::<Item>(200, "The item")
        .problem(404, "No such item");
    let more = Operation::new("Adds pieces, once per Idempotency-Key", Access::Admin)
        .idempotency_key()
        .body::<Restock>(json!({"item_id": "ps5", "quantity": 10}))
        .answer::<Item>(200, "The item as it was after that")
        .problem(409, "The first request with this key is still being answered")
        .problem(422, "No such item, or the key came with another body");
    api.get("/api/inventory", list, several)
        .get("/api/inventory/{item_id}", show, one)
        .post(RESTOCK, restock, more)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RestockRequest")]
pub(super) struct Restock {
    pub(super) item_id: ItemId,
    pub(super) quantity: Quantity,
}

#[derive(Serialize, JsonSchema)]
struct ItemPage {
    items: Vec<Item>,
    next_cursor: Option<String>,
}

async fn list(
    State(state): State<AppState>,
    Query(Page { cursor, limit }): Query<Page<ItemId>>,
) -> Result<Json<ItemPage>, Problem> {
    let items = store::page(&state.pool, cursor.as_ref().map(ItemId::as_str), limit.rows())
        .await
        .map_err(|error| from_sqlx(&error))?;
    let (items, next_cursor) = limit.cut(items, |item| item.item_id.clone());
    Ok(Json(ItemPage { items, next_cursor }))
}

async fn show(State(state): State<AppState>, Path(item_id): Path<String>) -> Result<Json<Item>, Problem> {
    let absent = || Problem::not_found("unknown-item", "there is no such item");
    // What can not be an id is no item either.
    let item_id = ItemId::try_from(item_id).map_err(|_| absent())?;
    let item = store::item(&state.pool, item_id.as_str())
        .await
        .map_err(|error| from_sqlx(&error))?;
    item.map(Json).ok_or_else(absent)
}

async fn restock(
    State(state): State<AppState>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let Restock { item_id, quantity } = body.parse()?;
    let request = IdempotentRequest::new(&key, &caller.principal(), &Method::POST, RESTOCK, RESTOCK, &body.0);
    let unstored = |error: IdempotencyError| from_idempotency(&error);
    let idempotency = state.resilience.idempotency();
    let mut claim = match idempotency.begin(&state.pool, &request).await.map_err(unstored)? {
        Local::Fresh(claim) => claim,
        Local::Replay(answer) => return Ok(answer.into_response()),
        Local::InProgress => return Ok(refusals::in_progress().into_response()),
        Local::Mismatch => return Ok(refusals::mismatch().into_response()),
    };
    let item = store::add_stock(claim.transaction(), item_id.as_str(), quantity.get())
        .await
        .map_err(|error| from_sqlx(&error))?
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
    unknown_at("/item_id", item_id)
}

/// The same, where `field` names it.
pub(super) fn unknown_at(field: &str, item_id: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "unknown-item",
        format!("there is no item {item_id}"),
    )
    .with("errors", json!([{"field": field, "detail": "there is no such item"}]))
}
