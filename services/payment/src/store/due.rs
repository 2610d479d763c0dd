//! Payments whose processor has to be asked: when they fall due, who takes them up, and how long he has.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use uuid::Uuid;
use valerix_kit::postgres::milliseconds;

use super::{COLUMNS, Row, Store, StoreError, sql};
use crate::payment::Payment;

/// A payment that was taken up to be settled.
#[derive(Clone, Debug)]
pub struct Due {
    /// As it stands.
    pub payment: Payment,
    /// How often it has been taken up for what is open about it, this time included.
    pub attempt: i32,
    /// How long the processor is waited for; grows with the attempts. Nobody else takes the payment up so long.
    pub patience: Duration,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    #[sqlx(flatten)]
    row: Row,
    attempts: i32,
    lease_milliseconds: i64,
}

/// Share of a lease that the processor is waited for: one who took a payment up gives up before another takes it up.
const PATIENCE: f64 = 0.8;
/// The longest lease, and so the longest that the processor is waited for.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// By how much a clock may be set back and nobody need care.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);
/// The longest pause after the processor did not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Store {
    /// How long the processor is waited for at first.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.lease.mul_f64(PATIENCE)
    }

    /// Makes payments due that lie further ahead than any is ever put off: the clock of Postgres was set back.
    pub async fn recall_postponed(&self) -> Result<(), StoreError> {
        let longest = LONGEST_LEASE.max(self.lease) + CLOCKS_DIFFER;
        sqlx::query("UPDATE payments SET due_at = now() WHERE due_at > now() + $1 * interval '1 millisecond'")
            .bind(milliseconds(longest))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("recall postponed payments"))
    }

    /// Takes up to `limit` payments up whose processor has to be asked now; they fall due again, later with every attempt,
    /// in case the one who takes them is not heard of again. Other replicas take others. One that this version cannot read
    /// is told apart and waits for another version.
    pub async fn take_due(&self, limit: i64) -> Result<Vec<Result<Due, StoreError>>, StoreError> {
        let statement = format!(
            "UPDATE payments SET attempts = attempts + 1,
                    due_at = now() + least($2 * power(2, least(attempts, 10)), $3) * interval '1 millisecond'
             WHERE id IN (SELECT id FROM payments WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING {COLUMNS}, attempts, (extract(epoch FROM due_at - now()) * 1000)::bigint AS lease_milliseconds"
        );
        let rows: Vec<DueRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(limit)
            .bind(milliseconds(self.lease))
            .bind(milliseconds(LONGEST_LEASE.max(self.lease)))
            .fetch_all(&self.pool)
            .await
            .map_err(sql("take due payments up"))?;
        let due = |row: DueRow| {
            Ok(Due {
                payment: row.row.try_into()?,
                attempt: row.attempts,
                patience: Duration::from_millis(row.lease_milliseconds.unsigned_abs()).mul_f64(PATIENCE),
            })
        };
        Ok(rows.into_iter().map(due).collect())
    }

    /// The processor has not answered the one who took the payment up for the `attempt`-th time: it is due again after a
    /// pause, however long the lease still is.
    pub async fn pause(&self, id: Uuid, attempt: i32) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE payments SET due_at = now() + $3 * interval '1 millisecond'
             WHERE id = $1 AND attempts = $2 AND due_at > now() + $3 * interval '1 millisecond'",
        )
        .bind(id)
        .bind(attempt)
        .bind(milliseconds(LONGEST_PAUSE))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(sql("give a payment back"))
    }

    /// The caller who opened the payment got no answer from the processor and gives up: it is due for the sweeper.
    pub async fn hand_over(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("UPDATE payments SET due_at = now() WHERE id = $1 AND due_at > now() AND attempts = 0")
            .bind(id)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("hand a payment over"))
    }
}
