//! The marks table: random values that a group has kept in its database before it told the bus of them. All its SQL is here.

use std::time::Duration;

use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::postgres::milliseconds;

/// A mark that is younger is not followed by another: so little is written, however many replicas look.
const FRESH: Duration = Duration::from_secs(2);
/// So many are remembered: those of a quarter of an hour, as a bus may go back itself, and name an older one than the last.
const RING: i32 = 512;

/// What the database has kept.
#[derive(Debug, FromRow)]
pub(super) struct Kept {
    /// The mark that was asked about is one of them.
    pub(super) known: bool,
    /// The last one, which is committed. `None`: another replica keeps one at this moment.
    pub(super) mark: Option<Uuid>,
}

/// Finds out whether `seen` is kept, and keeps another mark in the place of the oldest. Not if it is, and the last is fresh, or
/// the bus has not been told of it: one that takes nothing for long names the same mark all the time. If it is not, always: an
/// archive may be so young that its last mark is fresh, and going back to it once more has to show.
///
/// One statement: between two of them another database may take the place of this one, and be marked as if it had known.
pub(super) async fn keep(pool: &PgPool, group: &str, seen: Option<Uuid>) -> Result<Kept, sqlx::Error> {
    sqlx::query_as(
        "WITH asked AS (SELECT EXISTS (SELECT FROM marks WHERE consumer_group = $1 AND mark = $2) AS known), \
         newest AS (SELECT number, mark, kept_at BETWEEN now() - $3 * interval '1 millisecond' AND now() AS fresh \
             FROM marks WHERE consumer_group = $1 ORDER BY number DESC LIMIT 1), \
         enough AS (SELECT mark FROM newest, asked WHERE known AND (fresh OR mark IS DISTINCT FROM $2)), \
         kept AS (INSERT INTO marks (consumer_group, place, number, mark) \
             SELECT $1, (next % $4)::integer, next, $5 \
             FROM (SELECT coalesce((SELECT number FROM newest), 0) + 1 AS next) AS numbered \
             WHERE NOT EXISTS (SELECT FROM enough) \
             ON CONFLICT (consumer_group, place) DO UPDATE \
             SET number = excluded.number, mark = excluded.mark, kept_at = excluded.kept_at \
             WHERE marks.number < excluded.number RETURNING mark) \
         SELECT known, coalesce((SELECT mark FROM enough), (SELECT mark FROM kept)) AS mark FROM asked",
    )
    .bind(group)
    .bind(seen)
    .bind(milliseconds(FRESH))
    .bind(RING)
    .bind(Uuid::new_v4())
    .fetch_one(pool)
    .await
}
