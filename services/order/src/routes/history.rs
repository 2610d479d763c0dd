//! `GET /api/orders/{id}/history`: every input that was taken in; and `GET /api/orders/{id}/events`: the moves among them,
//! as server-sent events while they happen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::stream;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;
use valerix_kit::api::{Api, Id, Operation};
use valerix_kit::extract::{Json, Path, Query};
use valerix_kit::health::Health;
use valerix_kit::identity::{Access, Caller};
use valerix_kit::problem::{FieldError, Problem};

use super::AppState;
use super::orders::{find, problem};
use crate::order::Order;
use crate::saga::state::State as OrderState;
use crate::store::{Store, StoreError};
use crate::waiters::Waiter;

/// Streams that one replica keeps open: each holds a connection and looks at its order once a second.
const MOST_STREAMS: usize = 256;
/// The longest that one is open; a client that comes back goes on where it was.
const LONGEST_STREAM: Duration = Duration::from_secs(30 * 60);
/// Pause between two looks at an order that another replica may have moved, and at whether the service drains.
const LOOK: Duration = Duration::from_secs(1);
/// Entries of one page, and of one look.
const PAGE: i64 = 100;
/// Where a client says which event it has seen last.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let past = Operation::new("What happened to an order, oldest first", Access::Public)
        .query::<Page>()
        .answer::<HistoryPage>(200, "A page")
        .problem(404, "There is no such order");
    let live = Operation::new(
        "An order's moves while they happen, as server-sent events",
        Access::Public,
    )
    .events::<Move>(200, "Each event is a move, its id goes into Last-Event-ID")
    .empty(204, "The order is at an end, and nothing came after Last-Event-ID")
    .problem(404, "There is no such order")
    .problem(503, "Too many streams are open here");
    api.get("/api/orders/{id}/history", history, past)
        .get("/api/orders/{id}/events", events, live)
}

/// How many streams may still be opened, and whether they shall end.
#[derive(Clone)]
pub struct Streams {
    places: Arc<Semaphore>,
    health: Health,
}

impl Streams {
    /// None open. They end when `health` says that the service drains.
    #[must_use]
    pub fn new(health: Health) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_STREAMS)),
            health,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "HistoryQuery")]
struct Page {
    #[schemars(regex(pattern = "^[0-9]{1,18}$"))]
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct HistoryPage {
    #[schemars(with = "Id")]
    order_id: Uuid,
    history: Vec<Entry>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    at: DateTime<Utc>,
    /// What came: an answer, an event, a wish, the end of its time.
    input: String,
    from_state: String,
    to_state: String,
    /// `applied`; `late`: overtaken by a cancellation; `early`: kept until the order has come so far; `ignored`: no rule names it.
    verdict: String,
}

async fn history(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(page): Query<Page>,
) -> Result<Json<HistoryPage>, Problem> {
    let after = page
        .cursor
        .as_deref()
        .map_or(Ok(0), |cursor| number(cursor, "cursor"))?;
    find(&app, &caller, id).await?;
    let taken = app.fast_path.store.history(id, after, PAGE).await;
    let taken = taken.map_err(|error| problem(&error))?;
    let full = i64::try_from(taken.len()).is_ok_and(|length| length == PAGE);
    let next_cursor = taken.last().filter(|_| full).map(|last| last.id.to_string());
    let history = taken.into_iter().map(|taken| Entry {
        at: taken.at,
        input: taken.input,
        from_state: taken.from_state,
        to_state: taken.to_state,
        verdict: taken.verdict,
    });
    Ok(Json(HistoryPage {
        order_id: id,
        history: history.collect(),
        next_cursor,
    }))
}

fn number(text: &str, field: &str) -> Result<i64, Problem> {
    text.parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
        let error = FieldError::new(field, "must be what an earlier answer has given");
        Problem::invalid(StatusCode::BAD_REQUEST, vec![error])
    })
}

/// One event of the stream.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OrderMove")]
struct Move {
    #[schemars(with = "Id")]
    order_id: Uuid,
    at: DateTime<Utc>,
    /// What moved it.
    input: String,
    /// Where it stands since, as the saga calls it.
    state: String,
    /// The same, as `GET` of the order calls it.
    status: &'static str,
}

/// The name in the API of a state that is called `state` in the database; the API calls two of them `QUEUED`.
fn status(state: &str) -> &'static str {
    match state {
        "CONFIRMED" => "CONFIRMED",
        "CANCELLING" => "CANCELLING",
        "CANCELLED" => "CANCELLED",
        "REFUNDING" => "REFUNDING",
        "REFUNDED" => "REFUNDED",
        _ => OrderState::Pending.status(),
    }
}

async fn events(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = headers
        .get(LAST_EVENT_ID)
        .map(|seen| number(seen.to_str().unwrap_or_default(), "Last-Event-ID"));
    let seen = seen.transpose()?;
    // Before the look: a move after it wakes this one.
    let waiter = app.fast_path.moves.waiters.enter(id);
    let order = find(&app, &caller, id).await?;
    let place = Arc::clone(&app.streams.places).try_acquire_owned().map_err(|_| {
        let detail = "too many clients follow orders here; try again after Retry-After";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail).retry_after(Duration::from_secs(5))
    })?;
    let mut follower = Follower {
        waiting: VecDeque::new(),
        after: seen.unwrap_or(0),
        ended: false,
        until: Instant::now() + LONGEST_STREAM,
        store: app.fast_path.store.clone(),
        health: app.streams.health.clone(),
        order_id: id,
        waiter,
        _place: place,
    };
    if seen.is_none() {
        follower.waiting.push_back((0, placed(&order)));
    }
    follower.look().await.map_err(|error| problem(&error))?;
    if follower.waiting.is_empty() && follower.ended {
        // Tells a browser's EventSource not to come again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let moves = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(moves).keep_alive(KeepAlive::default()).into_response())
}

fn placed(order: &Order) -> Move {
    Move {
        order_id: order.id,
        at: order.created_at,
        input: "Placed".to_owned(),
        state: OrderState::Pending.name().to_owned(),
        status: OrderState::Pending.status(),
    }
}

/// One client that follows one order.
struct Follower {
    waiting: VecDeque<(i64, Move)>,
    after: i64,
    /// The last look has found the order at an end.
    ended: bool,
    until: Instant,
    store: Store,
    health: Health,
    order_id: Uuid,
    waiter: Waiter,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// The next move. `None`: the order is at an end, the service drains, or Postgres is away; then the client comes again.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((id, moved)) = self.waiting.pop_front() {
                let event = Event::default().event("move").id(id.to_string());
                return event.json_data(moved).ok();
            }
            if self.ended || self.health.is_draining() || Instant::now() > self.until {
                return None;
            }
            // Whether it was woken or not: it looks.
            let _ = tokio::time::timeout(LOOK, self.waiter.moved()).await;
            if let Err(error) = self.look().await {
                tracing::info!(order = %self.order_id, category = error.category(), "a stream of events ends early");
                return None;
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        // The state first: what is read behind it then holds at least every move that led there.
        let order = self.store.read(self.order_id).await?;
        let moves = self.store.moves(self.order_id, self.after, PAGE).await?;
        self.ended = moves.is_empty() && order.is_none_or(|order| order.state.is_terminal());
        for taken in moves {
            self.after = taken.id;
            let moved = Move {
                order_id: self.order_id,
                at: taken.at,
                input: taken.input,
                status: status(&taken.to_state),
                state: taken.to_state,
            };
            self.waiting.push_back((taken.id, moved));
        }
        Ok(())
    }
}
