//! `POST /api/inventory/deduct`: ReserveStock by HTTP.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};
use valerix_kit::extract::Json;
use valerix_kit::openapi::{Document, json_body, json_response};
use valerix_kit::postgres::begin;
use valerix_kit::problem::Problem;

use super::AppState;
use crate::commands::{self, CommandError};
use crate::events::{self, Answer};
use crate::stock::{self, Command, Reason, Reservation};

pub(super) fn router() -> Router<AppState> {
    Router::new().route("/api/inventory/deduct", post(deduct))
}

async fn deduct(State(state): State<AppState>, Json(command): Json<Command>) -> Result<Json<Value>, Problem> {
    let database = |error: sqlx::Error| Problem::from_sqlx(&error);
    let mut transaction = begin(&state.pool).await.map_err(database)?;
    let (reservation, new) = commands::reserve(&mut transaction, &command).await.map_err(refused)?;
    if new {
        events::publish(&mut transaction, &reservation, Answer::Reserve)
            .await
            .map_err(database)?;
    }
    transaction.commit().await.map_err(database)?;
    if new {
        state.relay.wake();
    }
    answer(&reservation)
}

fn refused(error: CommandError) -> Problem {
    match error {
        CommandError::Store(error) => Problem::from_sqlx(&error),
        CommandError::KeyReused { item_id, quantity, .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            format!("this order has asked for {quantity} of {item_id} before"),
        ),
        // Reserving is never out of turn.
        error @ CommandError::OutOfTurn { .. } => Problem::internal(&error),
    }
}

/// A refusal of the business is an answer: it must not look like a failure to a breaker.
fn answer(reservation: &Reservation) -> Result<Json<Value>, Problem> {
    let Reservation {
        order_id,
        item_id,
        quantity,
        state,
    } = reservation;
    let mut body = json!({"outcome": "", "order_id": order_id, "item_id": item_id, "quantity": quantity});
    match state {
        stock::State::Reserved(price) | stock::State::Committed(price) => {
            body["outcome"] = "RESERVED".into();
            body["unit_price_minor"] = price.unit_price_minor.into();
            body["currency"] = price.currency.as_str().into();
        }
        stock::State::Rejected(Reason::UnknownItem) => return Err(super::items::unknown(item_id)),
        stock::State::Rejected(reason) => {
            body["outcome"] = "REJECTED".into();
            body["reason"] = json!(reason);
        }
        stock::State::Released => body["outcome"] = "RELEASED".into(),
    }
    Ok(Json(body))
}

pub(super) fn describe(document: Document) -> Document {
    document
        .schema(
            "DeductRequest",
            json!({
                "type": "object",
                "required": ["order_id", "item_id", "quantity"],
                "properties": {
                    "order_id": {"type": "string", "format": "uuid"},
                    "item_id": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
                    "quantity": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                },
            }),
        )
        .schema(
            "DeductAnswer",
            json!({
                "type": "object",
                "required": ["outcome", "order_id", "item_id", "quantity"],
                "properties": {
                    "outcome": {"enum": ["RESERVED", "REJECTED", "RELEASED"]},
                    "order_id": {"type": "string", "format": "uuid"},
                    "item_id": {"type": "string"},
                    "quantity": {"type": "integer"},
                    "reason": {"enum": ["OUT_OF_STOCK"]},
                    "unit_price_minor": {"type": "integer"},
                    "currency": {"type": "string"},
                },
            }),
        )
        .operation(
            "post",
            "/api/inventory/deduct",
            json!({
                "summary": "ReserveStock: once per order id, refusals included",
                "requestBody": json_body("DeductRequest"),
                "responses": {"200": json_response("What was decided about the order's stock", "DeductAnswer")},
            }),
        )
}
