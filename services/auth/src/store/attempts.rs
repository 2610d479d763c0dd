//! Logins that failed, and where accounts were logged into.

use std::time::Duration;

use sqlx::PgPool;
use valerix_kit::postgres::milliseconds;

use crate::lockout::{FAMILIAR, LONGEST, MEMORY, Subject};

/// Counts an attempt as failed, before it is known how it ends: of many at the same moment none is overlooked. Gives for
/// how long the subject is closed, if it is; then the attempt is not counted, and not to be made. How long failures are
/// remembered is not renewed by it: see [`confirm`].
///
/// # Errors
/// The statement's.
pub async fn count(pool: &PgPool, subject: &Subject) -> Result<Option<Duration>, sqlx::Error> {
    // The pause of the n-th failure: 2^(n - free) seconds from the first that is not free.
    let counted: Option<(i32,)> = sqlx::query_as(
        "INSERT INTO attempts AS seen (subject, failures, last_at, locked_until) \
         VALUES ($1, 1, clock_timestamp(), clock_timestamp()) \
         ON CONFLICT (subject) DO UPDATE SET \
             last_at = CASE WHEN seen.last_at < clock_timestamp() - $3 * interval '1 millisecond' THEN clock_timestamp() \
                            ELSE seen.last_at END, \
             failures = CASE WHEN seen.last_at < clock_timestamp() - $3 * interval '1 millisecond' THEN 1 \
                             ELSE seen.failures + 1 END, \
             locked_until = clock_timestamp() + CASE \
                 WHEN seen.last_at < clock_timestamp() - $3 * interval '1 millisecond' OR seen.failures + 1 < $2 \
                     THEN interval '0' \
                 ELSE least(interval '1 second' * power(2, least(seen.failures + 1 - $2, 20)), \
                            $4 * interval '1 millisecond') END \
         WHERE seen.locked_until <= clock_timestamp() RETURNING failures",
    )
    .bind(&subject.key)
    .bind(subject.free)
    .bind(milliseconds(MEMORY))
    .bind(milliseconds(LONGEST))
    .fetch_optional(pool)
    .await?;
    if counted.is_some() {
        return Ok(None);
    }
    let left: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM locked_until - clock_timestamp())::float8 FROM attempts WHERE subject = $1",
    )
    .bind(&subject.key)
    .fetch_optional(pool)
    .await?;
    Ok(Some(Duration::from_secs_f64(
        left.unwrap_or_default().clamp(0.001, LONGEST.as_secs_f64()),
    )))
}

/// An attempt that was counted has failed indeed: the failures of its subject are remembered from now on.
///
/// # Errors
/// The statement's.
pub async fn confirm(pool: &PgPool, subject: &Subject) -> Result<(), sqlx::Error> {
    let confirm = sqlx::query("UPDATE attempts SET last_at = clock_timestamp() WHERE subject = $1").bind(&subject.key);
    confirm.execute(pool).await.map(drop)
}

/// Takes the last attempt back, as it did not fail.
///
/// # Errors
/// The statement's.
pub async fn take_back(pool: &PgPool, subject: &Subject) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE attempts SET failures = greatest(failures - 1, 0), locked_until = clock_timestamp() WHERE subject = $1",
    )
    .bind(&subject.key)
    .execute(pool)
    .await
    .map(drop)
}

/// Whether the guesser has logged in lately, being right.
///
/// # Errors
/// The statement's.
pub async fn is_familiar(pool: &PgPool, guesser: &Subject) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM familiar_addresses \
         WHERE subject = $1 AND logged_in_at > clock_timestamp() - $2 * interval '1 millisecond')",
    )
    .bind(&guesser.key)
    .bind(milliseconds(FAMILIAR))
    .fetch_one(pool)
    .await
}

/// The guesser was right.
///
/// # Errors
/// The statement's.
pub async fn is_right(pool: &PgPool, guesser: &Subject) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH forgotten AS (DELETE FROM attempts WHERE subject = $1) \
         INSERT INTO familiar_addresses (subject, logged_in_at) VALUES ($1, clock_timestamp()) \
         ON CONFLICT (subject) DO UPDATE SET logged_in_at = clock_timestamp()",
    )
    .bind(&guesser.key)
    .execute(pool)
    .await
    .map(drop)
}

/// Forgets failures that count no more, and addresses that are familiar no more.
///
/// # Errors
/// The statements'.
pub async fn prune(pool: &PgPool) -> Result<(), sqlx::Error> {
    for (statement, age) in [
        (
            "DELETE FROM attempts WHERE last_at < clock_timestamp() - $1 * interval '1 millisecond'",
            MEMORY.max(LONGEST),
        ),
        (
            "DELETE FROM familiar_addresses WHERE logged_in_at < clock_timestamp() - $1 * interval '1 millisecond'",
            FAMILIAR,
        ),
    ] {
        sqlx::query(statement).bind(milliseconds(age)).execute(pool).await?;
    }
    Ok(())
}
