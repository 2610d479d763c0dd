//! Every SQL statement of the service.

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::{FromRow, PgConnection, PgPool};
use valerix_kit::postgres::milliseconds;

use crate::facts::{Fact, Step};
use crate::latency;

/// How long figures are kept, and what was seen of an order: longer than any event can come again.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// Rows that one statement deletes.
const PRUNE_BATCH: u64 = 1000;
/// Rows among which the events of one minute are spread.
const SHARDS: u8 = 8;

/// Something to add to a figure of a minute.
struct Addition {
    minute: DateTime<Utc>,
    name: &'static str,
    label: String,
    total: i64,
}

/// Takes a fact into the figures, once: a step of an order that was counted before changes nothing.
///
/// # Errors
/// The statements'.
pub async fn count(connection: &mut PgConnection, fact: &Fact) -> Result<(), sqlx::Error> {
    let Some((created, ended)) = remember(connection, fact).await? else {
        return Ok(());
    };
    let addition = |at: DateTime<Utc>, name, label: &str, total| Addition {
        minute: minute(at),
        name,
        label: label.to_owned(),
        total,
    };
    let mut additions = vec![match &fact.step {
        Step::Created => addition(fact.at, "created", "", 0),
        Step::Confirmed(money) => addition(fact.at, "confirmed", money.currency(), money.amount_minor()),
        Step::Cancelled(reason) => addition(fact.at, "cancelled", reason, 0),
        Step::Refunded(money) => addition(fact.at, "refunded", money.currency(), money.amount_minor()),
    }];
    // Whichever of the two comes second knows both.
    if let (Some(created), Some(ended)) = (created, ended)
        && !matches!(fact.step, Step::Refunded(_))
    {
        let took = u64::try_from((ended - created).num_milliseconds()).unwrap_or(0);
        let total = i64::try_from(took).unwrap_or(i64::MAX);
        additions.push(addition(ended, "latency", &latency::class(took).to_string(), total));
    }
    // Two events that add to the same rows take them in the same order, so neither waits for the other for ever.
    additions.sort_by(|left, right| (left.minute, left.name).cmp(&(right.minute, right.name)));
    let shard = i16::from(fact.order_id.as_bytes()[15] % SHARDS);
    for Addition {
        minute,
        name,
        label,
        total,
    } in additions
    {
        sqlx::query(
            "INSERT INTO figures (minute, name, label, shard, count, total) VALUES ($1, $2, $3, $4, 1, $5) \
             ON CONFLICT (minute, name, label, shard) \
             DO UPDATE SET count = figures.count + 1, total = figures.total + excluded.total",
        )
        .bind(minute)
        .bind(name)
        .bind(label)
        .bind(shard)
        .bind(total)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

type Times = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// Notes the step on the order's row; gives when the order was created and ended, as far as that is known. `None`: the
/// step was noted before.
async fn remember(connection: &mut PgConnection, fact: &Fact) -> Result<Option<Times>, sqlx::Error> {
    let statement = match fact.step {
        Step::Created => {
            "INSERT INTO orders (order_id, created_at) VALUES ($1, $2) ON CONFLICT (order_id) \
             DO UPDATE SET created_at = excluded.created_at WHERE orders.created_at IS NULL \
             RETURNING created_at, ended_at"
        }
        Step::Confirmed(_) | Step::Cancelled(_) => {
            "INSERT INTO orders (order_id, ended_at) VALUES ($1, $2) ON CONFLICT (order_id) \
             DO UPDATE SET ended_at = excluded.ended_at WHERE orders.ended_at IS NULL \
             RETURNING created_at, ended_at"
        }
        Step::Refunded(_) => {
            "INSERT INTO orders (order_id, refunded_at) VALUES ($1, $2) ON CONFLICT (order_id) \
             DO UPDATE SET refunded_at = excluded.refunded_at WHERE orders.refunded_at IS NULL \
             RETURNING created_at, ended_at"
        }
    };
    sqlx::query_as(statement)
        .bind(fact.order_id)
        .bind(fact.at)
        .fetch_optional(connection)
        .await
}

/// The minute that a moment is in.
#[must_use]
pub fn minute(at: DateTime<Utc>) -> DateTime<Utc> {
    // Rounding fails only some centuries from now; such a moment is its own minute.
    at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(at)
}

/// One figure of one minute.
#[derive(Clone, Debug, FromRow)]
pub struct Figure {
    /// Its minute.
    pub minute: DateTime<Utc>,
    /// `created`, `confirmed`, `cancelled`, `refunded` or `latency`.
    pub name: String,
    /// The currency, the reason, or the upper bound of the latency in ms.
    pub label: String,
    /// How many.
    pub count: i64,
    /// Minor units or milliseconds.
    pub total: i64,
}

/// The figures from `from` until before `to`, by minute.
///
/// # Errors
/// The statement's.
pub async fn figures(pool: &PgPool, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Figure>, sqlx::Error> {
    sqlx::query_as(
        "SELECT minute, name, label, sum(count)::bigint AS count, \
         least(sum(total), 9223372036854775807)::bigint AS total \
         FROM figures WHERE minute >= $1 AND minute < $2 GROUP BY minute, name, label ORDER BY minute, name, label",
    )
    .bind(from)
    .bind(to)
    .fetch_all(pool)
    .await
}

/// Forgets what is older than `age`, at most 1,000 rows of each table; says whether there may be more.
///
/// # Errors
/// The statements'.
pub async fn prune(pool: &PgPool, age: Duration) -> Result<bool, sqlx::Error> {
    let mut more = false;
    for statement in [
        "DELETE FROM orders WHERE order_id IN (SELECT order_id FROM orders \
             WHERE seen_at < now() - $1 * interval '1 millisecond' LIMIT 1000)",
        "DELETE FROM figures WHERE (minute, name, label, shard) IN (SELECT minute, name, label, shard FROM figures \
             WHERE minute < now() - $1 * interval '1 millisecond' LIMIT 1000)",
    ] {
        let done = sqlx::query(statement).bind(milliseconds(age)).execute(pool).await?;
        more |= done.rows_affected() == PRUNE_BATCH;
    }
    Ok(more)
}
