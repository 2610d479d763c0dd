//! `/payments`: what a request must look like, and what a payment looks like in an answer.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::{Api, Id, Operation};
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path, Query};
use valerix_kit::idempotent::{Answered, Budget, Resource, idempotent};
use valerix_kit::identity::Access;
use valerix_kit::money::Money;
use valerix_kit::page::Page;
use valerix_kit::postgres::begin;
use valerix_kit::problem::{FieldError, Problem, from_sqlx};
use valerix_resilience::idempotency::{IdempotentRequest, StoredAnswer};

use super::AppState;
use crate::payment::{Applied, Payment};
use crate::processor::Repetition;
use crate::saga::state::{Input, State as PaymentState};
use crate::store::StoreError;

const PAYMENTS: &str = "/payments";

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let ask = Operation::new("Charge an order", Access::Service(&["order"]))
        .idempotency_key()
        .body::<Charge>(
            json!({"order_id": "0198f1a2-7c3e-7d40-9a51-3f6b2c8d4e10", "amount_minor": 49_900, "currency": "EUR"}),
        )
        .answer::<PaymentBody>(201, "CHARGED")
        .answer::<PaymentBody>(202, "PROCESSING: the processor has not answered in time")
        .problem(402, "Declined; the member payment shows the payment")
        .problem(
            409,
            "Voided, or the first request with this key is still being answered",
        )
        .problem(
            422,
            "A field is not acceptable, or the order or the key came with something else before",
        );
    let give_up = Operation::new(
        "Give an order's payment up, whether or not it was asked for",
        Access::Service(&["order"]),
    )
    .body::<Void>(json!({"order_id": "0198f1a2-7c3e-7d40-9a51-3f6b2c8d4e10"}))
    .answer::<PaymentBody>(200, "The payment as it is now");
    let several = Operation::new("List the payments, newest first", Access::Admin)
        .query::<Page<Id>>()
        .answer::<PaymentPage>(200, "A page");
    let one = Operation::new("Show a payment", Access::Admin)
        .answer::<PaymentBody>(200, "The payment")
        .problem(404, "There is no such payment");
    let give_back = Operation::new("Give the money of a charged payment back", Access::Service(&["order"]))
        .answer::<PaymentBody>(200, "The payment as it is now: REFUNDING, or REFUNDED")
        .problem(404, "There is no such payment")
        .problem(409, "No money was taken; the member payment shows the payment");
    api.post(PAYMENTS, charge, ask)
        .post("/payments/void", void, give_up)
        .post("/payments/{id}/refund", refund, give_back)
        .get(PAYMENTS, list, several)
        .get("/payments/{id}", show, one)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewPayment")]
