//! The words of the ledger: keys, amounts and currencies that can only be valid, and a charge. Pure.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The caller's key for a charge: 1 to 128 visible ASCII characters without `/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline, extend("pattern" = "^[!-.0-~]{1,128}$"))]
pub struct Key(String);

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
            Ok(Self(text))
        } else {
            Err("a key has 1 to 128 visible ASCII characters without /")
        }
    }
}

/// An amount in the currency's smallest unit: 1 to 10^15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "i64")]
#[schemars(with = "i64", inline, extend("minimum" = 1, "maximum" = 1_000_000_000_000_000_i64))]
pub struct Amount(i64);

impl Amount {
    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Amount {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if (1..=1_000_000_000_000_000).contains(&number) {
            Ok(Self(number))
        } else {
            Err("an amount_minor is 1 to 1000000000000000")
        }
    }
}

/// ISO 4217 by form: three capitals.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline, extend("pattern" = "^[A-Z]{3}$"))]
pub struct Currency(String);

impl Currency {
    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err("a currency has three capitals, e.g. EUR")
        }
    }
}

/// What a caller asks for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ChargeRequest {
    /// One charge is made per key.
    pub key: Key,
    /// How much.
    pub amount_minor: Amount,
    /// Of what.
    pub currency: Currency,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Charge {
    /// Its place in the ledger.
    #[serde(skip)]
    pub sequence: i64,
    /// The caller's key.
    pub key: String,
    /// In the currency's smallest unit; none of a key that was cancelled before it was charged.
    pub amount_minor: Option<i64>,
    /// ISO 4217; none likewise.
    pub currency: Option<String>,
    /// `SUCCEEDED`, `DECLINED`, `REFUNDED` or `CANCELLED`.
    pub status: String,
    /// Why it was declined.
    pub reason: Option<String>,
    /// When it was decided.
    pub created_at: DateTime<Utc>,
    /// When it was given back.
    pub refunded_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_amounts_and_currencies_have_bounds() {
        for bad in ["", "a b", "a/b", "ä", "\u{0}", &"x".repeat(129)] {
            assert!(Key::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(Key::try_from("payment:0198".to_owned()).is_ok());
        for (number, valid) in [
            (0, false),
            (-5, false),
            (1, true),
            (1_000_000_000_000_000, true),
            (i64::MAX, false),
        ] {
            assert_eq!(Amount::try_from(number).is_ok(), valid, "{number}");
        }
        for bad in ["", "eur", "EU", "EURO", "ÄÖÜ"] {
            assert!(Currency::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
