//! The events of order on the wire. Out: commands to inventory and payment, announcements for everyone. In: their replies.
//! The shapes are those of the READMEs of the services. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::api::Id;
use valerix_kit::item::LARGEST_ORDER;
use valerix_kit::money::Money;

use crate::order::Order;
use crate::saga::commands::Action;
use crate::saga::reply::Reply;
use crate::saga::state::Input;

/// Announcements for everyone.
pub const ORDER_EVENTS: &str = "order.events";
/// Commands to inventory.
pub const INVENTORY_COMMANDS: &str = "inventory.commands";
/// Replies of inventory.
pub const INVENTORY_EVENTS: &str = "inventory.events";
/// Commands to payment.
pub const PAYMENT_COMMANDS: &str = "payment.commands";
/// Replies of payment.
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

/// What a command to inventory says.
#[derive(Serialize, JsonSchema)]
struct StockCommand<'a> {
    #[schemars(with = "Id")]
    order_id: Uuid,
    item_id: &'a str,
    quantity: i32,
}

/// What is to be charged.
#[derive(Serialize, JsonSchema)]
struct ChargeCommand<'a> {
    #[schemars(with = "Id")]
    order_id: Uuid,
    /// In the currency's smallest unit; null makes a dead letter, as it is no amount.
    amount_minor: Option<i64>,
    /// ISO 4217 code.
    currency: Option<&'a str>,
}

/// Whose charge is to be undone.
#[derive(Serialize, JsonSchema)]
struct UndoCommand {
    #[schemars(with = "Id")]
    order_id: Uuid,
}

/// What a command says.
#[must_use]
pub fn command_payload(action: Action, order: &Order) -> Value {
    match action {
        Action::ReserveStock | Action::ReleaseStock | Action::CommitStock | Action::ReturnStock => {
            json!(StockCommand {
                order_id: order.id,
                item_id: &order.item_id,
                quantity: order.quantity,
            })
        }
        Action::ChargePayment => json!(ChargeCommand {
            order_id: order.id,
            amount_minor: order.amount.as_ref().map(Money::amount_minor),
            currency: order.amount.as_ref().map(Money::currency),
        }),
        Action::VoidPayment | Action::RefundPayment => json!(UndoCommand { order_id: order.id }),
    }
}

/// What an announcement says.
#[derive(Serialize, JsonSchema)]
struct Payload<'a> {
    #[schemars(with = "Id")]
    order_id: Uuid,
    /// Null of a guest's.
    #[schemars(with = "Option<Id>")]
    user_id: Option<Uuid>,
    item_id: &'a str,
    quantity: i32,
    /// In the currency's smallest unit, once inventory has named the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_minor: Option<i64>,
    /// ISO 4217 code.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    /// Why the order was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Only of an order that the probe of a chaos experiment has placed: it is nobody's and is never sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<bool>,
}

/// What an announcement says of `order`, which already is in the state that is announced. Whose it is goes by id alone:
/// no personal data.
#[must_use]
pub fn announcement_payload(order: &Order) -> Value {
    json!(Payload {
        order_id: order.id,
        user_id: order.user_id(),
        item_id: &order.item_id,
        quantity: order.quantity,
        amount_minor: order.amount.as_ref().map(Money::amount_minor),
        currency: order.amount.as_ref().map(Money::currency),
        reason: order.reason(),
        probe: order.probe.then_some(true),
    })
}

/// Reads a reply and the order that it is about. `Ok(None)`: an event that order does not act on.
///
/// # Errors
/// When the payload has another shape.
pub fn read_reply(kind: &str, payload: &Value) -> Result<Option<(Uuid, Reply)>, serde_json::Error> {
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
    let reply = match kind {
        "InventoryReserved" => {
            let Reserved {
                unit_price_minor,
                currency,
            } = Reserved::deserialize(payload)?;
            Reply::Reserved {
                unit_price_minor,
                currency,
            }
        }
        "InventoryRejected" => Reply::rejected(&Rejected::deserialize(payload)?.reason),
        "StockReleased" => Reply::Plain(Input::Released),
        "StockCommitted" => Reply::Plain(Input::Committed),
        "StockReturned" => Reply::Plain(Input::Returned),
        "PaymentProcessed" => Reply::Plain(Input::Charged),
        "PaymentFailed" => Reply::Plain(Input::Declined),
        "PaymentVoided" => Reply::Plain(Input::Voided),
        "PaymentRefunded" => Reply::Plain(Input::PaymentRefunded),
        _ => return Ok(None),
    };
    Ok(Some((About::deserialize(payload)?.order_id, reply)))
}

