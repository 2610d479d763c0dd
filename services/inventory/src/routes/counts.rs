//! `POST /api/inventory/recount` and `POST /api/inventory/restock/bulk`: one at a time in the whole shop, by the lock of
//! the stock. A holder who was overtaken while it stood still is refused by the row.

use std::collections::HashSet;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use valerix_kit::api::{Api, Operation};
use valerix_kit::args::parse_duration;
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Object, Query};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::lock::{HeldLock, LockError};
use valerix_kit::postgres::begin;
use valerix_kit::problem::{FieldError, Problem, from_idempotency, from_sqlx};
use valerix_resilience::idempotency::{IdempotencyError, IdempotentRequest, Local, StoredAnswer, refusals};

use super::AppState;
use super::items::Restock;
use crate::store::counts::Counted;
use crate::store::{self, counts};

const BULK: &str = "/api/inventory/restock/bulk";
/// The longest that a recount stands still on purpose.
const LONGEST_HOLD: Duration = Duration::from_secs(10);
/// Entries of one bulk restock.
const MOST_ENTRIES: usize = 1_000;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let recounting = Operation::new(
        "Correct what is available by what orders hold and have bought",
        Access::Admin,
    )
    .query::<Recount>()
    .answer::<RecountBody>(200, "Each item, and what was corrected")
    .problem(
        409,
        "It was overtaken while it held the lock: nothing was written after that",
    )
    .problem(423, "Somebody else recounts or restocks; see Retry-After")
    .problem(503, "Redis, which keeps the lock, does not answer");
    let more = Operation::new(
        "Adds pieces of several items, all or none, once per Idempotency-Key",
        Access::Admin,
    )
    .idempotency_key()
    .body::<BulkRestock>(json!({"items": [{"item_id": "ps5", "quantity": 10}]}))
    .answer::<BulkBody>(200, "How many items it were")
    .problem(
        409,
        "The first request with this key is still being answered, or this one was overtaken",
    )
    .problem(422, "No such item, or the key came with another body")
    .problem(423, "Somebody else recounts or restocks; see Retry-After")
    .problem(503, "Redis, which keeps the lock, does not answer");
    api.post("/api/inventory/recount", recount, recounting)
        .post(BULK, restock, more)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Recount {
    /// Stand still so long with the lock and do not renew it, as a process that is paused: at most `10s`.
    hold: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct RecountBody {
    /// The fencing token under which it was written.
    token: i64,
    items: Vec<CountedBody>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CountedItem")]
struct CountedBody {
    item_id: String,
    available: i64,
    /// What was added to get there; 0 where the count was right.
    correction: i64,
}

async fn recount(State(state): State<AppState>, Query(query): Query<Recount>) -> Result<Json<RecountBody>, Problem> {
    let hold = query.hold.as_deref().map(parse_hold).transpose()?;
    let held = acquire(&state, hold.is_some()).await?;
    if let Some(hold) = hold {
        tokio::time::sleep(hold).await;
    }
    let (counted, token) = (count(&state, &held).await, held.fence().token);
    release(&state, held).await;
    let items = counted?.into_iter().map(|counted| CountedBody {
        item_id: counted.item_id,
        available: counted.available,
        correction: counted.correction,
    });
    Ok(Json(RecountBody {
        token,
        items: items.collect(),
    }))
}

/// One item after the other, so that orders of the others are decided meanwhile.
async fn count(state: &AppState, held: &HeldLock) -> Result<Vec<Counted>, Problem> {
    let ids = counts::item_ids(&state.pool).await;
    let mut all = vec![];
    for id in ids.map_err(|error| from_sqlx(&error))? {
        let mut transaction = begin(&state.pool).await.map_err(|error| from_sqlx(&error))?;
        pass(&mut transaction, held).await?;
        let counted = counts::recount(&mut transaction, &id).await;
        all.extend(counted.map_err(|error| from_sqlx(&error))?);
        transaction.commit().await.map_err(|error| from_sqlx(&error))?;
    }
    Ok(all)
}

fn parse_hold(text: &str) -> Result<Duration, Problem> {
    let hold = parse_duration(text).ok().filter(|hold| *hold <= LONGEST_HOLD);
    let refuse = || FieldError::new("hold", "must be a duration of at most 10s, e.g. 5s");
    hold.ok_or_else(|| Problem::invalid(StatusCode::BAD_REQUEST, vec![refuse()]))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BulkRestockRequest")]
struct BulkRestock {
    #[schemars(length(min = 1, max = 1000))]
    items: Vec<Object<Restock>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BulkRestock")]
struct BulkBody {
    /// The fencing token under which it was written.
    token: i64,
    /// Items that got pieces, each counted once. Not the items themselves: the answer is kept under its key and has to be
    /// small.
    restocked: usize,
}

async fn restock(
    State(state): State<AppState>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let BulkRestock { items } = body.parse()?;
    if !(1..=MOST_ENTRIES).contains(&items.len()) {
        return Err(Problem::invalid_field("/items", "must have 1 to 1000 entries"));
    }
    let request = IdempotentRequest::new(&key, &caller.principal(), &Method::POST, BULK, BULK, &body.0);
    let held = acquire(&state, false).await?;
    let answered = add(&state, &request, &held, items).await;
    release(&state, held).await;
    answered
}

async fn add(
    state: &AppState,
    request: &IdempotentRequest,
    held: &HeldLock,
    items: Vec<Object<Restock>>,
) -> Result<Response, Problem> {
    let unstored = |error: IdempotencyError| from_idempotency(&error);
    let idempotency = state.resilience.idempotency();
    let mut claim = match idempotency.begin(&state.pool, request).await.map_err(unstored)? {
        Local::Fresh(claim) => claim,
        Local::Replay(answer) => return Ok(answer.into_response()),
        Local::InProgress => return Ok(refusals::in_progress().into_response()),
        Local::Mismatch => return Ok(refusals::mismatch().into_response()),
    };
    pass(claim.transaction(), held).await?;
    // In the order of their ids: whoever locks several never waits in a circle.
    let mut entries: Vec<_> = items.into_iter().map(|Object(item)| item).enumerate().collect();
    entries.sort_by(|(_, left), (_, right)| left.item_id.as_str().cmp(right.item_id.as_str()));
    let mut restocked = HashSet::with_capacity(entries.len());
    for (index, Restock { item_id, quantity }) in entries {
        let item = store::add_stock(claim.transaction(), item_id.as_str(), quantity.get()).await;
        let item = item.map_err(|error| from_sqlx(&error))?;
        let item =
            item.ok_or_else(|| super::items::unknown_at(&format!("/items/{index}/item_id"), item_id.as_str()))?;
        restocked.insert(item.item_id);
    }
    let body = BulkBody {
        token: held.fence().token,
        restocked: restocked.len(),
    };
    let answer = StoredAnswer::json(StatusCode::OK, &body).map_err(|error| Problem::internal(&error))?;
    let stored = claim.commit(answer).await.map_err(unstored)?;
    Ok(stored.into_answer().into_response())
}

/// The lock of the stock; its holder's number is greater than any that the stock has seen.
async fn acquire(state: &AppState, stands_still: bool) -> Result<HeldLock, Problem> {
    let mark = counts::mark(&state.pool).await.map_err(|error| from_sqlx(&error))?;
    let held = if stands_still {
        state.lock.acquire_once(mark).await
    } else {
        state.lock.acquire(mark).await
    };
    held.map_err(|error| match error {
        LockError::Held { retry_after, .. } => {
            let detail = "somebody else recounts or restocks at the moment; try again after Retry-After";
            Problem::new(StatusCode::LOCKED, "locked", detail).retry_after(retry_after)
        }
        LockError::Unavailable { .. } => {
            tracing::warn!(
                category = error.category(),
                error = &error as &dyn std::error::Error,
                "no lock"
            );
            Problem::unavailable("Redis, which keeps the lock of the stock, does not answer; nothing was changed")
        }
    })
}

async fn release(state: &AppState, held: HeldLock) {
    if let Err(error) = state.lock.release(held).await {
        tracing::info!(%error, "a lock is left to end by itself");
    }
}

async fn pass(connection: &mut sqlx::PgConnection, held: &HeldLock) -> Result<(), Problem> {
    let passed = counts::pass(connection, held.fence()).await;
    if passed.map_err(|error| from_sqlx(&error))? {
        return Ok(());
    }
    let detail = "somebody else got the lock of the stock meanwhile and has written: nothing was changed after that";
    Err(Problem::new(StatusCode::CONFLICT, "overtaken", detail).with("token", held.fence().token))
}
