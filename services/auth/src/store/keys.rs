//! The signing keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, PgPool};
use valerix_kit::postgres::milliseconds;

/// A key as it is kept.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct KeptKey {
    /// Its `kid`.
    pub id: String,
    /// The public half, 32 bytes.
    pub public_key: Vec<u8>,
    /// The private half, encrypted.
    pub private_key: Vec<u8>,
    /// From when it signs.
    pub signs_from: DateTime<Utc>,
}

/// Waits until no other replica adds a key, and keeps others from it until the transaction ends.
///
/// # Errors
/// The statement's.
pub async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE");
    lock.execute(connection).await.map(drop)
}

/// All of them, the newest first.
///
/// # Errors
/// The statement's.
pub async fn all(executor: impl PgExecutor<'_>) -> Result<Vec<KeptKey>, sqlx::Error> {
    sqlx::query_as("SELECT id, public_key, private_key, signs_from FROM signing_keys ORDER BY signs_from DESC, id DESC")
        .fetch_all(executor)
        .await
}

/// Adds one that signs after `lead`; gives from when.
///
/// # Errors
/// The statement's.
pub async fn insert(
    connection: &mut PgConnection,
    id: &str,
    public_key: &[u8],
    private_key: &[u8],
    lead: Duration,
) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO signing_keys (id, public_key, private_key, signs_from) \
         VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond') RETURNING signs_from",
    )
    .bind(id)
    .bind(public_key)
    .bind(private_key)
    .bind(milliseconds(lead))
    .fetch_one(connection)
    .await
}

/// Forgets those after which another one has signed for `after`.
///
/// # Errors
/// The statement's.
pub async fn forget(pool: &PgPool, after: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM signing_keys AS old WHERE EXISTS (\
             SELECT FROM signing_keys AS new WHERE new.signs_from > old.signs_from \
             AND new.signs_from < clock_timestamp() - $1 * interval '1 millisecond')",
    )
    .bind(milliseconds(after))
    .execute(pool)
    .await
    .map(drop)
}
