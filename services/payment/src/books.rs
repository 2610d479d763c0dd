//! What a payment and the processor's charge of the same key must say of each other, and what was found where all of them
//! were compared. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use valerix_kit::api::Id;
use valerix_kit::money::Money;

use crate::payment::Payment;
use crate::saga::state::State;

/// Differences that are named; the others are counted.
const NAMED: usize = 1_000;

/// A charge in the processor's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Charge {
    /// Its key: the payment's id, if it is of ours.
    pub key: String,
    /// `SUCCEEDED`, `DECLINED`, `REFUNDED` or `CANCELLED`.
    pub status: String,
    /// Minor units; `None` of a key that was cancelled before it was charged.
    pub amount_minor: Option<i64>,
    /// ISO 4217 code.
    pub currency: Option<String>,
}

/// How the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "DifferenceKind")]
pub enum Kind {
    /// The processor took money, or gave it back, for a payment that does not exist.
    UnknownToPayment,
    /// The processor does not know a charge that payment has its word for.
    UnknownToProcessor,
    /// Both know it, with different amounts.
    Amount,
    /// Both know it, and one of them holds money that the other does not.
    State,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::UnknownToPayment,
        Self::UnknownToProcessor,
        Self::Amount,
        Self::State,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownToPayment => "unknown_to_payment",
            Self::UnknownToProcessor => "unknown_to_processor",
            Self::Amount => "amount",
            Self::State => "state",
        }
    }
}

/// One charge on which the two do not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// How they differ.
    pub kind: Kind,
    /// The charge's key, which is the payment's id.
    pub key: String,
    /// The order, where a payment is known.
    #[schemars(with = "Option<Id>")]
    pub order_id: Option<Uuid>,
    /// What payment says.
    pub payment_status: Option<String>,
    /// In minor units.
    pub payment_amount_minor: Option<i64>,
    /// ISO 4217 code.
    pub payment_currency: Option<String>,
    /// What the processor says.
    pub processor_status: Option<String>,
    /// In minor units.
    pub processor_amount_minor: Option<i64>,
    /// ISO 4217 code.
    pub processor_currency: Option<String>,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Charges of the ledger that were looked at.
    pub charges: i64,
    /// Payments that the ledger did not name.
    pub payments: i64,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// All of them.
    pub total: i64,
}

impl Found {
    pub(super) fn add(&mut self, difference: Option<Difference>) {
        let Some(difference) = difference else { return };
        self.total += 1;
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        }
    }
}

/// Compares what both say of one key. `None`: they agree, or the processor is still being asked whether it charges.
///
/// A refund that is under way is compared: it gives a charge back that the processor has made, and while the processor knows
/// of none it is asked for in vain.
#[must_use]
pub fn compare(payment: Option<&Payment>, charge: Option<&Charge>) -> Option<Difference> {
    let kind = match (payment, charge) {
        (Some(payment), _) if matches!(payment.state, State::Processing { .. }) => None,
        (None, Some(charge)) => {
            matches!(charge.status.as_str(), "SUCCEEDED" | "REFUNDED").then_some(Kind::UnknownToPayment)
        }
        (Some(payment), None) => (payment.state != State::Voided).then_some(Kind::UnknownToProcessor),
        (Some(payment), Some(charge)) => differing(payment, charge),
        (None, None) => None,
    }?;
    let amount = payment.and_then(|payment| payment.amount.as_ref());
    Some(Difference {
        kind,
        key: match (payment, charge) {
            (_, Some(charge)) => charge.key.clone(),
            (payment, None) => payment.map(|payment| payment.id.to_string()).unwrap_or_default(),
        },
        order_id: payment.map(|payment| payment.order_id),
        payment_status: payment.map(|payment| payment.state.name().to_owned()),
        payment_amount_minor: amount.map(Money::amount_minor),
        payment_currency: amount.map(|money| money.currency().to_owned()),
        processor_status: charge.map(|charge| charge.status.clone()),
        processor_amount_minor: charge.and_then(|charge| charge.amount_minor),
        processor_currency: charge.and_then(|charge| charge.currency.clone()),
    })
}

