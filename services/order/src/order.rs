//! An order and what can become of it. Pure.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use valerix_kit::item::ItemId;
use valerix_kit::money::Money;

use crate::saga::state::State;

/// One order, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id, v7.
    pub id: Uuid,
    /// What was ordered.
    pub item_id: String,
    /// How many, 1 to 10,000.
    pub quantity: i32,
    /// The answers of its fast path are thrown away.
    pub gremlin: bool,
    /// Where it stands.
    pub state: State,
    /// What it costs, once inventory has said so.
    pub amount: Option<Money>,
    /// Version of the aggregate `order:{id}`.
    pub version: i64,
    /// When it was taken in.
    pub created_at: DateTime<Utc>,
}

/// An order that was not stored yet.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Its id, v7.
    pub id: Uuid,
    /// Whose it is.
    pub principal: String,
    /// What is ordered.
    pub item_id: ItemId,
    /// How many, 1 to 10,000.
    pub quantity: i32,
    /// The answers of its fast path are thrown away.
    pub gremlin: bool,
}

/// What became of an input.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The order after it.
    pub order: Order,
    /// Where it stood before.
    pub before: State,
}
