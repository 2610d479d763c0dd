//! What an announcement of order says to its customer. Pure.

use serde::Deserialize;
use uuid::Uuid;
use valerix_kit::events::{Event, HandlerError};
use valerix_kit::money::Money;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// To the user's address.
    Email,
    /// To the user's phone.
    Sms,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 2] = [Self::Email, Self::Sms];

    /// As it is stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Sms => "SMS",
        }
    }
}

/// What became of an order, for its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The order.
    pub order_id: Uuid,
    /// Who ordered; a guest can not be reached.
    pub user_id: Option<Uuid>,
    /// What happened.
    pub kind: Kind,
    /// `2 x ps5`
    goods: String,
}

/// What happened to the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is sold, for so much.
    Confirmed(Money),
    /// It came to nothing, for this reason.
    Cancelled(Option<String>),
    /// So much is given back.
    Refunded(Money),
}

impl Kind {
    /// As it is stored and shown.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Confirmed(_) => "CONFIRMED",
            Self::Cancelled(_) => "CANCELLED",
            Self::Refunded(_) => "REFUNDED",
        }
    }
}

/// A message as it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// One line.
    pub subject: String,
    /// The rest; an SMS has this alone.
    pub body: String,
}

/// Reads an announcement. `Ok(None)`: nobody is told of such an event.
///
/// # Errors
/// When the payload has another shape.
pub fn read(event: &Event) -> Result<Option<Notice>, HandlerError> {
    #[derive(Deserialize)]
    struct Payload {
        order_id: Uuid,
        user_id: Option<Uuid>,
        item_id: String,
        quantity: i64,
        amount_minor: Option<i64>,
        currency: Option<String>,
        reason: Option<String>,
    }
    let name = event.event_type.as_str();
    if !["OrderConfirmed", "OrderCancelled", "OrderRefunded"].contains(&name) {
        return Ok(None);
    }
    let payload: Payload = event.payload()?;
    let (amount, currency) = (payload.amount_minor, payload.currency);
    let money = || {
        Money::new(amount.unwrap_or_default(), currency.unwrap_or_default())
            .map_err(|error| HandlerError::failed(format!("failed to read {name}: {error}")))
    };
    let kind = match name {
        "OrderConfirmed" => Kind::Confirmed(money()?),
        "OrderRefunded" => Kind::Refunded(money()?),
        _ => Kind::Cancelled(payload.reason),
    };
    Ok(Some(Notice {
        order_id: payload.order_id,
        user_id: payload.user_id,
        kind,
        goods: format!("{} x {}", payload.quantity, payload.item_id),
    }))
}

impl Notice {
    /// What the customer reads.
    #[must_use]
    pub fn render(&self, channel: Channel) -> Text {
        let (order, goods) = (self.order_id, &self.goods);
        let (subject, news) = match &self.kind {
            Kind::Confirmed(money) => (
                "Your order is confirmed",
                format!("Thank you. {goods} is yours for {}.", written(money)),
            ),
            Kind::Cancelled(reason) => (
                "Your order is cancelled",
                format!(
                    "We are sorry: {goods} could not be delivered, as {}.",
                    because(reason.as_deref())
                ),
            ),
            Kind::Refunded(money) => (
                "Your order is refunded",
                format!("We have given back {} for {goods}.", written(money)),
            ),
        };
        let body = match channel {
            Channel::Email => format!("{news}\n\nOrder {order}\n"),
            Channel::Sms => format!("{subject}. {news}"),
        };
        Text {
            subject: subject.to_owned(),
            body,
        }
    }
}

/// A reason of order's table in words.
fn because(reason: Option<&str>) -> &'static str {
    match reason.unwrap_or_default() {
        "OUT_OF_STOCK" => "it is sold out; nothing was charged",
        "PAYMENT_DECLINED" => "your payment was declined; nothing was charged",
        "UNKNOWN_ITEM" => "we do not sell it; nothing was charged",
        "AMOUNT_OUT_OF_RANGE" => "we take no orders of such an amount; nothing was charged",
        "EXPIRED" => "it took too long; what was charged is given back",
        _ => "it could not be completed; what was charged is given back",
    }
}

/// `499.00 EUR`: with as many digits behind the point as the currency has (ISO 4217).
fn written(money: &Money) -> String {
    let (amount, currency) = (money.amount_minor(), money.currency());
    let digits = match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    };
    let unit = 10_i64.pow(digits);
    let (whole, part) = (amount / unit, amount % unit);
    match digits {
        0 => format!("{whole} {currency}"),
        digits => format!("{whole}.{part:0width$} {currency}", width = digits as usize),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
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

    fn notice(kind: &str, more: Value) -> Notice {
        let mut payload = json!({"order_id": Uuid::nil(), "item_id": "ps5", "quantity": 2});
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        read(&event(kind, payload)).unwrap().unwrap()
    }

    #[test]
    fn customers_read_what_happened() {
        let paid = json!({"amount_minor": 99_805, "currency": "EUR", "user_id": null});
        let cancelled = |reason: Value| {
            notice("OrderCancelled", json!({"reason": reason}))
                .render(Channel::Sms)
                .body
        };
        let confirmed = notice("OrderConfirmed", paid.clone());
        assert_eq!(
            confirmed.render(Channel::Email),
            Text {
                subject: "Your order is confirmed".into(),
                body: "Thank you. 2 x ps5 is yours for 998.05 EUR.\n\nOrder 00000000-0000-0000-0000-000000000000\n"
                    .into()
            }
        );
        assert_eq!(
            notice("OrderRefunded", paid).render(Channel::Sms).body,
            "Your order is refunded. We have given back 998.05 EUR for 2 x ps5."
        );
        assert!(cancelled(json!("OUT_OF_STOCK")).contains("sold out"));
        assert!(cancelled(json!("SOMETHING_NEW")).contains("could not be completed"));
        assert_eq!(cancelled(json!(null)), cancelled(json!("SOMETHING_NEW")));
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        for (amount, currency, text) in [
            (5, "EUR", "0.05 EUR"),
            (100, "USD", "1.00 USD"),
            (500, "JPY", "500 JPY"),
            (1_234, "KWD", "1.234 KWD"),
        ] {
            assert_eq!(written(&Money::new(amount, currency).unwrap()), text);
        }
    }

    #[test]
    fn nobody_is_told_of_other_events_and_an_amount_is_needed() {
        assert_eq!(read(&event("OrderCreated", json!({}))).unwrap(), None);
        let without = json!({"order_id": Uuid::nil(), "item_id": "ps5", "quantity": 2});
        assert!(read(&event("OrderConfirmed", without)).is_err());
        assert!(read(&event("OrderCancelled", json!({"order_id": 7}))).is_err());
    }
}
