//! `/payments`: what a request must look like, and what a payment looks like in an answer.

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path};
use valerix_kit::idempotent::{Answered, Budget, idempotent};
use valerix_kit::money::{LARGEST_AMOUNT_MINOR, Money};
use valerix_kit::openapi::{Document, json_body, json_response, path_parameter, problem as described_problem};
use valerix_kit::postgres::begin;
use valerix_kit::problem::{FieldError, Problem};
use valerix_resilience::PROBLEM_JSON;
use valerix_resilience::idempotency::{IdempotentRequest, StoredAnswer};

use super::AppState;
use crate::payment::Payment;
use crate::processor::Repetition;
use crate::saga::state::{Input, State as PaymentState};
use crate::store::StoreError;

const PAYMENTS: &str = "/payments";

pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route(PAYMENTS, post(charge))
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
        let money = Money::new(self.amount_minor, self.currency).map_err(|invalid| {
            let fields = invalid.errors.into_iter();
            let errors = fields.map(|(field, detail)| FieldError::new(format!("/{field}"), detail));
            Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors.collect())
        })?;
        Ok((self.order_id, money))
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
        let amount = payment.amount.as_ref();
        Self {
            payment_id: payment.id,
            order_id: payment.order_id,
            amount_minor: amount.map(Money::amount_minor),
            currency: amount.map(|money| money.currency().to_owned()),
            status: payment.state.name(),
            reason: payment.reason,
        }
    }
}

/// Who calls: order alone, until services prove who they are.
const PRINCIPAL: &str = "order";

async fn charge(
    State(app): State<AppState>,
    IdempotencyKey(key): IdempotencyKey,
    OriginalUri(uri): OriginalUri,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let (order_id, money) = body.parse::<Charge>()?.check()?;
    let store = &app.settlement.store;
    let budget = Budget::new(store.patience());
    let path = uri.path_and_query().map_or(PAYMENTS, |path| path.as_str());
    let request = IdempotentRequest::new(&key, PRINCIPAL, &Method::POST, PAYMENTS, path, &body.0);
    idempotent(
        app.resilience.idempotency(),
        store.pool(),
        &request,
        order_id,
        budget,
        async |mut transaction, _| {
            let opened = store.open_in(&mut transaction, order_id, &money).await;
            opened
                .map(|opened| (transaction, opened))
                .map_err(|error| problem(&error))
        },
        async |(payment, new)| {
            let repetition = if new { Repetition::First } else { Repetition::Again };
            let settled = app.settlement.settle(payment, repetition, budget.work).await;
            let payment = settled.map_err(|error| problem(&error))?;
            if payment.state.open_request().is_none() {
                return Ok(Answered::Final(charged(payment)?));
            }
            // Not an end: the sweeper asks on, and the same key may ask again at once.
            store.hand_over(payment.id).await.map_err(|error| problem(&error))?;
            app.wake.notify_one();
            Ok(Answered::ForNow(charged(payment)?))
        },
    )
    .await
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

async fn void(State(app): State<AppState>, Json(void): Json<Void>) -> Result<Json<PaymentBody>, Problem> {
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

async fn show(State(app): State<AppState>, Path(id): Path<Uuid>) -> Result<Json<PaymentBody>, Problem> {
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

pub(super) fn describe(document: Document) -> Document {
    document
    .schema("NewPayment", new_payment())
    .schema(
        "Void",
        json!({
            "type": "object",
            "required": ["order_id"],
            "additionalProperties": false,
            "properties": {"order_id": {"type": "string", "format": "uuid"}},
        }),
    )
    .schema("Payment", payment())
    .operation(
        "post",
        "/payments",
        json!({
            "summary": "Charge an order",
            "parameters": [{
                "name": "Idempotency-Key", "in": "header", "required": true,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }],
            "requestBody": json_body("NewPayment"),
            "responses": {
                "201": json_response("CHARGED", "Payment"),
                "202": json_response("PROCESSING: the processor has not answered in time", "Payment"),
                "402": described_problem("Declined; the member payment shows the payment"),
                "409": described_problem("Voided, or the first request with this key is still being answered"),
            },
        }),
    )
    .operation(
        "post",
        "/payments/void",
        json!({
            "summary": "Give an order's payment up, whether or not it was asked for",
            "requestBody": json_body("Void"),
            "responses": {"200": json_response("The payment as it is now", "Payment")},
        }),
    )
    .operation(
        "get",
        "/payments/{id}",
        json!({
            "summary": "Show a payment",
            "parameters": [path_parameter("id", &json!({"type": "string", "format": "uuid"}))],
            "responses": {"200": json_response("The payment", "Payment"), "404": described_problem("There is no such payment")},
        }),
    )
}

fn new_payment() -> Value {
    json!({
        "type": "object",
        "required": ["order_id", "amount_minor", "currency"],
        "additionalProperties": false,
        "properties": {
            "order_id": {"type": "string", "format": "uuid"},
            "amount_minor": {"type": "integer", "minimum": 1, "maximum": LARGEST_AMOUNT_MINOR},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        },
    })
}

fn payment() -> Value {
    json!({
        "type": "object",
        "required": ["payment_id", "order_id", "amount_minor", "currency", "status", "reason"],
        "properties": {
            "payment_id": {"type": "string", "format": "uuid"},
            "order_id": {"type": "string", "format": "uuid"},
            "amount_minor": {"type": ["integer", "null"]},
            "currency": {"type": ["string", "null"]},
            "status": {"type": "string", "enum": ["PROCESSING", "CHARGED", "DECLINED", "VOIDED", "REFUNDING", "REFUNDED"]},
            "reason": {"type": ["string", "null"]},
        },
    })
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
        assert_eq!(fields(&body(LARGEST_AMOUNT_MINOR, "EUR")), [""; 0]);
        assert_eq!(fields(&body(0, "eur")), ["/amount_minor", "/currency"]);
        assert_eq!(
            fields(&body(LARGEST_AMOUNT_MINOR + 1, "EURO")),
            ["/amount_minor", "/currency"]
        );
    }
}
