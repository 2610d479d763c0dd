//! Requests that may be sent twice and act once, on Postgres.
//!
//! What goes in: the key of the request and a fingerprint of what it asks. What comes out: leave to do the work, or
//! the answer that was given before, or the reason to refuse.
//!
//! - [`Idempotency::begin`]: all effects are in one transaction of one database. A crash at any point frees the key.
//! - [`Idempotency::claim`]: other systems are called between transactions. The key remembers the resource and the
//!   attempt; after the lock timeout another attempt takes over and continues from the resource's state.
//!
//! The table is [`SCHEMA`]; put it into the service's migrations.

mod answer;
mod local;
mod recovery;
mod request;

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::answer::{IDEMPOTENT_REPLAYED, MAX_ANSWER_BYTES, StoredAnswer};
pub use self::local::{Local, LocalClaim, Stored};
pub use self::recovery::{Attempt, Claim, Completion};
pub use self::request::{IdempotentRequest, MAX_BODY_BYTES};
pub use crate::key::{IDEMPOTENCY_KEY, InvalidKey, key_from_headers, refusals};

/// The table, as one migration that may run twice.
pub const SCHEMA: &str = include_str!("schema.sql");

/// How often [`Idempotency::sweep`] looks, and how many answers one of its statements deletes.
const SWEEPING: Duration = Duration::from_secs(3_600);
const SWEPT: i64 = 1_000;

/// The store could not be asked, or was asked for what it cannot do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// Postgres did not do as it was told.
    #[error("failed to {step}: {source}")]
    Database {
        /// What was being done.
        step: &'static str,
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// The answer is too large to keep.
    #[error("answer of {size} bytes cannot be kept: at most {limit} are; answer with a reference instead")]
    AnswerTooLarge {
        /// Bytes of the body.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Another attempt took over meanwhile and has not ended: this one must stop without an effect.
    #[error("attempt {attempt} was taken over by a later one")]
    Superseded {
        /// This attempt.
        attempt: i32,
    },
}

impl IdempotencyError {
    /// A short word for metrics and logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Database { .. } => "Database",
            Self::AnswerTooLarge { .. } => "AnswerTooLarge",
            Self::Superseded { .. } => "Superseded",
        }
    }

    fn database(step: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { step, source }
    }
}

/// How long keys are kept and when a request counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    ttl: Duration,
    lock_timeout: Duration,
}

impl Idempotency {
    /// Answers are kept for `ttl`; a request that has not ended after `lock_timeout` may be taken over. That must be
    /// longer than any handler's deadline.
    #[must_use]
    pub const fn new(ttl: Duration, lock_timeout: Duration) -> Self {
        Self { ttl, lock_timeout }
    }

    /// How long answers are kept.
    #[must_use]
    pub const fn ttl(self) -> Duration {
        self.ttl
    }

    fn ttl_seconds(self) -> f64 {
        self.ttl.as_secs_f64()
    }

    fn lock_seconds(self) -> f64 {
        self.lock_timeout.as_secs_f64()
    }

    /// Keeps the answers about `resources`, which have not come to their end, for the whole time from now on; those alone of
    /// which half is over. An answer that expired before would let the same request make another resource. Returns how many.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn keep(self, pool: &PgPool, resources: &[Uuid]) -> Result<u64, IdempotencyError> {
        let kept = sqlx::query(
            "UPDATE idempotency_keys SET expires_at = now() + make_interval(secs => $2)
             WHERE resource_id = ANY($1) AND status IS NOT NULL AND expires_at < now() + make_interval(secs => $2) / 2",
        )
        .bind(resources)
        .bind(self.ttl_seconds())
        .execute(pool)
        .await
        .map_err(IdempotencyError::database("keep idempotency keys"))?;
        Ok(kept.rows_affected())
    }

    /// Deletes at most `limit` answers that have expired. Returns how many; ask again while it is `limit`.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn expire(pool: &PgPool, limit: i64) -> Result<u64, IdempotencyError> {
        let deleted = sqlx::query(
            "DELETE FROM idempotency_keys WHERE (scope, key) IN (
                SELECT scope, key FROM idempotency_keys WHERE status IS NOT NULL AND expires_at < now()
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        )
        .bind(limit)
        .execute(pool)
        .await
        .map_err(IdempotencyError::database("delete expired idempotency keys"))?;
        Ok(deleted.rows_affected())
    }

    /// Deletes answers that have expired, now and then every hour, until `stop`. A task for each replica: they do not
    /// get in each other's way.
    pub async fn sweep(pool: PgPool, stop: CancellationToken) {
        loop {
            loop {
                match Self::expire(&pool, SWEPT).await {
                    Ok(deleted) if deleted == SWEPT.unsigned_abs() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "expired answers stay for now");
                        break;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEPING) => {}
            }
        }
    }
}
