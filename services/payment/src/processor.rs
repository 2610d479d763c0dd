//! The card processor: what payment asks of whichever it is, and, of the one over HTTP, what an answer means to the payment's
//! table. Attempts and breakers are the resilience client's.

use async_trait::async_trait;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;
use valerix_kit::money::Money;
use valerix_resilience::{CallError, Deadline, RequestBuilder, ResilientClient};

use crate::books::Charge;
use crate::payment::Payment;
use crate::saga::state::{Input, Request};

/// What the processor has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// As an input of the payment's table.
    pub input: Input,
    /// Why it declined.
    pub reason: Option<String>,
}

/// Whether what is asked may have been asked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// It is new.
    First,
    /// It may have been asked, and even done, without an answer: look before asking again.
    Again,
}

/// One page of the processor's ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    /// Its charges.
    pub charges: Vec<Charge>,
    /// Where the next page begins; `None`: this is the last.
    pub next_cursor: Option<String>,
}

/// Why the processor's ledger could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The processor did not answer.
    #[error("failed to ask the processor for its ledger")]
    Call(#[source] CallError),
    /// It answered something else.
    #[error("failed to read the processor's ledger: it answered {0}")]
    Answer(StatusCode),
}

impl LedgerError {
    /// Label of the error in metrics and logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Answer(_) => "answer",
        }
    }
}

/// Who takes the money, whichever it is. What is asked is idempotent by the payment's id.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Asks for what is open about `payment`, until `deadline`. `None`: nothing is known, ask again later.
    ///
    /// A processor that is slower than anybody waits has still done what it was asked: where that may be, a look at the charge
    /// comes first.
    async fn ask(
        &self,
        payment: &Payment,
        request: Request,
        repetition: Repetition,
        deadline: Deadline,
    ) -> Option<Decision>;

    /// One page of the ledger, oldest first, behind `cursor`.
    ///
    /// # Errors
    /// When the processor does not answer, or not with a page.
    async fn charges(&self, cursor: Option<&str>) -> Result<Page, LedgerError>;

    /// The charge of a payment, if there is one.
    ///
    /// # Errors
    /// When the processor does not answer, or not with a charge.
    async fn charge(&self, payment: Uuid) -> Result<Option<Charge>, LedgerError>;
}

/// The shop's own, the service `processor`.
pub struct HttpProcessor {
    /// The policy's target `processor`.
    pub client: ResilientClient,
}

#[async_trait]
impl Processor for HttpProcessor {
    async fn ask(
        &self,
        payment: &Payment,
        request: Request,
        repetition: Repetition,
        deadline: Deadline,
    ) -> Option<Decision> {
        let asking = async {
            if repetition == Repetition::Again {
                // Repeating the request would only wait as long again.
                let look = self.client.get(format!("/charges/{}", payment.id));
                match answer(look).await? {
                    (StatusCode::NOT_FOUND, _) => {}
                    (status, body) => match decision(request, status, &body) {
                        None if status.is_success() => {}
                        decided => return Ok((status, decided)),
                    },
                }
            }
            let mut call = self.request(payment, request);
            if repetition == Repetition::Again {
                // The target's own times may be what cut the first one short.
                call = call.patience(deadline.remaining());
            }
            let (status, body) = answer(call).await?;
            Ok::<_, CallError>((status, decision(request, status, &body)))
        };
        match deadline.scope(asking).await {
            Ok((status, None)) => {
                tracing::warn!(payment = %payment.id, ?request, %status, "the processor's answer decides nothing");
                None
            }
            Ok((_, decided)) => decided,
            Err(error) => {
                tracing::info!(payment = %payment.id, ?request, %error, "the processor did not answer");
                None
            }
        }
    }

