//! The inbox table: events that a group has handled. All its SQL is here.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// How long handled events are remembered; longer than any outbox keeps them.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Remembers the event in the transaction of its effect. `false`: it has been handled before, do nothing. Waits for a
/// transaction that handles the same event at this moment.
///
/// # Errors
/// The statement's.
pub async fn claim(connection: &mut PgConnection, group: &str, event: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("INSERT INTO inbox (consumer_group, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(group)
        .bind(event)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets events handled longer ago than `age`, at most 1,000; returns how many.
///
/// # Errors
/// The statement's.
pub async fn prune(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM inbox WHERE (consumer_group, event_id) IN (\
             SELECT consumer_group, event_id FROM inbox WHERE handled_at < now() - $1 * interval '1 second' LIMIT 1000)",
    )
    .bind(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
