//! One statement on one order, each inside the caller's transaction, and how a row becomes an order.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;
use valerix_kit::events::{NewEvent, outbox};
use valerix_kit::money::Money;
use valerix_kit::telemetry::TraceContext;

use super::{StoreError, sql};
use crate::events::{self, ORDER_EVENTS};
use crate::order::Order;
use crate::saga::commands::{Action, Announcement};
use crate::saga::state::{Disposition, Input, Reason, State};

pub(super) const COLUMNS: &str = "id, principal, item_id, quantity, gremlin, probe, state, reason, stock_returned, \
                                  payment_settled, amount_minor, currency, version, created_at, traceparent";

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: Uuid,
    principal: String,
    item_id: String,
    quantity: i32,
    gremlin: bool,
    probe: bool,
    state: String,
    reason: Option<String>,
    stock_returned: bool,
    payment_settled: bool,
    amount_minor: Option<i64>,
    currency: Option<String>,
    version: i64,
    created_at: DateTime<Utc>,
    traceparent: String,
}

pub(super) async fn read(connection: &mut PgConnection, id: Uuid) -> Result<Option<Order>, StoreError> {
    sqlx::query_as::<_, Row>(AssertSqlSafe(format!("SELECT {COLUMNS} FROM orders WHERE id = $1")))
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(sql("read an order"))?
        .map(Order::try_from)
        .transpose()
}

/// Moves the order on if it still stands where it was read; the version also tells the two halves of CANCELLING apart.
/// `Some`: it did; whether a [charge was kept](keep_charge) for it.
pub(super) async fn update(
    connection: &mut PgConnection,
    order: &Order,
    before: State,
) -> Result<Option<bool>, StoreError> {
    let (stock_returned, payment_settled) = match order.state {
        State::Cancelling {
            stock_returned,
            payment_settled,
            ..
        } => (stock_returned, payment_settled),
        State::Cancelled { .. } => (true, true),
        _ => (false, false),
    };
    sqlx::query_scalar(
        "UPDATE orders SET state = $4, reason = $5, stock_returned = $6, payment_settled = $7, amount_minor = $8,
                currency = $9, version = version + 1, updated_at = now()
         WHERE id = $1 AND state = $2 AND version = $3 RETURNING charged",
    )
    .bind(order.id)
    .bind(before.name())
    .bind(order.version)
    .bind(order.state.name())
    .bind(order.state.reason().map(Reason::name))
    .bind(stock_returned)
    .bind(payment_settled)
    .bind(order.amount.as_ref().map(Money::amount_minor))
    .bind(order.amount.as_ref().map(Money::currency))
    .fetch_optional(connection)
    .await
    .map_err(sql("move an order on"))
}

/// Remembers of an order that still stands where it was read that its charge was heard. In its own row, so that whoever moves
/// it at the same moment sees it, or is seen; not as a step, so that what is announced later has the version that it had before.
pub(super) async fn keep_charge(connection: &mut PgConnection, order: &Order) -> Result<bool, StoreError> {
    sqlx::query("UPDATE orders SET charged = true WHERE id = $1 AND state = $2 AND version = $3")
        .bind(order.id)
        .bind(order.state.name())
        .bind(order.version)
        .execute(connection)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(sql("keep a charge that was heard early"))
}

pub(super) async fn record(
    connection: &mut PgConnection,
    id: Uuid,
    input: Input,
    from: State,
    to: State,
    disposition: Disposition,
) -> Result<(), StoreError> {
    // What moves nothing may come again and again, as when events are published again: once says it.
    sqlx::query(
        "INSERT INTO order_history (order_id, input, from_state, to_state, verdict)
         SELECT $1, $2, $3, $4, $5 WHERE $3 <> $4 OR NOT EXISTS (
             SELECT FROM order_history WHERE order_id = $1 AND input = $2 AND from_state = $3 AND to_state = $4
                AND verdict = $5)",
    )
    .bind(id)
    .bind(input.name())
    .bind(from.name())
    .bind(to.name())
    .bind(disposition.name())
    .execute(connection)
    .await
    .map(drop)
    .map_err(sql("record an input"))
}

/// Puts a command into the outbox. Each attempt is an event of its own, so that it is answered again.
pub(super) async fn emit(
    connection: &mut PgConnection,
    order: &Order,
    action: Action,
    attempt: i32,
) -> Result<(), StoreError> {
    append(
        connection,
        order,
        events::topic(action),
        action.name(),
        action.key(order.id),
        i64::from(attempt),
        events::command_payload(action, order),
    )
    .await
}

pub(super) async fn announce(
    connection: &mut PgConnection,
    order: &Order,
    announcement: Announcement,
) -> Result<(), StoreError> {
    let told = if order.probe {
        announcement.of_probe()
    } else {
        Some(announcement)
    };
    let Some(announcement) = told else {
        return Ok(());
    };
    append(
        connection,
        order,
        ORDER_EVENTS,
        announcement.name(),
        format!("order:{}", order.id),
        order.version,
        events::announcement_payload(order),
    )
    .await
}

/// What nobody's request or event has caused, such as a copy by the sweeper, belongs to the trace of the order.
async fn append(
    connection: &mut PgConnection,
    order: &Order,
    topic: &'static str,
    event_type: &'static str,
    aggregate: String,
    version: i64,
    payload: Value,
) -> Result<(), StoreError> {
    let event = NewEvent {
        topic: topic.into(),
        event_type: event_type.into(),
        aggregate,
        version,
        payload,
    };
    let context = TraceContext::current().unwrap_or_else(|| TraceContext::continued(&order.traceparent));
    context
        .scope(outbox::append(connection, &event))
        .await
        .map(drop)
        .map_err(sql("put an event into the outbox"))
}

/// One of several orders: without what it holds where this version cannot read it, which keeps the others from nobody.
pub(super) fn listed(row: Row) -> (Uuid, Option<Order>) {
    let id = row.id;
    let order = Order::try_from(row).inspect_err(|error| {
        tracing::error!(%error, category = error.category(), "an order was passed over");
    });
    (id, order.ok())
}

impl TryFrom<Row> for Order {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let order_id = row.id;
        let unknown = |what: String| StoreError::Row { order_id, what };
        let reason = || {
            let name = row.reason.as_deref().unwrap_or_default();
            Reason::parse(name).ok_or_else(|| unknown(format!("reason {name:?}")))
        };
        let state = match row.state.as_str() {
            "PENDING" => State::Pending,
            "RESERVED" => State::Reserved,
            "CONFIRMED" => State::Confirmed,
            "CANCELLING" => State::Cancelling {
                reason: reason()?,
                stock_returned: row.stock_returned,
                payment_settled: row.payment_settled,
            },
            "CANCELLED" => State::Cancelled { reason: reason()? },
            "REFUNDING" => State::Refunding,
            "REFUNDED" => State::Refunded,
            other => return Err(unknown(format!("state {other:?}"))),
        };
        let amount = match (row.amount_minor, row.currency) {
            (Some(amount_minor), Some(currency)) => {
                Some(Money::new(amount_minor, currency).map_err(|error| unknown(error.to_string()))?)
            }
            _ => None,
        };
        Ok(Self {
            id: row.id,
            principal: row.principal,
            item_id: row.item_id,
            quantity: row.quantity,
            gremlin: row.gremlin,
            probe: row.probe,
            state,
            amount,
            version: row.version,
            created_at: row.created_at,
            traceparent: row.traceparent,
        })
    }
}
