//! The events of payment on the wire: order's commands in, announcements out. The shapes are those of the README. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::Id;
use valerix_kit::events::{Event, HandlerError, NewEvent};
use valerix_kit::money::Money;

use crate::payment::Payment;
use crate::saga::state::{Announcement, Input};

/// Commands to payment.
pub const PAYMENT_COMMANDS: &str = "payment.commands";
/// Announcements of payment.
pub const PAYMENT_EVENTS: &str = "payment.events";
/// The consumer group of payment.
pub const GROUP: &str = "payment";

/// What order commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The order.
    pub order_id: Uuid,
    /// As an input of the payment's table.
    pub input: Input,
    /// What is to be charged.
    pub amount: Option<Money>,
}

/// Reads a command.
///
/// # Errors
/// When payment does not know the command or cannot obey it: no payment can come of it, however often it is tried.
pub fn command(event: &Event) -> Result<Command, HandlerError> {
    #[derive(Deserialize)]
    struct Charge {
        order_id: Uuid,
        amount_minor: i64,
        currency: String,
    }
    #[derive(Deserialize)]
    struct Named {
        order_id: Uuid,
    }
    let (order_id, input, amount) = match event.event_type.as_str() {
        "ChargePayment" => {
            let charge: Charge = event.payload()?;
            let order_id = charge.order_id;
            let money = Money::new(charge.amount_minor, charge.currency)
                .map_err(|error| HandlerError::failed(format!("failed to charge order {order_id}: {error}")))?;
            (order_id, Input::Charge, Some(money))
        }
        "VoidPayment" => (event.payload::<Named>()?.order_id, Input::Void, None),
        "RefundPayment" => (event.payload::<Named>()?.order_id, Input::Refund, None),
        other => return Err(HandlerError::failed(format!("{other} is not a command of payment"))),
    };
    Ok(Command {
        order_id,
        input,
        amount,
    })
}

/// What an announcement says.
#[derive(Serialize, JsonSchema)]
struct Payload<'a> {
    #[schemars(with = "Id")]
    order_id: Uuid,
    #[schemars(with = "Id")]
    payment_id: Uuid,
    /// In the currency's smallest unit; null of what was voided before payment knew it.
    amount_minor: Option<i64>,
    /// ISO 4217 code.
    currency: Option<&'a str>,
    /// Why the processor declined.
    reason: Option<&'a str>,
}

/// The event that tells order where `payment` stands.
#[must_use]
pub fn announced(payment: &Payment, announcement: Announcement) -> NewEvent {
    NewEvent {
        topic: PAYMENT_EVENTS.into(),
        event_type: announcement.name().into(),
        aggregate: format!("payment:{}", payment.id),
        version: payment.version,
        payload: json!(Payload {
            order_id: payment.order_id,
            payment_id: payment.id,
            amount_minor: payment.amount.as_ref().map(Money::amount_minor),
            currency: payment.amount.as_ref().map(Money::currency),
            reason: payment.reason.as_deref(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use valerix_kit::testing::schemas::EventSchemas;

    use super::*;

    #[test]
    fn what_is_published_is_described_and_older_events_are_still_understood() {
        let announced = [
            Announcement::PaymentProcessed,
            Announcement::PaymentFailed,
            Announcement::PaymentVoided,
            Announcement::PaymentRefunded,
        ];
        announced
            .into_iter()
            .fold(EventSchemas::new("payment"), |schemas, kind| {
                schemas.event::<Payload>(PAYMENT_EVENTS, kind.name())
            })
            .check(env!("CARGO_MANIFEST_DIR"));
    }

    fn read(event_type: &str, payload: serde_json::Value) -> Result<Command, HandlerError> {
        command(&Event {
            id: Uuid::nil(),
            topic: PAYMENT_COMMANDS.to_owned(),
            event_type: event_type.to_owned(),
            aggregate: "order:1:charge".to_owned(),
            version: 1,
            occurred_at: std::time::SystemTime::UNIX_EPOCH.into(),
            payload,
            traceparent: String::new(),
        })
    }

    #[test]
    fn a_charge_by_event_is_held_to_the_same_bounds_as_one_by_http() {
        let order_id = Uuid::now_v7();
        let charge = |amount: i64, currency: &str| {
            let payload = json!({"order_id": order_id, "amount_minor": amount, "currency": currency, "new": 1});
            read("ChargePayment", payload)
        };
        assert_eq!(
            charge(500, "EUR").unwrap(),
            Command {
                order_id,
                input: Input::Charge,
                amount: Some(Money::new(500, "EUR").unwrap()),
            }
        );
        for (amount, currency) in [
            (0, "EUR"),
            (-1, "EUR"),
            (1_000_000_000_001, "EUR"),
            (500, "eur"),
            (500, ""),
        ] {
            assert!(charge(amount, currency).is_err(), "{amount} {currency:?}");
        }
        for (name, input) in [("VoidPayment", Input::Void), ("RefundPayment", Input::Refund)] {
            let read = read(name, json!({"order_id": order_id})).unwrap();
            assert_eq!((read.order_id, read.input, read.amount), (order_id, input, None));
        }
    }

    #[test]
    fn a_command_that_payment_does_not_know_is_not_swallowed() {
        let refused = read("SomethingNew", json!({"order_id": Uuid::nil()})).unwrap_err();
        assert!(matches!(refused, HandlerError::Failed(_)), "{refused}");
    }
}