/// What inventory holds for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// The item.
    pub item_id: String,
    /// How many, 1 to 10,000.
    pub quantity: i32,
}

/// The pieces that a reply is about, where it names some that an order may have.
#[must_use]
pub fn pieces(payload: &Value) -> Option<Pieces> {
    let item_id = payload.get("item_id")?.as_str()?.to_owned();
    let quantity = payload.get("quantity")?.as_i64()?;
    let quantity = i32::try_from(quantity).ok();
    let quantity = quantity.filter(|quantity| (1..=LARGEST_ORDER).contains(&i64::from(*quantity)))?;
    Some(Pieces { item_id, quantity })
}

#[cfg(test)]
mod tests {
    use valerix_kit::testing::schemas::EventSchemas;

    use super::*;
    use crate::saga::commands::Announcement;
    use crate::saga::state::Reason;

    #[test]
    fn what_is_published_is_described_and_older_events_are_still_understood() {
        let schemas = Action::ALL
            .into_iter()
            .fold(EventSchemas::new("order"), |schemas, action| {
                let (topic, kind) = (topic(action), action.name());
                match action {
                    Action::ReserveStock | Action::ReleaseStock | Action::CommitStock | Action::ReturnStock => {
                        schemas.event::<StockCommand>(topic, kind)
                    }
                    Action::ChargePayment => schemas.event::<ChargeCommand>(topic, kind),
                    Action::VoidPayment | Action::RefundPayment => schemas.event::<UndoCommand>(topic, kind),
                }
            });
        let announced = [
            Announcement::OrderCreated,
            Announcement::OrderConfirmed,
            Announcement::OrderCancelled,
            Announcement::OrderRefunded,
        ];
        announced
            .into_iter()
            .fold(schemas, |schemas, kind| {
                schemas.event::<Payload>(ORDER_EVENTS, kind.name())
            })
            .check(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn replies_become_inputs() {
        let order_id = Uuid::now_v7();
        let payload = json!({"order_id": order_id, "item_id": "ps5", "quantity": 2, "unit_price_minor": 500,
            "currency": "EUR", "reason": "UNKNOWN_ITEM", "added_later": true});
        let said = |kind: &str| {
            let (about, reply) = read_reply(kind, &payload).unwrap().unwrap();
            assert_eq!(about, order_id);
            reply.input(2)
        };
        assert_eq!(
            said("InventoryReserved"),
            (Input::Reserved, Some(Money::new(1000, "EUR").unwrap()))
        );
        assert_eq!(said("InventoryRejected"), (Input::Rejected(Reason::UnknownItem), None));
        assert_eq!(said("StockReleased"), (Input::Released, None));
        assert_eq!(said("StockCommitted"), (Input::Committed, None));
        assert_eq!(said("PaymentProcessed"), (Input::Charged, None));
        assert_eq!(said("PaymentFailed"), (Input::Declined, None));
        assert_eq!(said("PaymentVoided"), (Input::Voided, None));
        assert_eq!(said("PaymentRefunded"), (Input::PaymentRefunded, None));
        let two = Pieces {
            item_id: "ps5".into(),
            quantity: 2,
        };
        assert_eq!(pieces(&payload), Some(two));
        for none in [
            json!({"order_id": order_id}),
            json!({"item_id": "ps5", "quantity": 10_001}),
            json!([]),
        ] {
            assert_eq!(pieces(&none), None);
        }
        assert_eq!(read_reply("SomethingNew", &payload).unwrap(), None);
        assert!(read_reply("InventoryReserved", &json!({"order_id": order_id})).is_err());
        assert!(read_reply("StockReleased", &json!({"order_id": "7"})).is_err());
    }
}