fn differing(payment: &Payment, charge: &Charge) -> Option<Kind> {
    let agrees = match payment.state {
        State::Charged => charge.status == "SUCCEEDED",
        State::Refunded => charge.status == "REFUNDED",
        // Given back already, or about to be.
        State::Refunding => matches!(charge.status.as_str(), "SUCCEEDED" | "REFUNDED"),
        // Nothing was taken, or another hand has given it back: no money is kept.
        State::Declined | State::Voided => matches!(charge.status.as_str(), "DECLINED" | "REFUNDED" | "CANCELLED"),
        State::Processing { .. } => true,
    };
    if !agrees {
        return Some(Kind::State);
    }
    let (ours, theirs) = (payment.amount.as_ref()?, charge.amount_minor?);
    let same = ours.amount_minor() == theirs && charge.currency.as_deref() == Some(ours.currency());
    (!same).then_some(Kind::Amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(state: State) -> Payment {
        Payment::new(Uuid::from_u128(1), Some(&Money::new(500, "EUR").unwrap()), state)
    }

    fn charge(status: &str, amount_minor: Option<i64>) -> Charge {
        let key = payment(State::Charged).id.to_string();
        let currency = amount_minor.map(|_| "EUR".to_owned());
        Charge {
            key,
            status: status.to_owned(),
            amount_minor,
            currency,
        }
    }

    fn kind(state: Option<State>, status: Option<&str>) -> Option<Kind> {
        let (payment, charge) = (state.map(payment), status.map(|status| charge(status, Some(500))));
        compare(payment.as_ref(), charge.as_ref()).map(|difference| difference.kind)
    }

    #[test]
    fn both_agree_where_the_same_hand_has_the_money() {
        let all = ["SUCCEEDED", "DECLINED", "REFUNDED", "CANCELLED"];
        for (state, agreeing, without) in [
            (State::Charged, &["SUCCEEDED"][..], Some(Kind::UnknownToProcessor)),
            (State::Refunded, &["REFUNDED"], Some(Kind::UnknownToProcessor)),
            (
                State::Declined,
                &["DECLINED", "REFUNDED", "CANCELLED"],
                Some(Kind::UnknownToProcessor),
            ),
            (State::Voided, &["DECLINED", "REFUNDED", "CANCELLED"], None),
            (
                State::Refunding,
                &["SUCCEEDED", "REFUNDED"],
                Some(Kind::UnknownToProcessor),
            ),
            (State::Processing { void_requested: true }, &all, None),
        ] {
            for status in all {
                let expected = (!agreeing.contains(&status)).then_some(Kind::State);
                assert_eq!(kind(Some(state), Some(status)), expected, "{state:?} {status}");
            }
            assert_eq!(kind(Some(state), None), without, "{state:?}");
        }
        for (status, unknown) in [
            ("SUCCEEDED", true),
            ("REFUNDED", true),
            ("DECLINED", false),
            ("CANCELLED", false),
        ] {
            assert_eq!(
                kind(None, Some(status)),
                unknown.then_some(Kind::UnknownToPayment),
                "{status}"
            );
        }
    }

    #[test]
    fn an_amount_counts_where_both_name_one() {
        let compared =
            |charge| compare(Some(&payment(State::Charged)), Some(&charge)).map(|difference| difference.kind);
        assert_eq!(compared(charge("SUCCEEDED", Some(501))), Some(Kind::Amount));
        let other = Charge {
            currency: Some("USD".to_owned()),
            ..charge("SUCCEEDED", Some(500))
        };
        assert_eq!(compared(other), Some(Kind::Amount));
        let difference = compare(None, Some(&charge("SUCCEEDED", Some(7)))).unwrap();
        assert_eq!(
            (difference.processor_amount_minor, difference.order_id),
            (Some(7), None)
        );
    }
}
