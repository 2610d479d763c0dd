//! `POST /api/inventory/deduct`: ReserveStock by HTTP.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::{Api, Id, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;
use valerix_kit::postgres::begin;
use valerix_kit::problem::{Problem, from_sqlx};

use super::AppState;
use crate::commands::{Answered, CommandError, carry_out};
use crate::events::Asked;
use crate::stock::{self, Command, Reason, Reservation};

/// How long a gremlin keeps a caller waiting: longer than order's budget.
const GREMLIN: Duration = Duration::from_secs(5);

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let operation = Operation::new(
        "ReserveStock: once per order id, refusals included",
        Access::Service(&["order"]),
    )
    .body::<Command>(json!({"order_id": "0198f1a2-7c3e-7d40-9a51-3f6b2c8d4e10", "item_id": "ps5", "quantity": 1}))
    .answer::<Decision>(200, "What was decided about the order's stock")
    .problem(422, "No such item, or this order id was asked for something else");
    api.post("/api/inventory/deduct", deduct, operation)
}

async fn deduct(State(state): State<AppState>, Json(command): Json<Command>) -> Result<Json<Decision>, Problem> {
    if command.gremlin {
        tokio::time::sleep(GREMLIN).await;
    }
    let database = |error: sqlx::Error| from_sqlx(&error);
    let mut transaction = begin(&state.pool).await.map_err(database)?;
    let carried_out = carry_out(&mut transaction, &command, Asked::Reserve, Answered::Once).await;
    let (reservation, new) = carried_out.map_err(refused)?;
    transaction.commit().await.map_err(database)?;
    if new {
        state.relay.wake();
    }
    decision(reservation)
}

fn refused(error: CommandError) -> Problem {
    match error {
        CommandError::Store(error) => from_sqlx(&error),
        CommandError::KeyReused { item_id, quantity, .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            format!("this order has asked for {quantity} of {item_id} before"),
        ),
        // Reserving is never out of turn.
        error @ CommandError::OutOfTurn { .. } => Problem::internal(&error),
    }
}

/// What was decided about an order's stock.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "SCREAMING_SNAKE_CASE")]
enum Decision {
    /// The pieces are held for the order, or sold.
    Reserved {
        #[schemars(with = "Id")]
        order_id: Uuid,
        item_id: String,
        quantity: i64,
        /// In the currency's smallest unit.
        unit_price_minor: i64,
        currency: String,
    },
    /// The order was refused for ever.
    Rejected {
        #[schemars(with = "Id")]
        order_id: Uuid,
        item_id: String,
        quantity: i64,
        reason: Reason,
    },
    /// Nothing is held: given back, or a release came first.
    Released {
        #[schemars(with = "Id")]
        order_id: Uuid,
        item_id: String,
        quantity: i64,
    },
}

/// A refusal of the business is an answer: it must not look like a failure to a breaker.
fn decision(reservation: Reservation) -> Result<Json<Decision>, Problem> {
    let Reservation {
        order_id,
        item_id,
        quantity,
        state,
    } = reservation;
    Ok(Json(match state {
        stock::State::Reserved(price) | stock::State::Committed(price) => Decision::Reserved {
            order_id,
            item_id,
            quantity,
            unit_price_minor: price.unit_price_minor,
            currency: price.currency,
        },
        stock::State::Rejected(Reason::UnknownItem) => return Err(super::items::unknown(&item_id)),
        stock::State::Rejected(reason) => Decision::Rejected {
            order_id,
            item_id,
            quantity,
            reason,
        },
        stock::State::Released | stock::State::Returned => Decision::Released {
            order_id,
            item_id,
            quantity,
        },
    }))
}