struct Charge {
    #[schemars(with = "Id")]
    order_id: Uuid,
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    amount_minor: i64,
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Void {
    #[schemars(with = "Id")]
    order_id: Uuid,
}

/// A payment in an answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Payment")]
struct PaymentBody {
    #[schemars(with = "Id")]
    payment_id: Uuid,
    #[schemars(with = "Id")]
    order_id: Uuid,
    amount_minor: Option<i64>,
    currency: Option<String>,
    #[schemars(extend("enum" = ["PROCESSING", "CHARGED", "DECLINED", "VOIDED", "REFUNDING", "REFUNDED"]))]
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

/// Who calls: order alone.
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
    let answer = idempotent(
        app.resilience.idempotency(),
        store.pool(),
        &request,
        Resource::Named(order_id),
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
    );
    // Boxed: what the way to the processor holds is large.
    Box::pin(answer).await
}

/// The answer to a charge. A decline and a void are answers, not failures: a breaker counts them as success.
fn charged(payment: Payment) -> Result<StoredAnswer, Problem> {
    let state = payment.state;
    let location = format!("/payments/{}", payment.id);
    let body = PaymentBody::from(payment);
    let refusal = |status, name: &'static str, detail: &str| {
        let problem = Problem::new(status, name, detail).with("payment", json!(body));
        Ok(StoredAnswer::problem(&problem))
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
    let mut transaction = begin(store.pool()).await.map_err(|error| from_sqlx(&error))?;
    let applied = store
        .apply_in(&mut transaction, void.order_id, Input::Void, None, None)
        .await
        .map_err(|error| problem(&error))?;
    transaction.commit().await.map_err(|error| from_sqlx(&error))?;
    Ok(Json(moved(&app, applied)))
}

/// What follows when an input was committed: it is counted and published, and the sweeper asks the processor.
fn moved(app: &AppState, applied: Applied) -> PaymentBody {
    app.settlement.metrics.moved(&applied);
    app.settlement.relay.wake();
    app.wake.notify_one();
    applied.payment.into()
}

/// Needs no key: it is idempotent. Order does the same by event.
async fn refund(State(app): State<AppState>, Path(id): Path<Uuid>) -> Result<Json<PaymentBody>, Problem> {
    let store = &app.settlement.store;
    let mut transaction = begin(store.pool()).await.map_err(|error| from_sqlx(&error))?;
    let found = store.read_in(&mut transaction, id).await;
    let payment = found.map_err(|error| problem(&error))?.ok_or_else(|| unknown(id))?;
    let order_id = payment.order_id;
    if !matches!(
        payment.state,
        PaymentState::Charged | PaymentState::Refunding | PaymentState::Refunded
    ) {
        let detail = format!("the payment is {}: no money was taken", payment.state.name());
        let payment = json!(PaymentBody::from(payment));
        return Err(Problem::new(StatusCode::CONFLICT, "payment-not-charged", detail).with("payment", payment));
    }
    let applied = store
        .apply_in(&mut transaction, order_id, Input::Refund, None, None)
        .await
        .map_err(|error| problem(&error))?;
    transaction.commit().await.map_err(|error| from_sqlx(&error))?;
    Ok(Json(moved(&app, applied)))
}

async fn show(State(app): State<AppState>, Path(id): Path<Uuid>) -> Result<Json<PaymentBody>, Problem> {
    let payment = app.settlement.store.read(id).await.map_err(|error| problem(&error))?;
    payment.map(|payment| Json(payment.into())).ok_or_else(|| unknown(id))
}

#[derive(Debug, Serialize, JsonSchema)]
struct PaymentPage {
    payments: Vec<PaymentBody>,
    #[schemars(with = "Option<Id>")]
    next_cursor: Option<Uuid>,
}

async fn list(
    State(app): State<AppState>,
    Query(Page { cursor, limit }): Query<Page<Uuid>>,
) -> Result<Json<PaymentPage>, Problem> {
    let found = app.settlement.store.page(cursor, limit.rows()).await;
    let payments = found.map_err(|error| problem(&error))?.ok_or_else(|| {
        let error = FieldError::new("cursor", "must be a next_cursor of this list");
        Problem::invalid(StatusCode::BAD_REQUEST, vec![error])
    })?;
    let (payments, next_cursor) = limit.cut(payments, |(id, _)| *id);
    let payments = payments.into_iter().filter_map(|(_, payment)| payment);
    Ok(Json(PaymentPage {
        payments: payments.map(PaymentBody::from).collect(),
        next_cursor,
    }))
}

fn unknown(id: Uuid) -> Problem {
    Problem::not_found("unknown-payment", format!("there is no payment {id}"))
}

/// What a failure of the store means to the caller.
pub(super) fn problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Sql { source, .. } => from_sqlx(source),
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
    use valerix_kit::money::LARGEST_AMOUNT_MINOR;

    use super::*;

    fn fields(body: &str) -> Vec<String> {
        let request: Charge = serde_json::from_str(body).unwrap();
        match request.check() {
            Ok(_) => vec![],
            Err(problem) => serde_json::to_value(&problem).unwrap()["errors"]
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
