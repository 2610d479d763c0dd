//! A payment and what can become of it. Pure.

use uuid::Uuid;
use valerix_kit::money::Money;
use valerix_kit::telemetry::TraceContext;

use crate::saga::state::State;

/// The namespace of payment ids; a constant, for the processor knows charges by them.
const PAYMENTS: Uuid = Uuid::from_u128(0x7c0e_5d3a_41f2_5b6e_9c1d_2f8a_60b4_e917);

/// One payment, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its id, which is its key at the processor.
    pub id: Uuid,
    /// The order that it pays.
    pub order_id: Uuid,
    /// What is paid; `None` when it was voided before it was asked for.
    pub amount: Option<Money>,
    /// Where it stands.
    pub state: State,
    /// Why the processor declined.
    pub reason: Option<String>,
    /// Version of the aggregate `payment:{id}`.
    pub version: i64,
    /// W3C trace context in which it was asked for; may be empty.
    pub traceparent: String,
}

impl Payment {
    /// The payment of an order that has none yet.
    ///
    /// Its id is made of the order's: if the row is lost (a restored archive, a failover that loses its tail) and order
    /// asks again, the processor is asked for the charge that it has made.
    #[must_use]
    pub fn new(order_id: Uuid, amount: Option<&Money>, state: State) -> Self {
        Self {
            id: Uuid::new_v5(&PAYMENTS, order_id.as_bytes()),
            order_id,
            amount: amount.cloned(),
            state,
            reason: None,
            version: 1,
            traceparent: TraceContext::current()
                .map(|context| context.traceparent())
                .unwrap_or_default(),
        }
    }
}

/// What became of an input.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The payment after it.
    pub payment: Payment,
    /// Where it stood before; `None` when the input created it.
    pub before: Option<State>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_orders_payment_is_the_same_for_ever() {
        let order = Uuid::from_u128(0x0198_c1a0_0000_7000_8000_0000_0000_0000);
        let id = |order| Payment::new(order, None, State::Voided).id;
        assert_eq!(id(order).to_string(), "1c7591a4-c54f-509f-be45-6741f4248dc6");
        assert_ne!(id(order), id(Uuid::from_u128(1)));
    }
}
