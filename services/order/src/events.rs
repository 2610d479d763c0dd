//! The events that order writes and reads. Out: commands to inventory and payment, announcements for everyone. In: their
//! answers, each turned into one input of the saga. The shapes are those of the READMEs of the services; pure but for
//! [`Answers`], which hands an event to the store.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{Event, Handler, HandlerError, inbox};
use valerix_kit::postgres;

use crate::metrics::Metrics;
use crate::money::Money;
use crate::saga::commands::Action;
use crate::saga::state::{Input, Reason};
use crate::store::{Order, Store, StoreError};

/// Announcements for everyone.
pub const ORDER_EVENTS: &str = "order.events";
/// Commands to inventory.
pub const INVENTORY_COMMANDS: &str = "inventory.commands";
/// Answers of inventory.
pub const INVENTORY_EVENTS: &str = "inventory.events";
/// Commands to payment.
pub const PAYMENT_COMMANDS: &str = "payment.commands";
/// Answers of payment.
pub const PAYMENT_EVENTS: &str = "payment.events";
/// The consumer group of order on every stream that it reads.
pub const GROUP: &str = "order";

/// The stream on which a command travels.
#[must_use]
pub const fn topic(action: Action) -> &'static str {
    match action {
        Action::ReserveStock | Action::ReleaseStock | Action::CommitStock | Action::ReturnStock => INVENTORY_COMMANDS,
        Action::ChargePayment | Action::VoidPayment | Action::RefundPayment => PAYMENT_COMMANDS,
    }
}

/// What a command says.
#[must_use]
pub fn command_payload(action: Action, order: &Order) -> Value {
    match action {
        Action::ReserveStock | Action::ReleaseStock | Action::CommitStock | Action::ReturnStock => {
            json!({"order_id": order.id, "item_id": order.item_id, "quantity": order.quantity})
        }
        Action::ChargePayment => json!({
            "order_id": order.id,
            "amount_minor": order.amount.as_ref().map(|money| money.amount_minor),
            "currency": order.amount.as_ref().map(|money| money.currency.as_str()),
        }),
        Action::VoidPayment | Action::RefundPayment => json!({"order_id": order.id}),
    }
}

/// What an announcement says of `order`, which already is in the state that is announced. No personal data.
#[must_use]
pub fn announcement_payload(order: &Order) -> Value {
    #[derive(Serialize)]
    struct Payload<'a> {
        order_id: Uuid,
        item_id: &'a str,
        quantity: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        amount_minor: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        currency: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    }
    json!(Payload {
        order_id: order.id,
        item_id: &order.item_id,
        quantity: order.quantity,
        amount_minor: order.amount.as_ref().map(|money| money.amount_minor),
        currency: order.amount.as_ref().map(|money| money.currency.as_str()),
        reason: order.state.reason().map(Reason::name),
    })
}

/// An answer of inventory or payment, by HTTP or by event, as the saga takes it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The order that it is about.
    pub order_id: Uuid,
    /// What happened.
    pub said: Said,
}

/// What inventory or payment said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
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

impl Said {
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
            } => match Money::total(*unit_price_minor, quantity, currency) {
                Some(money) => (Input::Reserved, Some(money)),
                None => (Input::Cancel(Reason::AmountOutOfRange), None),
            },
        }
    }
}

/// Reads an answer event. `Ok(None)`: an event that order does not act on.
pub fn read_answer(kind: &str, payload: &Value) -> Result<Option<Answered>, serde_json::Error> {
    #[derive(Deserialize)]
    struct About {
        order_id: Uuid,
    }
    #[derive(Deserialize)]
    struct Reserved {
        unit_price_minor: i64,
        currency: String,
    }
    #[derive(Deserialize)]
    struct Rejected {
        reason: String,
    }
    let said = match kind {
        "InventoryReserved" => {
            let Reserved {
                unit_price_minor,
                currency,
            } = Reserved::deserialize(payload)?;
            Said::Reserved {
                unit_price_minor,
                currency,
            }
        }
        "InventoryRejected" => Said::Plain(rejection(&Rejected::deserialize(payload)?.reason)),
        "StockReleased" => Said::Plain(Input::Released),
        "StockCommitted" => Said::Plain(Input::Committed),
        "StockReturned" => Said::Plain(Input::Returned),
        "PaymentProcessed" => Said::Plain(Input::Charged),
        "PaymentFailed" => Said::Plain(Input::Declined),
        "PaymentVoided" => Said::Plain(Input::Voided),
        "PaymentRefunded" => Said::Plain(Input::PaymentRefunded),
        _ => return Ok(None),
    };
    Ok(Some(Answered {
        order_id: About::deserialize(payload)?.order_id,
        said,
    }))
}

