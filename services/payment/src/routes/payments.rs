//! `/payments`: what a request must look like, and what a payment looks like in an answer.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path};
use valerix_kit::postgres::begin;
use valerix_kit::problem::{FieldError, Problem};
use valerix_resilience::PROBLEM_JSON;
use valerix_resilience::idempotency::{Claim, Completion, IdempotentRequest, StoredAnswer, refusals};

use crate::saga::state::{Input, State as PaymentState};
use crate::startup::App;
use crate::store::{Money, Payment, StoreError};

/// Largest amount that the processor takes, in minor units.
const LARGEST_AMOUNT: i64 = 1_000_000_000_000;

/// The routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/payments", post(charge))
        .route("/payments/void", post(void))
        .route("/payments/{id}", get(show))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Charge {
    order_id: Uuid,
    amount_minor: i64,
    currency: String,
}

impl Charge {
    /// Everything that is wrong with it, or the order and what it costs.
    fn check(self) -> Result<(Uuid, Money), Problem> {
        let mut errors = vec![];
        if !(1..=LARGEST_AMOUNT).contains(&self.amount_minor) {
            errors.push(FieldError::new("/amount_minor", "must be 1 to 1000000000000"));
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            errors.push(FieldError::new("/currency", "must be three capital letters"));
        }
        if errors.is_empty() {
            Ok((
                self.order_id,
                Money {
                    amount_minor: self.amount_minor,
                    currency: self.currency,
                },
            ))
        } else {
            Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Void {
    order_id: Uuid,
}

/// A payment in an answer.
#[derive(Debug, Serialize)]
struct PaymentBody {
    payment_id: Uuid,
    order_id: Uuid,
    amount_minor: Option<i64>,
    currency: Option<String>,
    status: &'static str,
    reason: Option<String>,
}

impl From<Payment> for PaymentBody {
    fn from(payment: Payment) -> Self {
        let (amount_minor, currency) = payment.amount.map(|money| (money.amount_minor, money.currency)).unzip();
        Self {
            payment_id: payment.id,
            order_id: payment.order_id,
            amount_minor,
            currency,
            status: payment.state.name(),
            reason: payment.reason,
        }
    }
}

/// Who calls: order alone, until services prove who they are.
const PRINCIPAL: &str = "order";

async fn charge(
    State(app): State<App>,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let (order_id, money) = body.parse::<Charge>()?.check()?;
    let store = &app.settlement.store;
    let request = IdempotentRequest::new(&key, PRINCIPAL, &Method::POST, "/payments", "/payments", &body.0);
    let database = |error: sqlx::Error| Problem::from_sqlx(&error);

    let mut transaction = begin(store.pool()).await.map_err(database)?;
    let claim = app
        .resilience
        .idempotency()
        .claim(&mut transaction, &request, order_id)
        .await;
    let attempt = match claim.map_err(|error| Problem::from_idempotency(&error))? {
        Claim::Started(attempt) | Claim::TakenOver(attempt) => attempt,
        Claim::Replay(answer) => return Ok(answer.into_response()),
        Claim::InProgress { .. } => return Ok(refusals::in_progress().into_response()),
        Claim::Mismatch { resource } => {
            let resource = resource.map(|id| id.to_string());
            return Ok(refusals::mismatch().with("resource", resource).into_response());
        }
    };
    let payment = store
        .open_in(&mut transaction, order_id, &money)
        .await
        .map_err(|error| problem(&error))?;
    transaction.commit().await.map_err(database)?;

    let payment = app.settlement.settle(payment).await.map_err(|error| problem(&error))?;
    let mut transaction = begin(store.pool()).await.map_err(database)?;
    if payment.state.open_request().is_some() {
        // Not an end: the sweeper asks on, and the same key may ask again at once.
        store
            .hand_over(&mut transaction, payment.id)
            .await
            .map_err(|error| problem(&error))?;
        attempt
            .release(&mut transaction)
            .await
            .map_err(|error| Problem::from_idempotency(&error))?;
        transaction.commit().await.map_err(database)?;
        app.wake.notify_one();
        return Ok(charged(payment)?.into_response());
    }
    let completed = attempt.complete(&mut transaction, charged(payment)?).await;
    let (Completion::Stored(answer) | Completion::Replay(answer)) =
        completed.map_err(|error| Problem::from_idempotency(&error))?;
    transaction.commit().await.map_err(database)?;
    Ok(answer.into_response())
}

/// The answer to a charge. A decline and a void are answers, not failures: a breaker counts them as success.
fn charged(payment: Payment) -> Result<StoredAnswer, Problem> {
    let state = payment.state;
    let location = format!("/payments/{}", payment.id);
    let body = PaymentBody::from(payment);
    let refusal = |status, name: &'static str, detail: &str| {
        let problem = Problem::new(status, name, detail).with("payment", json!(body));
        let mut answer = StoredAnswer::json(status, &problem.body())?;
        answer.content_type = Some(PROBLEM_JSON.to_owned());
        Ok(answer)
    };
    let answer = match state {
        PaymentState::Charged => StoredAnswer::json(StatusCode::CREATED, &body),
        PaymentState::Processing { .. } | PaymentState::Refunding => StoredAnswer::json(StatusCode::ACCEPTED, &body),
        PaymentState::Declined => refusal(
            StatusCode::PAYMENT_REQUIRED,
            "payment-declined",
            "the card processor declined the charge",
        ),
        PaymentState::Voided | PaymentState::Refunded => refusal(
            StatusCode::CONFLICT,
            "payment-voided",
            "the payment of this order was given up",
        ),
    };
    answer
        .map(|answer| answer.location(location))
        .map_err(|error| Problem::internal(&error))
}

async fn void(State(app): State<App>, Json(void): Json<Void>) -> Result<Json<PaymentBody>, Problem> {
    let store = &app.settlement.store;
    let mut transaction = begin(store.pool()).await.map_err(|error| Problem::from_sqlx(&error))?;
    let applied = store
        .apply_in(&mut transaction, void.order_id, Input::Void, None, None)
        .await
        .map_err(|error| problem(&error))?;
    transaction.commit().await.map_err(|error| Problem::from_sqlx(&error))?;
    app.settlement.metrics.moved(&applied);
    app.settlement.relay.wake();
    app.wake.notify_one();
    Ok(Json(applied.payment.into()))
}

async fn show(State(app): State<App>, Path(id): Path<Uuid>) -> Result<Json<PaymentBody>, Problem> {
    let payment = app.settlement.store.read(id).await.map_err(|error| problem(&error))?;
    payment
        .map(|payment| Json(payment.into()))
        .ok_or_else(|| Problem::not_found("unknown-payment", format!("there is no payment {id}")))
}

/// What a failure of the store means to the caller.
fn problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Sql { source, .. } => Problem::from_sqlx(source),
        StoreError::OtherAmount { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            "this order was to be charged another amount before",
        ),
        other => Problem::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Vec<String> {
        let request: Charge = serde_json::from_str(body).unwrap();
        match request.check() {
            Ok(_) => vec![],
            Err(problem) => problem.body()["errors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|error| error["field"].as_str().unwrap().to_owned())
                .collect(),
        }
    }

    #[test]
    fn every_field_out_of_range_is_named() {
        let body = |amount: i64, currency: &str| {
            json!({"order_id": Uuid::nil(), "amount_minor": amount, "currency": currency}).to_string()
        };
        assert_eq!(fields(&body(1, "EUR")), [""; 0]);
        assert_eq!(fields(&body(LARGEST_AMOUNT, "EUR")), [""; 0]);
        assert_eq!(fields(&body(0, "eur")), ["/amount_minor", "/currency"]);
        assert_eq!(
            fields(&body(LARGEST_AMOUNT + 1, "EURO")),
            ["/amount_minor", "/currency"]
        );
    }
}
