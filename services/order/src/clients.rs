//! Inventory and payment over HTTP: what order asks, and what an answer means to the saga. Deadlines, attempts and
//! breakers are the resilience client's; here an answer is either a decision or none.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use valerix_resilience::ResilientClient;

use crate::order::Order;
use crate::saga::commands::Action;
use crate::saga::reply::Reply;
use crate::saga::state::{Input, Reason};

/// Inventory, asked to reserve.
#[derive(Clone)]
pub struct Inventory {
    /// The policy's target `inventory`.
    pub client: ResilientClient,
}

impl Inventory {
    /// Asks for the order's stock. `None`: nothing is known, the command goes on by event.
    pub async fn reserve(&self, order: &Order) -> Option<Reply> {
        let mut body = json!({"order_id": order.id, "item_id": order.item_id, "quantity": order.quantity});
        if order.gremlin {
            body["gremlin"] = json!(true);
        }
        ask(
            &self.client,
            "/api/inventory/deduct",
            Action::ReserveStock,
            order,
            &body,
            reserved,
        )
        .await
    }
}

/// Payment, asked to charge.
#[derive(Clone)]
pub struct Payment {
    /// The policy's target `payment`.
    pub client: ResilientClient,
}

impl Payment {
    /// Asks for the order's money. `None`: nothing is known, the command goes on by event.
    pub async fn charge(&self, order: &Order) -> Option<Reply> {
        let money = order.amount.as_ref()?;
        let body = json!({"order_id": order.id, "amount_minor": money.amount_minor(), "currency": money.currency()});
        ask(&self.client, "/payments", Action::ChargePayment, order, &body, charged).await
    }
}

async fn ask(
    client: &ResilientClient,
    path: &str,
    action: Action,
    order: &Order,
    body: &Value,
    read: fn(StatusCode, &[u8]) -> Option<Reply>,
) -> Option<Reply> {
    let request = client.post(path).idempotency_key(&action.key(order.id)).json(body);
    let (status, answer) = match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            match answer.bytes().await {
                Ok(bytes) => (status, bytes),
                Err(error) => {
                    tracing::info!(order = %order.id, %action, %error, "an answer broke off");
                    return None;
                }
            }
        }
        Err(error) => {
            tracing::info!(order = %order.id, %action, %error, "a command was not answered");
            return None;
        }
    };
    let reply = read(status, &answer);
    if reply.is_none() {
        tracing::info!(order = %order.id, %action, %status, "an answer decides nothing");
    }
    reply
}

/// What inventory's answer to deduct decides.
fn reserved(status: StatusCode, body: &[u8]) -> Option<Reply> {
    #[derive(Deserialize)]
    #[serde(tag = "outcome", rename_all = "SCREAMING_SNAKE_CASE")]
    enum Deducted {
        Reserved { unit_price_minor: i64, currency: String },
        Rejected { reason: String },
        Released,
    }
    match status {
        StatusCode::OK => Some(match serde_json::from_slice(body).ok()? {
            Deducted::Reserved {
                unit_price_minor,
                currency,
            } => Reply::Reserved {
                unit_price_minor,
                currency,
            },
            Deducted::Rejected { reason } => Reply::rejected(&reason),
            Deducted::Released => Reply::Plain(Input::Released),
        }),
        StatusCode::UNPROCESSABLE_ENTITY if problem_is(body, "unknown-item") => {
            Some(Reply::Plain(Input::Rejected(Reason::UnknownItem)))
        }
        _ => None,
    }
}

/// What payment's answer to a charge decides.
fn charged(status: StatusCode, body: &[u8]) -> Option<Reply> {
    match status {
        StatusCode::CREATED => Some(Reply::Plain(Input::Charged)),
        StatusCode::PAYMENT_REQUIRED if problem_is(body, "payment-declined") => Some(Reply::Plain(Input::Declined)),
        _ => None,
    }
}

fn problem_is(body: &[u8], name: &str) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        r#type: String,
    }
    serde_json::from_slice::<Problem>(body).is_ok_and(|problem| problem.r#type.rsplit('/').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decision_is_an_answer_of_inventory() {
        let ok = |body: &str| reserved(StatusCode::OK, body.as_bytes());
        assert_eq!(
            ok(r#"{"outcome": "RESERVED", "order_id": "x", "unit_price_minor": 5, "currency": "EUR", "new": 1}"#),
            Some(Reply::Reserved {
                unit_price_minor: 5,
                currency: "EUR".into()
            })
        );
        assert_eq!(
            ok(r#"{"outcome": "REJECTED", "reason": "OUT_OF_STOCK"}"#),
            Some(Reply::Plain(Input::Rejected(Reason::OutOfStock)))
        );
        assert_eq!(
            ok(r#"{"outcome": "RELEASED", "quantity": 1}"#),
            Some(Reply::Plain(Input::Released))
        );
        assert_eq!(ok("{}"), None);
        assert_eq!(ok("<html>"), None);
        let unknown = br#"{"type": "https://valerix.io/problems/unknown-item", "status": 422}"#;
        assert_eq!(
            reserved(StatusCode::UNPROCESSABLE_ENTITY, unknown),
            Some(Reply::Plain(Input::Rejected(Reason::UnknownItem)))
        );
        for status in [409, 422, 429, 500, 503, 504] {
            assert_eq!(reserved(StatusCode::from_u16(status).unwrap(), b"{}"), None);
        }
    }

    #[test]
    fn only_a_decision_is_an_answer_of_payment() {
        assert_eq!(charged(StatusCode::CREATED, b"{}"), Some(Reply::Plain(Input::Charged)));
        let declined = br#"{"type": "https://valerix.io/problems/payment-declined", "status": 402}"#;
        assert_eq!(
            charged(StatusCode::PAYMENT_REQUIRED, declined),
            Some(Reply::Plain(Input::Declined))
        );
        assert_eq!(charged(StatusCode::PAYMENT_REQUIRED, b"{}"), None);
        for status in [202, 409, 422, 429, 500, 503, 504] {
            assert_eq!(charged(StatusCode::from_u16(status).unwrap(), b"{}"), None);
        }
    }
}