/// What inventory's reason for a rejection means. A reservation that came after its release holds nothing, as if the
/// release had been answered.
#[must_use]
pub fn rejection(reason: &str) -> Input {
    match reason {
        "RELEASED" => Input::Released,
        "UNKNOWN_ITEM" => Input::Rejected(Reason::UnknownItem),
        _ => Input::Rejected(Reason::OutOfStock),
    }
}

/// Takes the answers of inventory and payment in: the inbox and the transition are one transaction.
pub struct Answers {
    /// Where orders are.
    pub store: Store,
    /// Publishes what a transition wrote.
    pub relay: Relay,
    /// Counts orders that became terminal.
    pub metrics: Metrics,
}

#[async_trait]
impl Handler for Answers {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let answered = read_answer(&event.event_type, &event.payload)
            .map_err(|error| HandlerError::failed(format!("failed to read {}: {error}", event.event_type)))?;
        let Some(answered) = answered else { return Ok(()) };
        let mut transaction = postgres::begin(self.store.pool())
            .await
            .map_err(|error| HandlerError::from_sqlx(&error))?;
        let first = inbox::claim(&mut transaction, GROUP, event.id)
            .await
            .map_err(|error| HandlerError::from_sqlx(&error))?;
        if !first {
            return Ok(());
        }
        let applied = self
            .store
            .answer_in(&mut transaction, &answered)
            .await
            .map_err(|error| failed(&error))?;
        transaction
            .commit()
            .await
            .map_err(|error| HandlerError::from_sqlx(&error))?;
        match applied {
            Some(applied) => self.metrics.moved(&applied),
            None => tracing::warn!(order = %answered.order_id, event = %event.id, "an answer about an unknown order"),
        }
        self.relay.wake();
        Ok(())
    }
}

fn failed(error: &StoreError) -> HandlerError {
    match error {
        StoreError::Sql { source, .. } => HandlerError::from_sqlx(source),
        other => HandlerError::failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_inputs() {
        let order_id = Uuid::now_v7();
        let payload = json!({"order_id": order_id, "item_id": "ps5", "quantity": 2, "unit_price_minor": 500,
            "currency": "EUR", "reason": "UNKNOWN_ITEM", "added_later": true});
        let said = |kind: &str| read_answer(kind, &payload).unwrap().unwrap().said.input(2);
        assert_eq!(
            said("InventoryReserved"),
            (
                Input::Reserved,
                Some(Money {
                    amount_minor: 1000,
                    currency: "EUR".into()
                })
            )
        );
        assert_eq!(said("InventoryRejected"), (Input::Rejected(Reason::UnknownItem), None));
        assert_eq!(said("StockReleased"), (Input::Released, None));
        assert_eq!(said("StockCommitted"), (Input::Committed, None));
        assert_eq!(said("PaymentProcessed"), (Input::Charged, None));
        assert_eq!(said("PaymentFailed"), (Input::Declined, None));
        assert_eq!(said("PaymentVoided"), (Input::Voided, None));
        assert_eq!(said("PaymentRefunded"), (Input::PaymentRefunded, None));
        assert_eq!(read_answer("SomethingNew", &payload).unwrap(), None);
        assert!(read_answer("InventoryReserved", &json!({"order_id": order_id})).is_err());
        assert!(read_answer("StockReleased", &json!({"order_id": "7"})).is_err());
    }

    #[test]
    fn a_price_that_can_not_be_charged_cancels() {
        let said = Said::Reserved {
            unit_price_minor: i64::MAX,
            currency: "EUR".into(),
        };
        assert_eq!(said.input(2), (Input::Cancel(Reason::AmountOutOfRange), None));
        assert_eq!(rejection("RELEASED"), Input::Released);
    }
}
