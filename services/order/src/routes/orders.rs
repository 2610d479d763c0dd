//! `/api/orders`: what a request must look like, and what an order looks like in an answer.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path, Query};
use valerix_kit::postgres::begin;
use valerix_kit::problem::{FieldError, Problem};
use valerix_resilience::PROBLEM_JSON;
use valerix_resilience::idempotency::{Claim, Completion, IdempotentRequest, StoredAnswer, refusals};
use valerix_resilience::policy::Admission;

use crate::saga::state::Reason;
use crate::startup::App;
use crate::store::{NewOrder, Order, StoreError};

/// Whose every order is until there is an auth service.
pub const ANONYMOUS: &str = "anonymous";

const LARGEST_QUANTITY: i64 = 10_000;
const LONGEST_ITEM_ID: usize = 64;
const DEFAULT_LIMIT: i64 = 20;
const LARGEST_LIMIT: i64 = 100;

/// The routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/orders", get(list).post(place))
        .route("/api/orders/{id}", get(show))
}

/// The body of a POST.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceOrder {
    item_id: String,
    quantity: i64,
    gremlin: Option<bool>,
}

impl PlaceOrder {
    /// Everything that is wrong with it, or the order that it asks for.
    fn check(self, gremlins: bool) -> Result<NewOrder, Problem> {
        let mut errors = vec![];
        if self.item_id.is_empty() || self.item_id.len() > LONGEST_ITEM_ID {
            errors.push(FieldError::new("/item_id", "must have 1 to 64 characters"));
        } else if !self
            .item_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            errors.push(FieldError::new(
                "/item_id",
                "may hold A-Z, a-z, 0-9, dot, underscore and hyphen",
            ));
        }
        if !(1..=LARGEST_QUANTITY).contains(&self.quantity) {
            errors.push(FieldError::new("/quantity", "must be 1 to 10000"));
        }
        if self.gremlin.is_some() && !gremlins {
            errors.push(FieldError::new(
                "/gremlin",
                "needs chaos.admission Allowed in the service's policy",
            ));
        }
        match (i32::try_from(self.quantity), errors.is_empty()) {
            (Ok(quantity), true) => Ok(NewOrder {
                id: Uuid::now_v7(),
                principal: ANONYMOUS.to_owned(),
                item_id: self.item_id,
                quantity,
                gremlin: self.gremlin.unwrap_or(false),
            }),
            _ => Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors)),
        }
    }
}

/// An order in an answer.
#[derive(Debug, Serialize)]
struct OrderBody {
    order_id: Uuid,
    item_id: String,
    quantity: i32,
    status: &'static str,
    reason: Option<&'static str>,
    amount_minor: Option<i64>,
    currency: Option<String>,
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        let (amount_minor, currency) = order.amount.map(|money| (money.amount_minor, money.currency)).unzip();
        Self {
            order_id: order.id,
            item_id: order.item_id,
            quantity: order.quantity,
            status: order.state.status(),
            reason: order.state.reason().map(Reason::name),
            amount_minor,
            currency,
        }
    }
}

async fn place(
    State(app): State<App>,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let deadline = app.fast_path.deadline();
    let gremlins = app.resilience.policy().chaos.admission == Admission::Allowed;
    let new = body.parse::<PlaceOrder>()?.check(gremlins)?;
    let request = IdempotentRequest::new(&key, ANONYMOUS, &Method::POST, "/api/orders", "/api/orders", &body.0);
    let database = |error: sqlx::Error| Problem::from_sqlx(&error);

    let mut transaction = begin(app.store.pool()).await.map_err(database)?;
    let claim = app
        .resilience
        .idempotency()
        .claim(&mut transaction, &request, new.id)
        .await;
    let (attempt, order) = match claim.map_err(|error| Problem::from_idempotency(&error))? {
        Claim::Started(attempt) => {
            let order = app
                .store
                .create(&mut transaction, &new)
                .await
                .map_err(|error| problem(&error))?;
            (attempt, order)
        }
        Claim::TakenOver(attempt) => {
            let order_id = attempt.resource();
            let order = app
                .store
                .read_in(&mut transaction, order_id)
                .await
                .map_err(|error| problem(&error))?;
            (
                attempt,
                order.ok_or_else(|| problem(&StoreError::Missing { order_id }))?,
            )
        }
        Claim::Replay(answer) => return Ok(answer.into_response()),
        Claim::InProgress { .. } => return Ok(refusals::in_progress().into_response()),
        Claim::Mismatch { resource } => {
            let resource = resource.map(|id| id.to_string());
            return Ok(refusals::mismatch().with("resource", resource).into_response());
        }
    };
    transaction.commit().await.map_err(database)?;
    if attempt.number() == 1 {
        app.metrics.created();
    }
    app.relay.wake();

    let order = app
        .fast_path
        .drive(order, deadline)
        .await
        .map_err(|error| problem(&error))?;
    let mut transaction = begin(app.store.pool()).await.map_err(database)?;
    let completed = attempt.complete(&mut transaction, placed(order)?).await;
    let (Completion::Stored(answer) | Completion::Replay(answer)) =
        completed.map_err(|error| Problem::from_idempotency(&error))?;
    transaction.commit().await.map_err(database)?;
    Ok(answer.into_response())
}

