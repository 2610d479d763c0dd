//! Comparisons with the processor's ledger, and the reading of many payments that they need.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use uuid::Uuid;
use valerix_kit::postgres::milliseconds;

use super::{COLUMNS, Listed, Row, Store, StoreError, listed, sql};
use crate::books::{Difference, Found};

/// A comparison that has ended.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Report {
    /// Grows.
    pub id: i64,
    /// Who asked for it; `schedule`: it was due.
    pub asked_by: String,
    /// When.
    pub asked_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// Charges of the ledger that were looked at.
    pub charges: i64,
    /// Payments that the ledger did not name.
    pub payments: i64,
    /// Differences found.
    pub total: i64,
    /// The first of them.
    pub differences: Json<Vec<Difference>>,
}

/// A comparison that came to no end.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Failed {
    /// When it was given up.
    pub finished_at: DateTime<Utc>,
    /// Why.
    pub error: String,
}

impl Store {
    /// The payments with these ids, in any order.
    pub async fn read_all(&self, ids: &[Uuid]) -> Result<Vec<Listed>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM payments WHERE id = ANY($1)");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(ids)
            .fetch_all(self.pool())
            .await
            .map_err(sql("read payments"))?;
        Ok(rows.into_iter().map(listed).collect())
    }

    /// At most `limit` payments about which the processor must know, by id, behind `after`.
    pub async fn known_behind(&self, after: Uuid, limit: i64) -> Result<Vec<Listed>, StoreError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM payments WHERE state IN ('CHARGED', 'DECLINED', 'REFUNDING', 'REFUNDED') AND id > $1
             ORDER BY id LIMIT $2"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(after)
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .map_err(sql("read payments by id"))?;
        Ok(rows.into_iter().map(listed).collect())
    }

    /// Asks for a comparison that begins from now on; says which one it is.
    pub async fn ask_for_reconciliation(&self, asked_by: &str) -> Result<i64, StoreError> {
        sqlx::query_scalar(
            "WITH waiting AS (SELECT id FROM reconciliations WHERE finished_at IS NULL AND begun_at IS NULL LIMIT 1),
                  new AS (INSERT INTO reconciliations (asked_by) SELECT $1 WHERE NOT EXISTS (SELECT FROM waiting)
                          RETURNING id)
             SELECT id FROM waiting UNION ALL SELECT id FROM new LIMIT 1",
        )
        .bind(asked_by)
        .fetch_one(self.pool())
        .await
        .map_err(sql("ask for a reconciliation"))
    }

    /// Asks for a comparison if none has succeeded for `interval`, and none was tried in the last minute.
    pub async fn schedule_reconciliation(&self, interval: Duration) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO reconciliations (asked_by) SELECT 'schedule' WHERE NOT EXISTS (
                 SELECT FROM reconciliations WHERE asked_at > now() - interval '1 minute'
                     OR (asked_at > now() - $1 * interval '1 millisecond' AND error IS NULL))",
        )
        .bind(milliseconds(interval))
        .execute(self.pool())
        .await
        .map(drop)
        .map_err(sql("schedule a reconciliation"))
    }

    /// Begins one that was asked for, or one whose replica has not been heard of for five minutes.
    pub async fn begin_reconciliation(&self) -> Result<Option<i64>, StoreError> {
        sqlx::query_scalar(
            "UPDATE reconciliations SET begun_at = now() WHERE id = (
                 SELECT id FROM reconciliations WHERE finished_at IS NULL
                     AND (begun_at IS NULL OR begun_at < now() - interval '5 minutes')
                 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id",
        )
        .fetch_optional(self.pool())
        .await
        .map_err(sql("begin a reconciliation"))
    }

    /// This replica is still at it.
    pub async fn go_on(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE reconciliations SET begun_at = now() WHERE id = $1")
            .bind(id)
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(sql("go on with a reconciliation"))
    }

    /// Keeps what it came to, or why to no end, for ninety days.
    pub async fn finish_reconciliation(&self, id: i64, compared: Result<&Found, String>) -> Result<(), StoreError> {
        let (found, error) = match compared {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        sqlx::query(
            "WITH old AS (DELETE FROM reconciliations WHERE asked_at < now() - interval '90 days')
             UPDATE reconciliations SET finished_at = now(), charges = $2, payments = $3, total = $4, differences = $5,
                    error = $6 WHERE id = $1",
        )
        .bind(id)
        .bind(found.map(|found| found.charges))
        .bind(found.map(|found| found.payments))
        .bind(found.map(|found| found.total))
        .bind(found.map(|found| Json(&found.differences)))
        .bind(error)
        .execute(self.pool())
        .await
        .map(drop)
        .map_err(sql("keep a reconciliation"))
    }

    /// The last one that came to an end.
    pub async fn last_reconciliation(&self) -> Result<Option<Report>, StoreError> {
        sqlx::query_as(
            "SELECT id, asked_by, asked_at, finished_at, charges, payments, total, differences FROM reconciliations
             WHERE total IS NOT NULL ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(self.pool())
        .await
        .map_err(sql("read the last reconciliation"))
    }

    /// The last one that came to no end, if none has succeeded since.
    pub async fn failed_reconciliation(&self) -> Result<Option<Failed>, StoreError> {
        sqlx::query_as(
            "SELECT finished_at, error FROM (
                 SELECT finished_at, error FROM reconciliations WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1
             ) AS last WHERE error IS NOT NULL",
        )
        .fetch_optional(self.pool())
        .await
        .map_err(sql("read the last failed reconciliation"))
    }
}
