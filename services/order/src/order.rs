//! An order and what can become of it. Pure.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use valerix_kit::item::ItemId;
use valerix_kit::money::Money;

use crate::saga::state::{Reason, State};

/// One order, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id, v7.
    pub id: Uuid,
    /// Whose it is: `anonymous`, or `user:<uuid>`.
    pub principal: String,
    /// What was ordered.
    pub item_id: String,
    /// How many, 1 to 10,000.
    pub quantity: i32,
    /// Inventory is to be slow about it over HTTP.
    pub gremlin: bool,
    /// The probe of a chaos experiment placed it: it goes the whole way and buys nothing.
    pub probe: bool,
    /// Where it stands.
    pub state: State,
    /// What it costs, once inventory has said so.
    pub amount: Option<Money>,
    /// Version of the aggregate `order:{id}`.
    pub version: i64,
    /// When it was taken in.
    pub created_at: DateTime<Utc>,
    /// W3C trace context of the request that placed it; may be empty.
    pub traceparent: String,
}

/// Whose the orders are that nobody signed in has placed.
pub const ANONYMOUS: &str = "anonymous";
/// The item of an order that was forgotten and of which payment alone has spoken.
pub const UNKNOWN_ITEM: &str = "unknown";
/// Why an order that the probe of a chaos experiment placed does not stay sold.
pub const PROBE: &str = "PROBE";

impl Order {
    /// The user who placed it; `None`: a guest.
    #[must_use]
    pub fn user_id(&self) -> Option<Uuid> {
        self.principal.strip_prefix("user:")?.parse().ok()
    }

    /// Why it is not, or does not stay, sold, as answers and announcements say it.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self.state {
            State::Refunding | State::Refunded => self.probe.then_some(PROBE),
            state => state.reason().map(Reason::name),
        }
    }
}

/// An order that was not stored yet.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Its id, v7.
    pub id: Uuid,
    /// Whose it is: [`ANONYMOUS`], or `user:<uuid>`.
    pub principal: String,
    /// What is ordered.
    pub item_id: ItemId,
    /// How many, 1 to 10,000.
    pub quantity: i32,
    /// Inventory is to be slow about it over HTTP.
    pub gremlin: bool,
    /// The probe of a chaos experiment places it.
    pub probe: bool,
}

/// What became of an input.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The order after it.
    pub order: Order,
    /// Where it stood before.
    pub before: State,
}
