//! The marks table: random values that a group has kept in its database before it told the bus of them. All its SQL is here.

use std::time::Duration;

use sqlx::{FromRow, PgPool};
use uuid::Uuid;

/// A mark that is younger is not followed by another: so little is written, however many replicas look.
const FRESH: Duration = Duration::from_secs(2);
/// So many are remembered: those of a quarter of an hour, as a bus may go back itself, and name an older one than the last.
const RING: i32 = 512;

/// What the database has kept.
#[derive(Debug, FromRow)]
pub(super) struct Kept {
    /// The mark that was asked about is one of them.
    pub(super) known: bool,
    /// The last one, unless it is time for another.
    pub(super) fresh: Option<Uuid>,
}

/// What there is of a group, and whether `seen` is of it.
pub(super) async fn kept(pool: &PgPool, group: &str, seen: Option<Uuid>) -> Result<Kept, sqlx::Error> {
    sqlx::query_as(
        "SELECT EXISTS (SELECT FROM marks WHERE consumer_group = $1 AND mark = $2) AS known, \
         (SELECT CASE WHEN kept_at BETWEEN now() - $3 * interval '1 millisecond' AND now() THEN mark END \
          FROM marks WHERE consumer_group = $1 ORDER BY number DESC LIMIT 1) AS fresh",
    )
    .bind(group)
    .bind(seen)
    .bind(crate::postgres::milliseconds(FRESH))
    .fetch_one(pool)
    .await
}

/// Keeps another mark in the place of the oldest, and returns it once it is committed. `None`: another replica keeps one at
/// this moment.
pub(super) async fn keep(pool: &PgPool, group: &str) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO marks (consumer_group, place, number, mark) \
         SELECT $1, (next % $2)::integer, next, $3 \
         FROM (SELECT coalesce(max(number), 0) + 1 AS next FROM marks WHERE consumer_group = $1) AS numbered \
         ON CONFLICT (consumer_group, place) DO UPDATE \
         SET number = excluded.number, mark = excluded.mark, kept_at = excluded.kept_at \
         WHERE marks.number < excluded.number RETURNING mark",
    )
    .bind(group)
    .bind(RING)
    .bind(Uuid::new_v4())
    .fetch_optional(pool)
    .await
}
