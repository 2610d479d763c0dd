//! Money in integer minor units: an amount that can be charged, or the reason why it cannot. Pure.

use std::fmt;

/// The largest amount that can be charged, in minor units.
pub const LARGEST_AMOUNT_MINOR: i64 = 1_000_000_000_000;

/// An amount that can be charged. There is no other way to make one than [`Money::new`], so whoever holds one need not
/// look at it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    amount_minor: i64,
    currency: String,
}

/// Why there is no such amount: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidMoney {
    /// Name of the field (`amount_minor` or `currency`) and what it must be.
    pub errors: Vec<(&'static str, &'static str)>,
}

impl fmt::Display for InvalidMoney {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, detail)) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{field} {detail}")?;
        }
        Ok(())
    }
}

impl Money {
    /// `amount_minor` minor units (cents) of `currency`, an ISO 4217 code.
    ///
    /// ```
    /// use valerix_kit::money::Money;
    ///
    /// assert_eq!(Money::new(49_900, "EUR")?.amount_minor(), 49_900);
    /// let error = Money::new(0, "eur").unwrap_err();
    /// assert_eq!(error.to_string(), "amount_minor must be 1 to 1000000000000; currency must be three capital letters");
    /// # Ok::<(), valerix_kit::money::InvalidMoney>(())
    /// ```
    ///
    /// # Errors
    /// When the amount is not 1 to [`LARGEST_AMOUNT_MINOR`] or the currency is not three capital letters.
    pub fn new(amount_minor: i64, currency: impl Into<String>) -> Result<Self, InvalidMoney> {
        let currency = currency.into();
        let mut errors = vec![];
        if !(1..=LARGEST_AMOUNT_MINOR).contains(&amount_minor) {
            errors.push(("amount_minor", "must be 1 to 1000000000000"));
        }
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            errors.push(("currency", "must be three capital letters"));
        }
        if errors.is_empty() {
            Ok(Self { amount_minor, currency })
        } else {
            Err(InvalidMoney { errors })
        }
    }

    /// Minor units (cents) of the currency, 1 to [`LARGEST_AMOUNT_MINOR`].
    #[must_use]
    pub const fn amount_minor(&self) -> i64 {
        self.amount_minor
    }

    /// ISO 4217 code.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_that_can_not_be_charged_is_refused_with_every_reason() {
        for (amount, currency, wrong) in [
            (1, "EUR", vec![]),
            (LARGEST_AMOUNT_MINOR, "USD", vec![]),
            (0, "EUR", vec!["amount_minor"]),
            (-5, "EUR", vec!["amount_minor"]),
            (LARGEST_AMOUNT_MINOR + 1, "EUR", vec!["amount_minor"]),
            (1, "eur", vec!["currency"]),
            (1, "EURO", vec!["currency"]),
            (1, "E\u{0}R", vec!["currency"]),
            (i64::MIN, "", vec!["amount_minor", "currency"]),
        ] {
            let errors = Money::new(amount, currency).map_or_else(|error| error.errors, |_| vec![]);
            let fields: Vec<_> = errors.iter().map(|(field, _)| *field).collect();
            assert_eq!(fields, wrong, "{amount} {currency:?}");
        }
    }
}
