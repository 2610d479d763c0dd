//! Every SQL statement of the service, one function each. Each is one statement, so none needs a transaction.

use sqlx::PgPool;

use crate::charge::{Charge, ChargeRequest};

const COLUMNS: &str = "sequence, key, amount_minor, currency, status, reason, created_at, refunded_at";

/// Makes the charge unless the key is known. `None`: it is, see [`find`].
///
/// # Errors
/// The statement's.
pub async fn insert(pool: &PgPool, request: &ChargeRequest, declined: bool) -> Result<Option<Charge>, sqlx::Error> {
    let (status, reason) = if declined {
        ("DECLINED", Some("CARD_DECLINED"))
    } else {
        ("SUCCEEDED", None)
    };
    let statement = format!(
        "INSERT INTO charges (key, amount_minor, currency, status, reason) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (key) DO NOTHING RETURNING {COLUMNS}"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(request.key.as_str())
        .bind(request.amount_minor.get())
        .bind(request.currency.as_str())
        .bind(status)
        .bind(reason)
        .fetch_optional(pool)
        .await
}

/// Cancels the key unless it is known: no charge of it can follow.
///
/// # Errors
/// The statement's.
pub async fn cancel(pool: &PgPool, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO charges (key, status) VALUES ($1, 'CANCELLED') ON CONFLICT (key) DO NOTHING")
        .bind(key)
        .execute(pool)
        .await?;
    Ok(())
}

/// The charge of a key.
///
/// # Errors
/// The statement's.
pub async fn find(pool: &PgPool, key: &str) -> Result<Option<Charge>, sqlx::Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM charges WHERE key = $1"
    )))
    .bind(key)
    .fetch_optional(pool)
    .await
}

/// Gives a charge back if it succeeded; a charge that was given back stays so, with its first date.
///
/// # Errors
/// The statement's.
pub async fn refund(pool: &PgPool, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE charges SET status = 'REFUNDED', refunded_at = now() WHERE key = $1 AND status = 'SUCCEEDED'")
        .bind(key)
        .execute(pool)
        .await?;
    Ok(())
}

/// At most `limit` charges behind `after` in the ledger.
///
/// # Errors
/// The statement's.
pub async fn list(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<Charge>, sqlx::Error> {
    let statement = format!("SELECT {COLUMNS} FROM charges WHERE sequence > $1 ORDER BY sequence LIMIT $2");
    sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await
}