    async fn charges(&self, cursor: Option<&str>) -> Result<Page, LedgerError> {
        let mut look = self.client.get("/charges").query("limit", "1000");
        if let Some(cursor) = cursor {
            look = look.query("cursor", cursor);
        }
        let (status, body) = answer(look).await.map_err(LedgerError::Call)?;
        let page = serde_json::from_slice(&body).ok().filter(|_| status.is_success());
        page.ok_or(LedgerError::Answer(status))
    }

    async fn charge(&self, payment: Uuid) -> Result<Option<Charge>, LedgerError> {
        let (status, body) = answer(self.client.get(format!("/charges/{payment}")))
            .await
            .map_err(LedgerError::Call)?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let charge = serde_json::from_slice(&body).ok().filter(|_| status.is_success());
        charge.map(Some).ok_or(LedgerError::Answer(status))
    }
}

impl HttpProcessor {
    fn request(&self, payment: &Payment, request: Request) -> RequestBuilder {
        let id = payment.id;
        let call = match request {
            Request::Charge => self.client.post("/charges").json(&json!({
                "key": id,
                "amount_minor": payment.amount.as_ref().map(Money::amount_minor),
                "currency": payment.amount.as_ref().map(Money::currency),
            })),
            Request::Cancel => self.client.post(format!("/charges/{id}/cancel")),
            Request::Refund => self.client.post(format!("/charges/{id}/refund")),
        };
        call.idempotency_key(&id.to_string())
    }
}

async fn answer(call: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CallError> {
    let answer = call.send().await?;
    let status = answer.status();
    Ok((status, answer.bytes().await?.to_vec()))
}

/// What the processor's answer decides.
fn decision(request: Request, status: StatusCode, body: &[u8]) -> Option<Decision> {
    #[derive(Deserialize)]
    struct Decided {
        status: String,
        reason: Option<String>,
    }
    if !status.is_success() {
        return None;
    }
    let charge: Decided = serde_json::from_slice(body).ok()?;
    let input = match (request, charge.status.as_str()) {
        (Request::Charge | Request::Cancel, "SUCCEEDED") => Input::Approved,
        // Given back by another hand: no money of this order is kept.
        (Request::Charge | Request::Cancel, "DECLINED" | "REFUNDED" | "CANCELLED") => Input::Refused,
        (Request::Refund, "REFUNDED") => Input::GivenBack,
        _ => return None,
    };
    let declined = request == Request::Charge && input == Input::Refused;
    let reason = declined.then(|| charge.reason.unwrap_or(charge.status));
    Some(Decision { input, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decision_is_an_answer() {
        let ask = |request, status: u16, body: &str| {
            decision(request, StatusCode::from_u16(status).unwrap(), body.as_bytes())
                .map(|decided| (decided.input, decided.reason))
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
        for other_hand in ["REFUNDED", "CANCELLED"] {
            assert_eq!(
                charge(200, &format!(r#"{{"status": "{other_hand}"}}"#)),
                Some((Input::Refused, Some(other_hand.into())))
            );
        }
        assert_eq!(charge(200, r#"{"status": "NEW"}"#), None);
        assert_eq!(charge(500, r#"{"status": "SUCCEEDED"}"#), None);
        assert_eq!(charge(201, "{"), None);
        assert_eq!(
            ask(Request::Refund, 200, r#"{"status": "REFUNDED"}"#),
            Some((Input::GivenBack, None))
        );
        assert_eq!(ask(Request::Refund, 200, r#"{"status": "SUCCEEDED"}"#), None);
        assert_eq!(ask(Request::Refund, 409, r#"{"status": "REFUNDED"}"#), None);
        let cancel = |status: &str| ask(Request::Cancel, 200, &format!(r#"{{"status": "{status}"}}"#));
        assert_eq!(cancel("SUCCEEDED"), Some((Input::Approved, None)));
        for nothing_kept in ["CANCELLED", "DECLINED", "REFUNDED"] {
            assert_eq!(cancel(nothing_kept), Some((Input::Refused, None)));
        }
        assert_eq!(ask(Request::Cancel, 404, r#"{"status": "CANCELLED"}"#), None);
    }
}
