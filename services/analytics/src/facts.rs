//! What an announcement of order means for the figures. Pure.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;
use valerix_kit::events::{Event, HandlerError};
use valerix_kit::money::Money;

/// A reason is counted under its own name if it looks like one, else under this.
const OTHER: &str = "OTHER";
const LONGEST_REASON: usize = 64;
/// Why a probe's order does not stay sold: all that an order of an older version says of it.
const PROBE: &str = "PROBE";

/// One step of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The order.
    pub order_id: Uuid,
    /// When it happened, by the clock of order's database.
    pub at: DateTime<Utc>,
    /// What happened.
    pub step: Step,
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was placed.
    Created,
    /// It was sold for so much.
    Confirmed(Money),
    /// It came to nothing, for this reason.
    Cancelled(String),
    /// So much was given back.
    Refunded(Money),
}

/// Reads an announcement. `Ok(None)`: an event that counts for nothing here, or of an order that is nobody's: the probe of a
/// chaos experiment asks as often as it likes, and would make the figures those of the experiment.
///
/// # Errors
/// When the payload has another shape, or an amount that nobody can pay.
pub fn read(event: &Event) -> Result<Option<Fact>, HandlerError> {
    #[derive(Deserialize)]
    struct Payload {
        order_id: Uuid,
        amount_minor: Option<i64>,
        currency: Option<String>,
        reason: Option<String>,
        #[serde(default)]
        probe: bool,
    }
    let kind = event.event_type.as_str();
    if !["OrderCreated", "OrderConfirmed", "OrderCancelled", "OrderRefunded"].contains(&kind) {
        return Ok(None);
    }
    let Payload {
        order_id,
        amount_minor,
        currency,
        reason,
        probe,
    } = event.payload()?;
    if probe || reason.as_deref() == Some(PROBE) {
        return Ok(None);
    }
    let money = || match (amount_minor, currency) {
        (Some(amount), Some(currency)) => Money::new(amount, currency)
            .map_err(|error| HandlerError::failed(format!("failed to read {kind}: {error}"))),
        _ => Err(HandlerError::failed(format!("failed to read {kind}: it has no amount"))),
    };
    let step = match kind {
        "OrderCreated" => Step::Created,
        "OrderConfirmed" => Step::Confirmed(money()?),
        "OrderCancelled" => Step::Cancelled(named(reason)),
        _ => Step::Refunded(money()?),
    };
    let at = event.occurred_at;
    Ok(Some(Fact { order_id, at, step }))
}

/// Reasons become rows: what is no name must not become thousands of them.
fn named(reason: Option<String>) -> String {
    let is_name = |text: &String| {
        (1..=LONGEST_REASON).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    reason.filter(is_name).unwrap_or_else(|| OTHER.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, payload: Value) -> Event {
        Event {
            id: Uuid::nil(),
            topic: "order.events".into(),
            event_type: kind.into(),
            aggregate: "order:1".into(),
            version: 1,
            occurred_at: DateTime::UNIX_EPOCH,
            payload,
            traceparent: String::new(),
        }
    }

    #[test]
    fn announcements_are_read() {
        let order_id = Uuid::now_v7();
        let payload = json!({"order_id": order_id, "item_id": "ps5", "quantity": 2, "amount_minor": 998, "currency": "EUR",
            "reason": "OUT_OF_STOCK", "user_id": null, "added_later": true});
        let step = |kind: &str| read(&event(kind, payload.clone())).unwrap().map(|fact| fact.step);
        let money = Money::new(998, "EUR").unwrap();
        assert_eq!(step("OrderCreated"), Some(Step::Created));
        assert_eq!(step("OrderConfirmed"), Some(Step::Confirmed(money.clone())));
        assert_eq!(step("OrderCancelled"), Some(Step::Cancelled("OUT_OF_STOCK".into())));
        assert_eq!(step("OrderRefunded"), Some(Step::Refunded(money)));
        assert_eq!(step("OrderAdmired"), None);
    }

    #[test]
    fn the_orders_of_probes_count_for_nothing() {
        let read = |kind: &str, more: Value| {
            let mut payload = json!({"order_id": Uuid::nil(), "item_id": "ps5", "quantity": 1});
            payload
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            read(&event(kind, payload)).unwrap()
        };
        assert_eq!(read("OrderCreated", json!({"probe": true})), None);
        assert_eq!(
            read("OrderCancelled", json!({"probe": true, "reason": "OUT_OF_STOCK"})),
            None
        );
        // As an order that does not mark them announces it.
        assert_eq!(read("OrderCancelled", json!({"reason": "PROBE"})), None);
        assert!(read("OrderCreated", json!({"probe": false})).is_some());
    }

    #[test]
    fn what_can_not_be_counted_is_refused_and_no_text_becomes_a_reason() {
        let order_id = Uuid::now_v7();
        for (kind, payload) in [
            ("OrderCreated", json!({"order_id": "7"})),
            ("OrderConfirmed", json!({"order_id": order_id})),
            (
                "OrderConfirmed",
                json!({"order_id": order_id, "amount_minor": -1, "currency": "EUR"}),
            ),
            (
                "OrderRefunded",
                json!({"order_id": order_id, "amount_minor": 5, "currency": "eur"}),
            ),
        ] {
            assert!(read(&event(kind, payload.clone())).is_err(), "{kind} {payload}");
        }
        for reason in [
            json!(null),
            json!(""),
            json!("some text"),
            json!("\u{0}"),
            json!("X".repeat(65)),
        ] {
            let fact = read(&event(
                "OrderCancelled",
                json!({"order_id": order_id, "reason": reason}),
            ));
            assert_eq!(fact.unwrap().unwrap().step, Step::Cancelled(OTHER.into()), "{reason}");
        }
    }
}
