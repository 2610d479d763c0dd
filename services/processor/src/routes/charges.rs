//! `POST /charges`, `GET /charges`, `GET /charges/{key}`, `POST /charges/{key}/refund`, `POST /charges/{key}/cancel`.

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{Json, Path, Query};
use valerix_kit::identity::Access;
use valerix_kit::problem::{FieldError, Problem, from_sqlx};

use super::AppState;
use crate::charge::{Charge, ChargeRequest, Key};
use crate::misbehaviour::{Fate, declined, fate};
use crate::store;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let make = Operation::new(
        "Charges once per key; a decline is an answer",
        Access::Service(&["payment"]),
    )
    .body::<ChargeRequest>(
        json!({"key": "0198f1a2-7c3e-7d40-9a51-3f6b2c8d4e10", "amount_minor": 49_900, "currency": "EUR"}),
    )
    .answer::<Charge>(200, "The charge made earlier")
    .answer::<Charge>(201, "The new charge")
    .problem(422, "A field is not acceptable, or the key stands for another amount");
    let ledger = Operation::new("The ledger, oldest first", Access::Service(&["payment"]))
        .query::<Page>()
        .answer::<Ledger>(200, "A page");
    let one = Operation::new("One charge", Access::Service(&["payment"]))
        .answer::<Charge>(200, "The charge")
        .problem(404, "No such charge");
    let give_back = Operation::new("Gives a charge back, once", Access::Service(&["payment"]))
        .answer::<Charge>(200, "The charge, refunded")
        .problem(402, "Refused for now, nothing was done: ask again")
        .problem(404, "No such charge")
        .problem(409, "The charge was declined or cancelled");
    let never = Operation::new(
        "Sees to it that the key is never charged, unless it was already",
        Access::Service(&["payment"]),
    )
    .answer::<Charge>(200, "The charge as it is: CANCELLED unless it was made before")
    .problem(404, "No key: a charge has a UUID");
    api.post("/charges", charge, make)
        .get("/charges", list, ledger)
        .get("/charges/{key}", show, one)
        .post("/charges/{key}/refund", refund, give_back)
        .post("/charges/{key}/cancel", cancel, never)
}

async fn charge(
    State(state): State<AppState>,
    Json(request): Json<ChargeRequest>,
) -> Result<(StatusCode, Json<Charge>), Problem> {
    tokio::time::sleep(state.misbehaviour.delay).await;
    misbehaving(&state, async {
        let declined = declined(&state.misbehaviour, request.key.as_str());
        let (status, charge) = match store::insert(&state.pool, &request, declined).await.map_err(database)? {
            Some(charge) => (StatusCode::CREATED, charge),
            None => (StatusCode::OK, find(&state, &request.key).await?),
        };
        if let (Some(amount_minor), Some(currency)) = (charge.amount_minor, &charge.currency)
            && (amount_minor != request.amount_minor.get() || currency != request.currency.as_str())
        {
            let detail = format!("this key stands for a charge of {amount_minor} {currency}");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail));
        }
        Ok((status, Json(charge)))
    })
    .await
}

/// Does `work` and answers as the dice want it.
async fn misbehaving<T>(state: &AppState, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let fate = fate(&state.misbehaviour, rand::random_range(0..100));
    if fate == Fate::FailBefore {
        return Err(failed_on_purpose());
    }
    let answer = work.await?;
    match fate {
        Fate::Normal | Fate::FailBefore => {}
        Fate::FailAfter => return Err(failed_on_purpose()),
        Fate::Late => tokio::time::sleep(state.misbehaviour.late_by).await,
    }
    Ok(answer)
}

async fn show(State(state): State<AppState>, Path(key): Path<String>) -> Result<Json<Charge>, Problem> {
    find(&state, &parse_key(key)?).await.map(Json)
}

async fn refund(State(state): State<AppState>, Path(key): Path<String>) -> Result<Json<Charge>, Problem> {
    let key = parse_key(key)?;
    tokio::time::sleep(state.misbehaviour.delay).await;
    misbehaving(&state, async {
        if rand::random_range(0..100) < state.misbehaviour.refund_decline_percent {
            let detail = "the card's bank takes no refund for now; nothing was done: ask again";
            return Err(Problem::new(StatusCode::PAYMENT_REQUIRED, "refund-declined", detail));
        }
        store::refund(&state.pool, key.as_str()).await.map_err(database)?;
        let charge = find(&state, &key).await?;
        let name = match charge.status.as_str() {
            "DECLINED" => "charge-declined",
            "CANCELLED" => "charge-cancelled",
            _ => return Ok(Json(charge)),
        };
        let detail = "no money was taken with this key: there is nothing to give back";
        Err(Problem::new(StatusCode::CONFLICT, name, detail))
    })
    .await
}

async fn cancel(State(state): State<AppState>, Path(key): Path<String>) -> Result<Json<Charge>, Problem> {
    let key = parse_key(key)?;
    misbehaving(&state, async {
        store::cancel(&state.pool, key.as_str()).await.map_err(database)?;
        find(&state, &key).await.map(Json)
    })
    .await
}

#[derive(Deserialize, JsonSchema)]
struct Page {
    cursor: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
}

#[derive(Serialize, JsonSchema)]
struct Ledger {
    charges: Vec<Charge>,
    next_cursor: Option<String>,
}

async fn list(State(state): State<AppState>, Query(page): Query<Page>) -> Result<Json<Ledger>, Problem> {
    let refuse =
        |field: &str, detail: &str| Problem::invalid(StatusCode::BAD_REQUEST, vec![FieldError::new(field, detail)]);
    let limit = page.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(refuse("limit", "must be 1 to 1000"));
    }
    let after = match page.cursor {
        None => 0,
        Some(cursor) => cursor
            .parse::<i64>()
            .map_err(|_| refuse("cursor", "must be a next_cursor of this list"))?,
    };
    let charges = store::list(&state.pool, after, limit).await.map_err(database)?;
    let full = i64::try_from(charges.len()).is_ok_and(|length| length == limit);
    let next_cursor = charges
        .last()
        .filter(|_| full)
        .map(|charge| charge.sequence.to_string());
    Ok(Json(Ledger { charges, next_cursor }))
}

async fn find(state: &AppState, key: &Key) -> Result<Charge, Problem> {
    store::find(&state.pool, key.as_str())
        .await
        .map_err(database)?
        .ok_or_else(unknown)
}

/// What can not be a key has no charge.
fn parse_key(text: String) -> Result<Key, Problem> {
    Key::try_from(text).map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("unknown-charge", "there is no charge with this key")
}

fn failed_on_purpose() -> Problem {
    let detail = "the processor failed on purpose; what was asked may have been done";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "processor-failed", detail)
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn database(error: sqlx::Error) -> Problem {
    from_sqlx(&error)
}
