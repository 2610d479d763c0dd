//! `/api/orders`: what a request must look like, and what an order looks like in an answer.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::{Api, Id, Operation};
use valerix_kit::extract::{IdempotencyKey, Json, JsonBytes, Path, Query};
use valerix_kit::idempotent::{Answered, Budget, Opening, Resource, idempotent};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::item::{ItemId, LARGEST_ORDER};
use valerix_kit::money::Money;
use valerix_kit::page::Page;
use valerix_kit::problem::{FieldError, Problem, from_sqlx};
use valerix_resilience::idempotency::{IdempotentRequest, StoredAnswer};
use valerix_resilience::policy::{Admission, PROBE_HEADER};

use super::AppState;
use crate::order::{ANONYMOUS, NewOrder, Order};
use crate::saga::state::Reason;
use crate::store::StoreError;

const ORDERS: &str = "/api/orders";

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let new = Operation::new(
        "Place an order. Guests share their keys: who is not signed in takes a UUID as Idempotency-Key",
        Access::Public,
    )
    .idempotency_key()
    .header(
        "Valerix-Probe",
        "A chaos experiment's probe: answered as any other, refunded once it is CONFIRMED, announced as cancelled",
    )
    .body::<PlaceOrder>(json!({"item_id": "ps5", "quantity": 1}))
    .answer::<OrderBody>(201, "At its end: CONFIRMED or CANCELLED")
    .answer::<OrderBody>(202, "Accepted, will be finished: QUEUED or CANCELLING")
    .problem(409, "The first request with this key is still being answered")
    .problem(
        422,
        "A field is not acceptable, the item is not known, or the key came with another body",
    );
    let several = Operation::new("List one's own orders, newest first", Access::User)
        .query::<Page<Id>>()
        .answer::<OrderPage>(200, "A page");
    let one = Operation::new("Show an order", Access::Public)
        .answer::<OrderBody>(200, "The order")
        .problem(404, "There is no such order");
    api.post(ORDERS, place, new)
        .get(ORDERS, list, several)
        .get("/api/orders/{id}", show, one)
}

/// The body of a POST.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewOrder")]
struct PlaceOrder {
    #[schemars(with = "ItemId")]
    item_id: String,
    #[schemars(range(min = 1, max = 10_000))]
    quantity: i64,
    /// Have inventory wait 5 s before it answers; 422 unless chaos is allowed.
    gremlin: Option<bool>,
}

impl PlaceOrder {
    /// Everything that is wrong with it, or the order that it asks for.
    fn check(self, principal: &str, gremlins: bool) -> Result<NewOrder, Problem> {
        let mut errors = vec![];
        let item_id = ItemId::try_from(self.item_id);
        if let Err(detail) = &item_id {
            errors.push(FieldError::new("/item_id", *detail));
        }
        let quantity = i32::try_from(self.quantity).ok();
        let quantity = quantity.filter(|quantity| (1..=LARGEST_ORDER).contains(&i64::from(*quantity)));
        if quantity.is_none() {
            errors.push(FieldError::new("/quantity", "must be 1 to 10000"));
        }
        if self.gremlin.is_some() && !gremlins {
            errors.push(FieldError::new(
                "/gremlin",
                "needs GREMLIN=Allowed, or chaos.admission Allowed in the service's policy",
            ));
        }
        match (item_id, quantity, errors.is_empty()) {
            (Ok(item_id), Some(quantity), true) => Ok(NewOrder {
                id: Uuid::now_v7(),
                principal: principal.to_owned(),
                item_id,
                quantity,
                gremlin: self.gremlin.unwrap_or(false),
                probe: false,
            }),
            _ => Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors)),
        }
    }
}

/// An order in an answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Order")]
pub(super) struct OrderBody {
    #[schemars(with = "Id")]
    order_id: Uuid,
    item_id: String,
    quantity: i32,
    #[schemars(extend("enum" = ["QUEUED", "CONFIRMED", "CANCELLING", "CANCELLED", "REFUNDING", "REFUNDED"]))]
    status: &'static str,
    reason: Option<&'static str>,
    amount_minor: Option<i64>,
    currency: Option<String>,
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        let (amount, reason) = (order.amount.as_ref(), order.reason());
        Self {
            order_id: order.id,
            item_id: order.item_id,
            quantity: order.quantity,
            status: order.state.status(),
            reason,
            amount_minor: amount.map(Money::amount_minor),
            currency: amount.map(|money| money.currency().to_owned()),
        }
    }
}

