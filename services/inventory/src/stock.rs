//! The words of the stock: ids and quantities that can only be valid, and what was decided about an order. Pure.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An item's id: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ItemId(String);

impl ItemId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ItemId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text))
        } else {
            Err("an item_id has 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        }
    }
}

/// A number of pieces: 1 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct Quantity(i64);

impl Quantity {
    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if (1..=1_000_000).contains(&number) {
            Ok(Self(number))
        } else {
            Err("a quantity is 1 to 1000000")
        }
    }
}

/// What `order` asks for, by HTTP and by event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The order: each of its commands is carried out once.
    pub order_id: Uuid,
    /// The item.
    pub item_id: ItemId,
    /// How many pieces.
    pub quantity: Quantity,
}

/// An item as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// Fewer pieces are available than were asked for.
    OutOfStock,
    /// There is no such item.
    UnknownItem,
    /// The order's release came first.
    Released,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_quantities_have_bounds() {
        for bad in ["", "a b", "ä", "a/b", "\u{0}", &"x".repeat(65)] {
            assert!(ItemId::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(ItemId::try_from("PS5_pro-2.0".to_owned()).is_ok());
        for (number, valid) in [
            (0, false),
            (-1, false),
            (1, true),
            (1_000_000, true),
            (1_000_001, false),
            (i64::MIN, false),
        ] {
            assert_eq!(Quantity::try_from(number).is_ok(), valid, "{number}");
        }
    }
}
