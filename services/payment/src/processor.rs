//! The card processor over HTTP: what payment asks, and what an answer means to the payment's table. Deadlines, attempts
//! and breakers are the resilience client's.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use valerix_resilience::{Deadline, ResilientClient};

use crate::saga::state::{Input, Request};
use crate::store::Payment;

/// Of a request's deadline, what is left for writing the answer down and sending it.
const MARGIN: Duration = Duration::from_millis(100);

/// What the processor said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// As an input of the payment's table.
    pub input: Input,
    /// Why it declined.
    pub reason: Option<String>,
}

/// The card processor.
#[derive(Clone)]
pub struct Processor {
    /// The policy's target `processor`.
    pub client: ResilientClient,
    /// No request takes longer; shorter than the lease of who takes a payment up.
    pub patience: Duration,
}

impl Processor {
    /// Asks for what is open about `payment`. `None`: nothing is known, ask again later.
    pub async fn ask(&self, payment: &Payment, request: Request) -> Option<Said> {
        let patience = Deadline::after(self.patience);
        // Whoever waits is to hear that there is no answer yet.
        let deadline = Deadline::current().map_or(patience, |inbound| {
            Deadline::after(inbound.remaining().saturating_sub(MARGIN)).min(patience)
        });
        let call = match request {
            Request::Charge => {
                let money = payment.amount.as_ref()?;
                let body = json!({
                    "key": payment.id, "amount_minor": money.amount_minor, "currency": money.currency,
                });
                self.client.post("/charges").json(&body)
            }
            Request::Refund => self.client.post(format!("/charges/{}/refund", payment.id)),
        };
        let call = call.idempotency_key(&payment.id.to_string());
        let answered = deadline
            .scope(async {
                let answer = call.send().await?;
                let status = answer.status();
                answer.bytes().await.map(|body| (status, body))
            })
            .await;
        match answered {
            Ok((status, body)) => {
                let said = said(request, status, &body);
                if said.is_none() {
                    tracing::warn!(payment = %payment.id, ?request, %status, "the processor's answer decides nothing");
                }
                said
            }
            Err(error) => {
                tracing::info!(payment = %payment.id, ?request, %error, "the processor did not answer");
                None
            }
        }
    }
}

/// What the processor's answer decides.
fn said(request: Request, status: StatusCode, body: &[u8]) -> Option<Said> {
    #[derive(Deserialize)]
    struct Charge {
        status: String,
        reason: Option<String>,
    }
    if !status.is_success() {
        return None;
    }
    let charge: Charge = serde_json::from_slice(body).ok()?;
    let input = match (request, charge.status.as_str()) {
        (Request::Charge, "SUCCEEDED") => Input::Approved,
        // Given back by another hand: no money of this order is kept.
        (Request::Charge, "DECLINED" | "REFUNDED") => Input::Refused,
        (Request::Refund, "REFUNDED") => Input::GivenBack,
        _ => return None,
    };
    let reason = (input == Input::Refused).then(|| charge.reason.unwrap_or(charge.status));
    Some(Said { input, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decision_is_an_answer() {
        let ask = |request, status: u16, body: &str| {
            said(request, StatusCode::from_u16(status).unwrap(), body.as_bytes()).map(|said| (said.input, said.reason))
        };
        let charge = |status: u16, body: &str| ask(Request::Charge, status, body);
        assert_eq!(
            charge(201, r#"{"status": "SUCCEEDED", "reason": null}"#),
            Some((Input::Approved, None))
        );
        assert_eq!(charge(200, r#"{"status": "SUCCEEDED"}"#), Some((Input::Approved, None)));
        assert_eq!(
            charge(201, r#"{"status": "DECLINED", "reason": "CARD_DECLINED"}"#),
            Some((Input::Refused, Some("CARD_DECLINED".into())))
        );
        assert_eq!(
            charge(200, r#"{"status": "REFUNDED"}"#),
            Some((Input::Refused, Some("REFUNDED".into())))
        );
        assert_eq!(charge(200, r#"{"status": "NEW"}"#), None);
        assert_eq!(charge(500, r#"{"status": "SUCCEEDED"}"#), None);
        assert_eq!(charge(201, "{"), None);
        assert_eq!(
            ask(Request::Refund, 200, r#"{"status": "REFUNDED"}"#),
            Some((Input::GivenBack, None))
        );
        assert_eq!(ask(Request::Refund, 200, r#"{"status": "SUCCEEDED"}"#), None);
        assert_eq!(ask(Request::Refund, 409, r#"{"status": "REFUNDED"}"#), None);
    }
}
