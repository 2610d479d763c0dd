//! The words of the stock: what is asked for and what was decided about an order. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use valerix_kit::api::Id;

pub use valerix_kit::item::{ItemId, Quantity};

/// Whose history an order's events are.
#[must_use]
pub fn aggregate(order_id: Uuid) -> String {
    format!("reservation:{order_id}")
}

/// What `order` asks for, by HTTP and by event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeductRequest")]
pub struct Command {
    /// The order: each of its commands is carried out once.
    #[schemars(with = "Id")]
    pub order_id: Uuid,
    /// The item.
    pub item_id: ItemId,
    /// How many pieces.
    pub quantity: Quantity,
    /// Over HTTP: wait 5 s before anything is done.
    #[serde(default)]
    pub gremlin: bool,
}

/// An item as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Item {
    /// Its id.
    pub item_id: String,
    /// Pieces that may be reserved.
    pub available: i64,
    /// All that was ever supplied: seed and restocks.
    pub initial: i64,
    /// Price of one piece in the currency's smallest unit.
    pub unit_price_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// What was decided about an order's stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The order.
    pub order_id: Uuid,
    /// The item.
    pub item_id: String,
    /// How many pieces.
    pub quantity: i64,
    /// The decision.
    pub state: State,
}

/// The decision about an order's stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The pieces are held for the order.
    Reserved(Price),
    /// The order was refused for ever.
    Rejected(Reason),
    /// Nothing is held: given back, or a release came first.
    Released,
    /// The pieces are sold.
    Committed(Price),
    /// The pieces were sold and have come back.
    Returned,
}

/// What one piece cost when it was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// In the currency's smallest unit.
    pub unit_price_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// Why a reservation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// Fewer pieces are available than were asked for.
    OutOfStock,
    /// There is no such item.
    UnknownItem,
    /// The order's release came first.
    Released,
}
