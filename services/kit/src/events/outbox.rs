//! The outbox table: events that are true and may not be published yet. All its SQL is here.
//!
//! The writing functions take the connection of the transaction that makes the event true. The table is created by the
//! service's own migrations from the files in `migrations/` of this crate.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::personal::personal_field;
use super::{Event, NewEvent, event_id};
use crate::telemetry::TraceContext;

/// Rows of outbox or inbox that one statement deletes.
pub(super) const PRUNE_BATCH: u64 = 1000;

/// How long published rows are kept.
pub const RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// Appends an event and returns its id. The relay publishes it once the transaction has committed.
///
/// # Errors
/// The statement's; a unique violation means that the aggregate has this version already. `Encode` when the payload has a
/// field that is personal data: everyone reads events, and nobody can take them back.
pub async fn append(connection: &mut PgConnection, event: &NewEvent) -> Result<Uuid, sqlx::Error> {
    if let Some(field) = personal_field(&event.payload) {
        let kind = &event.event_type;
        return Err(sqlx::Error::Encode(
            format!("failed to publish {kind}: its field {field} is personal data, name the user by id").into(),
        ));
    }
    let id = event_id(&event.aggregate, event.version, &event.event_type, &event.payload);
    let traceparent = TraceContext::current()
        .map(|context| context.traceparent())
        .unwrap_or_default();
    sqlx::query(
        "INSERT INTO outbox (event_id, aggregate, version, topic, type, payload, traceparent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(&event.aggregate)
    .bind(event.version)
    .bind(event.topic.as_ref())
    .bind(event.event_type.as_ref())
    .bind(&event.payload)
    .bind(traceparent)
    .execute(connection)
    .await?;
    Ok(id)
}

/// Deletes rows that were published and are older than `age`, at most 1,000; returns how many.
///
/// # Errors
/// The statement's.
pub async fn prune(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM outbox WHERE event_id IN (\
             SELECT event_id FROM outbox WHERE created_at < now() - $1 * interval '1 second' \
             AND published_at IS NOT NULL LIMIT 1000)",
    )
    .bind(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// What has not been published yet.
#[derive(FromRow)]
pub(super) struct OutboxBacklog {
    pub(super) rows: i64,
    pub(super) oldest_seconds: f64,
}

pub(super) async fn backlog(pool: &PgPool) -> Result<OutboxBacklog, sqlx::Error> {
    sqlx::query_as(
        "SELECT count(*) AS rows, \
         coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_seconds \
         FROM outbox WHERE published_at IS NULL",
    )
    .fetch_one(pool)
    .await
}

#[derive(FromRow)]
struct Row {
    event_id: Uuid,
    aggregate: String,
    version: i64,
    topic: String,
    r#type: String,
    payload: Value,
    traceparent: String,
    created_at: DateTime<Utc>,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        Self {
            id: row.event_id,
            topic: row.topic,
            event_type: row.r#type,
            aggregate: row.aggregate,
            version: row.version,
            occurred_at: row.created_at,
            payload: row.payload,
            traceparent: row.traceparent,
        }
    }
}

/// Locks up to `limit` rows that may be published now, ordered by (aggregate, version).
///
/// Only the first unpublished version of each aggregate is taken: with plain SKIP LOCKED a second relay would publish
/// version 2 while the first still holds version 1. A row that waits for another attempt holds its aggregate up;
/// none waits for two minutes, unless a clock was set back.
pub(super) async fn lock_batch(connection: &mut PgConnection, limit: i64) -> Result<Vec<Event>, sqlx::Error> {
    let mut rows: Vec<Row> = sqlx::query_as(
        "SELECT event_id, aggregate, version, topic, type, payload, traceparent, created_at FROM outbox AS row \
         WHERE published_at IS NULL AND (retry_at IS NULL OR retry_at <= clock_timestamp() \
                 OR retry_at > clock_timestamp() + interval '2 minutes') \
           AND NOT EXISTS (SELECT 1 FROM outbox AS earlier \
                 WHERE earlier.aggregate = row.aggregate AND earlier.version < row.version \
                   AND earlier.published_at IS NULL) \
         ORDER BY created_at LIMIT $1 FOR UPDATE OF row SKIP LOCKED",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    // The oldest are taken first, so that no aggregate starves; they are published in the order of the rule.
    rows.sort_by(|left, right| (&left.aggregate, left.version).cmp(&(&right.aggregate, right.version)));
    Ok(rows.into_iter().map(Event::from).collect())
}

/// How far the outbox is published.
#[derive(FromRow)]
pub(super) struct Progress {
    /// What was written before this moment is published.
    pub(super) complete: DateTime<Utc>,
    /// The clock by which that is said.
    pub(super) now: DateTime<Utc>,
}

pub(super) async fn progress(pool: &PgPool) -> Result<Progress, sqlx::Error> {
    sqlx::query_as(
        "SELECT clock_timestamp() AS now, \
         least(clock_timestamp(), (SELECT min(created_at) FROM outbox WHERE published_at IS NULL)) AS complete",
    )
    .fetch_one(pool)
    .await
}

/// The last event that was read of many: when it was written, and its id.
pub(super) type Place = (DateTime<Utc>, Uuid);

/// The topics of published events.
pub(super) async fn topics(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT DISTINCT topic FROM outbox WHERE published_at IS NOT NULL")
        .fetch_all(pool)
        .await
}

/// Up to `limit` published events of a topic that were written from `since` (or ever) until before `until`, oldest first,
/// behind the one at `after`.
pub(super) async fn published(
    pool: &PgPool,
    topic: &str,
    since: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Event>, sqlx::Error> {
    let (at, id) = after.unzip();
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT event_id, aggregate, version, topic, type, payload, traceparent, created_at FROM outbox \
         WHERE topic = $1 AND created_at >= coalesce($4, $2, '-infinity') AND created_at < $3 AND published_at IS NOT NULL \
           AND ($4::timestamptz IS NULL OR (created_at, event_id) > ($4, $5::uuid)) \
         ORDER BY created_at, event_id LIMIT $6",
    )
    .bind(topic)
    .bind(since)
    .bind(until)
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
}

/// As [`published`], but of that what was published last at `since` or later.
pub(super) async fn published_to(
    pool: &PgPool,
    topic: &str,
    since: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Event>, sqlx::Error> {
    let (at, id) = after.unzip();
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT event_id, aggregate, version, topic, type, payload, traceparent, created_at FROM outbox \
         WHERE topic = $1 AND created_at >= coalesce($4, '-infinity') AND created_at < $3 \
           AND published_at >= coalesce($2, '-infinity') \
           AND ($4::timestamptz IS NULL OR (created_at, event_id) > ($4, $5::uuid)) \
         ORDER BY created_at, event_id LIMIT $6",
    )
    .bind(topic)
    .bind(since)
    .bind(until)
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
}

/// They are on their streams as of now.
pub(super) async fn mark_published(connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE outbox SET published_at = clock_timestamp(), last_error = NULL WHERE event_id = ANY($1)")
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

/// Remembers a failed attempt and pauses the row: 1 s, 2 s, 4 s up to 64 s. Later versions of its aggregate wait.
pub(super) async fn mark_failed(connection: &mut PgConnection, id: Uuid, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE outbox SET attempts = attempts + 1, last_error = left($2, 500), \
         retry_at = clock_timestamp() + interval '1 second' * power(2, least(attempts, 6)) WHERE event_id = $1",
    )
    .bind(id)
    .bind(error)
    .execute(connection)
    .await?;
    Ok(())
}
