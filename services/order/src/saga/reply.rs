//! What inventory and payment reply, by HTTP or by event, and what that is to the saga. Pure.

use valerix_kit::money::Money;

use super::state::{Input, Reason};

/// A reply to one of the order's commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An input that stands for itself.
    Plain(Input),
    /// The quantity is set aside, at this price; what the order costs depends on its quantity.
    Reserved {
        /// Price of one, minor units.
        unit_price_minor: i64,
        /// ISO 4217 code.
        currency: String,
    },
}

impl Reply {
    /// What inventory's reason for a rejection means. A reservation that came after its release holds nothing, as if the
    /// release had been answered.
    #[must_use]
    pub fn rejected(reason: &str) -> Self {
        Self::Plain(match reason {
            "RELEASED" => Input::Released,
            "UNKNOWN_ITEM" => Input::Rejected(Reason::UnknownItem),
            _ => Input::Rejected(Reason::OutOfStock),
        })
    }

    /// Whether stock is held, or money is kept, by what it says.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(
            self,
            Self::Reserved { .. } | Self::Plain(Input::Committed | Input::Charged)
        )
    }

    /// The saga's input for an order of `quantity`, and what the order costs if that is now known.
    ///
    /// A price that makes no chargeable amount cancels the order: it can never be paid.
    #[must_use]
    pub fn input(&self, quantity: i32) -> (Input, Option<Money>) {
        match self {
            Self::Plain(input) => (*input, None),
            Self::Reserved {
                unit_price_minor,
                currency,
            } => {
                let total = unit_price_minor.checked_mul(i64::from(quantity));
                match total.and_then(|total| Money::new(total, currency.as_str()).ok()) {
                    Some(money) => (Input::Reserved, Some(money)),
                    None => (Input::Cancel(Reason::AmountOutOfRange), None),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_exact_or_cancels_the_order() {
        let input = |unit_price_minor, quantity| {
            let currency = "EUR".to_owned();
            let reply = Reply::Reserved {
                unit_price_minor,
                currency,
            };
            reply.input(quantity)
        };
        for (price, quantity, total) in [(49_900, 3, 149_700), (100_000_000, 10_000, 1_000_000_000_000)] {
            let money = Money::new(total, "EUR").ok();
            assert_eq!(input(price, quantity), (Input::Reserved, money));
        }
        for (price, quantity) in [(0, 3), (-5, 3), (i64::MAX, 2), (100_000_001, 10_000)] {
            assert_eq!(input(price, quantity), (Input::Cancel(Reason::AmountOutOfRange), None));
        }
    }

    #[test]
    fn a_rejection_tells_a_released_order_from_one_that_can_not_be_served() {
        for (reason, input) in [
            ("RELEASED", Input::Released),
            ("UNKNOWN_ITEM", Input::Rejected(Reason::UnknownItem)),
            ("OUT_OF_STOCK", Input::Rejected(Reason::OutOfStock)),
            ("SOMETHING_NEW", Input::Rejected(Reason::OutOfStock)),
        ] {
            assert_eq!(Reply::rejected(reason), Reply::Plain(input));
        }
    }
}
