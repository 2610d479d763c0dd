//! The words for goods that order and inventory share: an item's id and a number of pieces that can only be valid. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most pieces that are moved at once: reserved, released or restocked.
pub const LARGEST_QUANTITY: i64 = 1_000_000;
/// The most pieces in one order.
pub const LARGEST_ORDER: i64 = 10_000;

/// An item's id: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline, extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
pub struct ItemId(String);

impl ItemId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> Self {
        id.0
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

/// A number of pieces: 1 to [`LARGEST_QUANTITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64")]
#[schemars(with = "i64", inline, extend("minimum" = 1, "maximum" = 1_000_000))]
pub struct Quantity(i64);

impl Quantity {
    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if (1..=LARGEST_QUANTITY).contains(&number) {
            Ok(Self(number))
        } else {
            Err("a quantity is 1 to 1000000")
        }
    }
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
        // Whatever can be ordered can be reserved.
        assert!(Quantity::try_from(LARGEST_ORDER).is_ok());
    }
}