/// The answer to a POST: 201 at the order's end, else 202; an item that inventory does not know is the client's mistake.
fn placed(order: Order) -> Result<StoredAnswer, Problem> {
    let location = format!("/api/orders/{}", order.id);
    let answer = if order.state.reason() == Some(Reason::UnknownItem) {
        let detail = format!("there is no item {:?}", order.item_id);
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-item", detail)
            .with("errors", json!([FieldError::new("/item_id", "is not known")]))
            .with("order_id", order.id.to_string());
        stored_problem(&problem)
    } else {
        let status = if order.state.is_terminal() {
            StatusCode::CREATED
        } else {
            StatusCode::ACCEPTED
        };
        StoredAnswer::json(status, &OrderBody::from(order))
    };
    answer
        .map(|answer| answer.location(location))
        .map_err(|error| Problem::internal(&error))
}

fn stored_problem(problem: &Problem) -> Result<StoredAnswer, serde_json::Error> {
    let mut answer = StoredAnswer::json(problem.status(), &problem.body())?;
    answer.content_type = Some(PROBLEM_JSON.to_owned());
    Ok(answer)
}

async fn show(State(app): State<App>, Path(id): Path<Uuid>) -> Result<Json<OrderBody>, Problem> {
    let order = app
        .store
        .read_of(ANONYMOUS, id)
        .await
        .map_err(|error| problem(&error))?;
    order
        .map(|order| Json(order.into()))
        .ok_or_else(|| Problem::not_found("unknown-order", format!("there is no order {id}")))
}

#[derive(Debug, Deserialize)]
struct Page {
    cursor: Option<Uuid>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
struct OrderPage {
    orders: Vec<OrderBody>,
    next_cursor: Option<Uuid>,
}

async fn list(State(app): State<App>, Query(page): Query<Page>) -> Result<Json<OrderPage>, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        return Err(Problem::invalid(
            StatusCode::BAD_REQUEST,
            vec![FieldError::new("limit", "must be 1 to 100")],
        ));
    }
    let mut orders = app
        .store
        .page(ANONYMOUS, page.cursor, limit + 1)
        .await
        .map_err(|error| problem(&error))?;
    let more = i64::try_from(orders.len()).is_ok_and(|found| found > limit);
    if more {
        orders.pop();
    }
    let next_cursor = orders.last().filter(|_| more).map(|order| order.id);
    Ok(Json(OrderPage {
        orders: orders.into_iter().map(OrderBody::from).collect(),
        next_cursor,
    }))
}

/// What a failure of the store means to the caller.
fn problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Sql { source, .. } => Problem::from_sqlx(source),
        other => Problem::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str, gremlins: bool) -> Vec<String> {
        let request: PlaceOrder = serde_json::from_str(body).unwrap();
        match request.check(gremlins) {
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
        assert_eq!(fields(r#"{"item_id": "ps5", "quantity": 1}"#, false), [""; 0]);
        assert_eq!(
            fields(r#"{"item_id": "ps5", "quantity": 10000, "gremlin": true}"#, true),
            [""; 0]
        );
        assert_eq!(
            fields(r#"{"item_id": "", "quantity": 0}"#, false),
            ["/item_id", "/quantity"]
        );
        assert_eq!(
            fields(r#"{"item_id": "a b", "quantity": 10001}"#, false),
            ["/item_id", "/quantity"]
        );
        assert_eq!(
            fields(r#"{"item_id": "a\u0000", "quantity": -1}"#, false),
            ["/item_id", "/quantity"]
        );
        assert_eq!(
            fields(r#"{"item_id": "ps5", "quantity": 9223372036854775807}"#, false),
            ["/quantity"]
        );
        assert_eq!(
            fields(r#"{"item_id": "ps5", "quantity": 1, "gremlin": false}"#, false),
            ["/gremlin"]
        );
    }
}
