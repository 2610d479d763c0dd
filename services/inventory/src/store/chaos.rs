//! What was asked to go wrong.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};

/// One request for something to go wrong, as it was asked for.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Asked {
    /// Milliseconds that each request waits.
    pub latency_ms: i64,
    /// Share of requests whose connection is closed, 0 to 1.
    pub crash_rate: f64,
    /// Who asked.
    pub asked_by: String,
    /// When.
    pub asked_at: DateTime<Utc>,
    /// When it is over.
    pub ends_at: DateTime<Utc>,
    /// Milliseconds until then by the clock of Postgres; 0 or less: it is over.
    pub left_ms: i64,
}

const COLUMNS: &str = "latency_ms, crash_rate, asked_by, asked_at, ends_at, \
                       (extract(epoch FROM ends_at - now()) * 1000)::bigint AS left_ms";

/// Asks for it, instead of what was asked for before.
///
/// # Errors
/// The statement's.
pub async fn ask(
    pool: &PgPool,
    latency_ms: i64,
    crash_rate: f64,
    duration_ms: i64,
    asked_by: &str,
) -> Result<Asked, sqlx::Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "INSERT INTO chaos (latency_ms, crash_rate, asked_by, ends_at) \
         VALUES ($1, $2, $3, now() + $4 * interval '1 millisecond') RETURNING {COLUMNS}"
    )))
    .bind(latency_ms)
    .bind(crash_rate)
    .bind(asked_by)
    .bind(duration_ms)
    .fetch_one(pool)
    .await
}

/// At most `limit` of what was asked for, the last first.
///
/// # Errors
/// The statement's.
pub async fn last(pool: &PgPool, limit: i64) -> Result<Vec<Asked>, sqlx::Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM chaos ORDER BY id DESC LIMIT $1"
    )))
    .bind(limit)
    .fetch_all(pool)
    .await
}
