//! `POST /charges`, `GET /charges`, `GET /charges/{key}`, `POST /charges/{key}/refund`, `POST /charges/{key}/cancel`.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use valerix_kit::extract::{Json, Path, Query};
use valerix_kit::openapi::{Document, json_body, json_response, path_parameter, problem};
use valerix_kit::problem::{FieldError, Problem, from_sqlx};

use super::AppState;
use crate::charge::{Charge, ChargeRequest, Key};
use crate::misbehaviour::{Fate, declined, fate};
use crate::store;

pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/charges", post(charge).get(list))
        .route("/charges/{key}", get(show))
        .route("/charges/{key}/refund", post(refund))
        .route("/charges/{key}/cancel", post(cancel))
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

#[derive(Deserialize)]
struct Page {
    cursor: Option<String>,
    limit: Option<i64>,
}

async fn list(State(state): State<AppState>, Query(page): Query<Page>) -> Result<Json<Value>, Problem> {
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
    Ok(Json(json!({"charges": charges, "next_cursor": next_cursor})))
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

pub(super) fn describe(document: Document) -> Document {
    let key = json!({"type": "string", "pattern": "^[!-.0-~]{1,128}$"});
    let amount = json!({"type": "integer", "minimum": 1, "maximum": 1_000_000_000_000_000_i64});
    let currency = json!({"type": "string", "pattern": "^[A-Z]{3}$"});
    let in_path = path_parameter("key", &json!({"type": "string"}));
    document
        .schema(
            "ChargeRequest",
            json!({
                "type": "object",
                "required": ["key", "amount_minor", "currency"],
                "properties": {"key": key, "amount_minor": amount, "currency": currency},
            }),
        )
        .schema(
            "Charge",
            json!({
                "type": "object",
                "required": ["key", "amount_minor", "currency", "status", "reason", "created_at", "refunded_at"],
                "properties": {
                    "key": {"type": "string"},
                    "amount_minor": {"type": ["integer", "null"], "description": "In the currency's smallest unit"},
                    "currency": {"type": ["string", "null"]},
                    "status": {"enum": ["SUCCEEDED", "DECLINED", "REFUNDED", "CANCELLED"]},
                    "reason": {"type": ["string", "null"]},
                    "created_at": {"type": "string", "format": "date-time"},
                    "refunded_at": {"type": ["string", "null"], "format": "date-time"},
                },
            }),
        )
        .schema(
            "Ledger",
            json!({
                "type": "object",
                "required": ["charges", "next_cursor"],
                "properties": {
                    "charges": {"type": "array", "items": valerix_kit::openapi::schema_ref("Charge")},
                    "next_cursor": {"type": ["string", "null"]},
                },
            }),
        )
        .operation(
            "post",
            "/charges",
            json!({
                "summary": "Charges once per key; a decline is an answer",
                "requestBody": json_body("ChargeRequest"),
                "responses": {
                    "200": json_response("The charge made earlier", "Charge"),
                    "201": json_response("The new charge", "Charge"),
                },
            }),
        )
        .operation(
            "get",
            "/charges",
            json!({
                "summary": "The ledger, oldest first",
                "parameters": [
                    {"name": "cursor", "in": "query", "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
                ],
                "responses": {"200": json_response("A page", "Ledger")},
            }),
        )
        .operation(
            "get",
            "/charges/{key}",
            json!({
                "summary": "One charge",
                "parameters": [in_path],
                "responses": {"200": json_response("The charge", "Charge"), "404": problem("No such charge")},
            }),
        )
        .operation(
            "post",
            "/charges/{key}/refund",
            json!({
                "summary": "Gives a charge back, once",
                "parameters": [in_path],
                "responses": {
                    "200": json_response("The charge, refunded", "Charge"),
                    "404": problem("No such charge"),
                    "409": problem("The charge was declined or cancelled"),
                },
            }),
        )
        .operation(
            "post",
            "/charges/{key}/cancel",
            json!({
                "summary": "Sees to it that the key is never charged, unless it was already",
                "parameters": [in_path],
                "responses": {"200": json_response("The charge as it is: CANCELLED unless it was made before", "Charge")},
            }),
        )
}