async fn place(
    State(app): State<AppState>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let store = &app.fast_path.store;
    let budget = Budget::new(store.budget());
    let gremlins = app.gremlins || app.resilience.policy().chaos.admission == Admission::Allowed;
    let principal = caller.principal();
    let new = NewOrder {
        probe: headers.contains_key(PROBE_HEADER),
        ..body.parse::<PlaceOrder>()?.check(&principal, gremlins)?
    };
    let path = uri.path_and_query().map_or(ORDERS, |path| path.as_str());
    let resource = if principal == ANONYMOUS {
        Resource::Secret(new.id)
    } else {
        Resource::Named(new.id)
    };
    let request = IdempotentRequest::new(&key, &principal, &Method::POST, ORDERS, path, &body.0);
    idempotent(
        app.resilience.idempotency(),
        store.pool(),
        &request,
        resource,
        budget,
        async |mut transaction, opening| {
            let order = match opening {
                Opening::New(_) => store.create(&mut transaction, &new).await,
                Opening::Begun(order_id) => match store.read_in(&mut transaction, order_id).await {
                    Ok(order) => order.ok_or(StoreError::Missing { order_id }),
                    Err(error) => Err(error),
                },
            };
            let opened = order.map(|order| (transaction, (order, opening)));
            opened.map_err(|error| problem(&error))
        },
        async |(order, opening)| {
            let moves = &app.fast_path.moves;
            if matches!(opening, Opening::New(_)) {
                moves.metrics.created();
            }
            moves.relay.wake();
            // The order is stored: whatever becomes of its fast path, it is accepted.
            let driving = Box::pin(app.fast_path.drive(order.clone(), budget.work));
            let order = match tokio::time::timeout_at(budget.answer.instant(), driving).await {
                Ok(Ok(driven)) => driven,
                Ok(Err(error)) if !error.is_unavailable() => return Err(problem(&error)),
                slow => {
                    tracing::warn!(order = %order.id, ?slow, "the database stopped an order's fast path");
                    order
                }
            };
            placed(order).map(Answered::Final)
        },
    )
    .await
}

/// The answer to a POST: 201 at the order's end, else 202; an item that inventory does not know is the client's mistake.
fn placed(order: Order) -> Result<StoredAnswer, Problem> {
    let location = format!("/api/orders/{}", order.id);
    let answer = if order.state.reason() == Some(Reason::UnknownItem) {
        let detail = format!("there is no item {:?}", order.item_id);
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-item", detail)
            .with("errors", json!([FieldError::new("/item_id", "is not known")]))
            .with("order_id", order.id.to_string());
        Ok(StoredAnswer::problem(&problem))
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

async fn show(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<OrderBody>, Problem> {
    find(&app, &caller, id).await.map(|order| Json(order.into()))
}

/// The order, for those who may know of it: a user's is that user's and the admins', a guest's is everybody's who knows
/// its id.
pub(super) async fn find(app: &AppState, caller: &Caller, id: Uuid) -> Result<Order, Problem> {
    let found = app.fast_path.store.read(id).await.map_err(|error| problem(&error))?;
    let known =
        |order: &Order| order.principal == ANONYMOUS || order.principal == caller.principal() || caller.is_admin();
    found
        .filter(known)
        .ok_or_else(|| Problem::not_found("unknown-order", format!("there is no order {id}")))
}

#[derive(Debug, Serialize, JsonSchema)]
struct OrderPage {
    orders: Vec<OrderBody>,
    #[schemars(with = "Option<Id>")]
    next_cursor: Option<Uuid>,
}

async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(Page { cursor, limit }): Query<Page<Uuid>>,
) -> Result<Json<OrderPage>, Problem> {
    let orders = app
        .fast_path
        .store
        .page(&caller.principal(), cursor, limit.rows())
        .await
        .map_err(|error| problem(&error))?;
    let (orders, next_cursor) = limit.cut(orders, |(id, _)| *id);
    let orders = orders.into_iter().filter_map(|(_, order)| order);
    Ok(Json(OrderPage {
        orders: orders.map(OrderBody::from).collect(),
        next_cursor,
    }))
}

/// What a failure of the store means to the caller.
pub(super) fn problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Sql { source, .. } => from_sqlx(source),
        // It was there when the request began: the database has come back from an archive meanwhile.
        StoreError::Missing { order_id } => {
            tracing::warn!(order = %order_id, "an order is gone in the middle of a request");
            Problem::unavailable("the order is not there any more; nothing is known about the request")
        }
        other => Problem::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str, gremlins: bool) -> Vec<String> {
        let request: PlaceOrder = serde_json::from_str(body).unwrap();
        match request.check(ANONYMOUS, gremlins) {
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
