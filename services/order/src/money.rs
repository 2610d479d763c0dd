//! Money in integer minor units. Pure.

/// The largest amount that the processor takes, in minor units.
pub const MAXIMUM_AMOUNT_MINOR: i64 = 1_000_000_000_000;

/// An amount that can be charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// Minor units (cents) of the currency, 1 to [`MAXIMUM_AMOUNT_MINOR`].
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
}

impl Money {
    /// Price times quantity; `None` if that is not an amount that can be charged.
    #[must_use]
    pub fn total(unit_price_minor: i64, quantity: i32, currency: &str) -> Option<Self> {
        let amount_minor = unit_price_minor.checked_mul(i64::from(quantity))?;
        (1..=MAXIMUM_AMOUNT_MINOR).contains(&amount_minor).then(|| Self {
            amount_minor,
            currency: currency.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_exact_or_refused() {
        assert_eq!(
            Money::total(49_900, 3, "EUR").map(|money| money.amount_minor),
            Some(149_700)
        );
        assert_eq!(Money::total(0, 3, "EUR"), None);
        assert_eq!(Money::total(-5, 3, "EUR"), None);
        assert_eq!(Money::total(i64::MAX, 2, "EUR"), None);
        assert_eq!(
            Money::total(100_000_000, 10_000, "EUR").map(|money| money.amount_minor),
            Some(MAXIMUM_AMOUNT_MINOR)
        );
        assert_eq!(Money::total(100_000_001, 10_000, "EUR"), None);
    }
}
