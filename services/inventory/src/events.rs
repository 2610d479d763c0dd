//! The commands that arrive by event and the events that answer them. The wire format is in the README.

use async_trait::async_trait;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{Event, Handler, HandlerError, NewEvent, inbox, outbox};
use valerix_kit::postgres::begin;

use crate::commands::{self, CommandError};
use crate::stock::{Command, Reason, Reservation, State};
use crate::store;

/// The stream of commands to this service.
pub const COMMANDS: &str = "inventory.commands";
/// The stream of what this service says.
pub const EVENTS: &str = "inventory.events";
/// The consumer group of this service.
pub const GROUP: &str = "inventory";

/// `InventoryReserved`
#[derive(Clone, Debug, Serialize)]
struct Reserved<'a> {
    order_id: uuid::Uuid,
    item_id: &'a str,
    quantity: i64,
    unit_price_minor: i64,
    currency: &'a str,
}

/// `InventoryRejected`
#[derive(Clone, Debug, Serialize)]
struct Rejected<'a> {
    order_id: uuid::Uuid,
    item_id: &'a str,
    quantity: i64,
    reason: Reason,
}

/// `StockReleased`, `StockCommitted`
#[derive(Clone, Debug, Serialize)]
struct Moved<'a> {
    order_id: uuid::Uuid,
    item_id: &'a str,
    quantity: i64,
}

/// Which command an event answers: the same state means different things to different askers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To ReserveStock.
    Reserve,
    /// To ReleaseStock.
    Release,
    /// To CommitStock.
    Commit,
}

/// Appends the answer to the outbox, in the transaction of the decision.
///
/// # Errors
/// The statement's.
pub async fn publish(
    connection: &mut PgConnection,
    reservation: &Reservation,
    answer: Answer,
) -> Result<(), sqlx::Error> {
    let Reservation {
        order_id,
        item_id,
        quantity,
        state,
    } = reservation;
    let (order_id, item_id, quantity) = (*order_id, item_id.as_str(), *quantity);
    let aggregate = format!("reservation:{order_id}");
    let version = store::next_version(connection, order_id).await?;
    let rejected = |reason| Rejected {
        order_id,
        item_id,
        quantity,
        reason,
    };
    let moved = Moved {
        order_id,
        item_id,
        quantity,
    };
    let event = match (answer, state) {
        (Answer::Release, _) => NewEvent::new(EVENTS, "StockReleased", aggregate, version, &moved),
        (Answer::Commit, _) => NewEvent::new(EVENTS, "StockCommitted", aggregate, version, &moved),
        (Answer::Reserve, State::Reserved(price) | State::Committed(price)) => {
            let (unit_price_minor, currency) = (price.unit_price_minor, price.currency.as_str());
            let reserved = Reserved {
                order_id,
                item_id,
                quantity,
                unit_price_minor,
                currency,
            };
            NewEvent::new(EVENTS, "InventoryReserved", aggregate, version, &reserved)
        }
        (Answer::Reserve, State::Rejected(reason)) => {
            NewEvent::new(EVENTS, "InventoryRejected", aggregate, version, &rejected(*reason))
        }
        (Answer::Reserve, State::Released) => NewEvent::new(
            EVENTS,
            "InventoryRejected",
            aggregate,
            version,
            &rejected(Reason::Released),
        ),
    };
    let event = event.map_err(|error| sqlx::Error::Encode(error.into()))?;
    outbox::append(connection, &event).await.map(|_| ())
}

/// Carries out commands that arrive by event, each event once, and answers each of them.
pub struct Commands {
    pool: PgPool,
    relay: Relay,
}

impl Commands {
    /// Works on `pool` and wakes `relay` for the answers.
    pub fn new(pool: PgPool, relay: Relay) -> Self {
        Self { pool, relay }
    }
}

#[async_trait]
impl Handler for Commands {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let answer = match event.event_type.as_str() {
            "ReserveStock" => Answer::Reserve,
            "ReleaseStock" => Answer::Release,
            "CommitStock" => Answer::Commit,
            other => return Err(HandlerError::failed(format!("{other} is not a command of inventory"))),
        };
        let command: Command = event.payload()?;
        let database = |error: sqlx::Error| HandlerError::from_sqlx(&error);
        let mut transaction = begin(&self.pool).await.map_err(database)?;
        if !inbox::claim(&mut transaction, GROUP, event.id)
            .await
            .map_err(database)?
        {
            return Ok(());
        }
        let carried_out = match answer {
            Answer::Reserve => commands::reserve(&mut transaction, &command)
                .await
                .map(|(reservation, _)| reservation),
            Answer::Release => commands::release(&mut transaction, &command).await,
            Answer::Commit => commands::commit(&mut transaction, &command).await,
        };
        let reservation = carried_out.map_err(|error| match error {
            CommandError::Store(error) => database(error),
            refused => HandlerError::failed(refused.to_string()),
        })?;
        publish(&mut transaction, &reservation, answer)
            .await
            .map_err(database)?;
        transaction.commit().await.map_err(database)?;
        self.relay.wake();
        Ok(())
    }
}
