//! Transactions that a cancelled future cannot leave open.

use sqlx::{PgPool, Postgres, Transaction};

/// Begins a transaction, or leaves no trace when the returned future is dropped at any point.
///
/// sqlx's own `begin` is not cancel-safe: dropped between sending `BEGIN` and its answer, it returns a connection to
/// the pool that is inside a transaction nobody knows of, and the next user's writes vanish although they answered Ok.
/// Here `BEGIN` runs in a task of its own that is never aborted; a transaction that nobody waits for any more is rolled
/// back by its own drop, after it has fully begun.
///
/// # Errors
/// What sqlx's `begin` returns: no connection in time, or the server refused.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that makes it cancel-safe"
    )]
    let task = tokio::spawn(async move { pool.begin().await });
    match task.await {
        Ok(result) => result,
        // Only a runtime that is shutting down cancels this task, and sqlx does not panic.
        Err(_) => Err(sqlx::Error::WorkerCrashed),
    }
}
