//! `POST /api/orders/{id}/cancel` and `/refund`: what a customer may still want of an order that was taken in. Both need no
//! key: asked twice, the order is undone once.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use uuid::Uuid;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{Json, Path};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::problem::Problem;

use super::AppState;
use super::orders::{OrderBody, find, problem};
use crate::order::Order;
use crate::saga::state::{Input, Reason, State as OrderState};

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let stop = Operation::new("Cancel an order that is not finished", Access::Public)
        .answer::<OrderBody>(202, "CANCELLING: the stock goes back, and no money is kept")
        .problem(404, "There is no such order")
        .problem(409, "The order is at its end; the member order_status names it");
    let give_back = Operation::new(
        "Give the money of a confirmed order back and take its stock back",
        Access::Admin,
    )
    .answer::<OrderBody>(202, "REFUNDING")
    .problem(404, "There is no such order")
    .problem(
        409,
        "The order is not CONFIRMED; the member order_status names what it is",
    );
    api.post("/api/orders/{id}/cancel", cancel, stop)
        .post("/api/orders/{id}/refund", refund, give_back)
}

async fn cancel(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<Response, Problem> {
    let open = |state| matches!(state, OrderState::Pending | OrderState::Reserved);
    let input = Input::Cancel(Reason::CancelledByCustomer);
    let order = ask(&app, find(&app, &caller, id).await?, open, input).await?;
    match order.state {
        OrderState::Cancelling { .. } => Ok(under_way(order)),
        state => Err(refused(
            "order-not-cancellable",
            "only an unfinished order is cancelled",
            state,
        )),
    }
}

async fn refund(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<Response, Problem> {
    let paid = |state| matches!(state, OrderState::Confirmed);
    let order = ask(&app, find(&app, &caller, id).await?, paid, Input::RefundAsked).await?;
    match order.state {
        OrderState::Refunding => Ok(under_way(order)),
        state => Err(refused(
            "order-not-refundable",
            "only a confirmed order is refunded",
            state,
        )),
    }
}

/// Takes `input` in if the order is in a state that it is `meant` for; says how the order then stands.
async fn ask(app: &AppState, order: Order, meant: fn(OrderState) -> bool, input: Input) -> Result<Order, Problem> {
    if !meant(order.state) {
        return Ok(order);
    }
    let applied = app.fast_path.store.apply(order.id, input, None).await;
    let applied = applied.map_err(|error| problem(&error))?;
    app.fast_path.moves.committed(&applied);
    Ok(applied.order)
}

fn under_way(order: Order) -> Response {
    let location = HeaderValue::try_from(format!("/api/orders/{}", order.id));
    let mut answer = (StatusCode::ACCEPTED, Json(OrderBody::from(order))).into_response();
    if let Ok(location) = location {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn refused(name: &'static str, rule: &str, state: OrderState) -> Problem {
    let status = state.status();
    Problem::new(StatusCode::CONFLICT, name, format!("the order is {status}: {rule}")).with("order_status", status)
}
