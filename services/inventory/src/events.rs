//! The streams of commands and of the events that answer them. The wire format is in the README.

use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;
use valerix_kit::api::Id;
use valerix_kit::events::{NewEvent, outbox};

use crate::stock::{Reason, Reservation, State, aggregate};
use crate::store;

/// The stream of commands to this service.
pub const COMMANDS: &str = "inventory.commands";
/// The stream of what this service says.
pub const EVENTS: &str = "inventory.events";
/// The consumer group of this service.
pub const GROUP: &str = "inventory";

/// `InventoryReserved`
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct Reserved<'a> {
    #[schemars(with = "Id")]
    order_id: uuid::Uuid,
    item_id: &'a str,
    quantity: i64,
    unit_price_minor: i64,
    currency: &'a str,
}

/// `InventoryRejected`
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct Rejected<'a> {
    #[schemars(with = "Id")]
    order_id: uuid::Uuid,
    item_id: &'a str,
    quantity: i64,
    reason: Reason,
}

/// `StockReleased`, `StockCommitted`, `StockReturned`
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct Moved<'a> {
    #[schemars(with = "Id")]
    order_id: uuid::Uuid,
    item_id: &'a str,
    quantity: i64,
}

/// Which command is answered: the same state means different things to different askers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// ReserveStock.
    Reserve,
    /// ReleaseStock.
    Release,
    /// CommitStock.
    Commit,
    /// ReturnStock.
    Return,
}

/// Appends the answer to the outbox, in the transaction of the decision; returns its version.
///
/// # Errors
/// The statement's.
pub async fn publish(
    connection: &mut PgConnection,
    reservation: &Reservation,
    asked: Asked,
) -> Result<i64, sqlx::Error> {
    let Reservation {
        order_id,
        item_id,
        quantity,
        state,
    } = reservation;
    let (order_id, item_id, quantity) = (*order_id, item_id.as_str(), *quantity);
    let aggregate = aggregate(order_id);
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
    let event = match (asked, state) {
        (Asked::Release, _) => NewEvent::new(EVENTS, "StockReleased", aggregate, version, &moved),
        (Asked::Commit, _) => NewEvent::new(EVENTS, "StockCommitted", aggregate, version, &moved),
        (Asked::Return, _) => NewEvent::new(EVENTS, "StockReturned", aggregate, version, &moved),
        (Asked::Reserve, State::Reserved(price) | State::Committed(price)) => {
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
        (Asked::Reserve, State::Rejected(reason)) => {
            NewEvent::new(EVENTS, "InventoryRejected", aggregate, version, &rejected(*reason))
        }
        (Asked::Reserve, State::Released | State::Returned) => NewEvent::new(
            EVENTS,
            "InventoryRejected",
            aggregate,
            version,
            &rejected(Reason::Released),
        ),
    };
    let event = event.map_err(|error| sqlx::Error::Encode(error.into()))?;
    outbox::append(connection, &event).await.map(|_| version)
}

#[cfg(test)]
mod tests {
    use valerix_kit::testing::schemas::EventSchemas;

    use super::*;

    #[test]
    fn what_is_published_is_described_and_older_events_are_still_understood() {
        EventSchemas::new("inventory")
            .event::<Reserved>(EVENTS, "InventoryReserved")
            .event::<Rejected>(EVENTS, "InventoryRejected")
            .event::<Moved>(EVENTS, "StockReleased")
            .event::<Moved>(EVENTS, "StockCommitted")
            .event::<Moved>(EVENTS, "StockReturned")
            .check(env!("CARGO_MANIFEST_DIR"));
    }
}
