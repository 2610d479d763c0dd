//! Recovery-point mode: the work calls other systems, so it is several transactions, and the key tells whose turn it is.
//!
//! The first commit holds the key, the resource and the attempt; no transaction is open while another system is
//! called; each later write begins with [`Attempt::guard`]; the answer is kept once by [`Attempt::complete`].

use std::time::Duration;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Idempotency, IdempotencyError, IdempotentRequest, StoredAnswer};

/// What became of the key.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "each of the five asks for another answer"]
pub enum Claim {
    /// The first: make the resource in the same transaction, commit, go on.
    Started(Attempt),
    /// An earlier attempt never ended: commit, then continue from the state of [`Attempt::resource`].
    TakenOver(Attempt),
    /// It was answered before.
    Replay(StoredAnswer),
    /// An earlier attempt may still be at it: 409, [`refusals::in_progress`](super::refusals::in_progress).
    InProgress {
        /// What it makes.
        resource: Option<Uuid>,
    },
    /// The key was used for another request: 422, [`refusals::mismatch`](super::refusals::mismatch).
    Mismatch {
        /// What that one makes, so that a caller who wrote the same request in another way finds it.
        resource: Option<Uuid>,
    },
}

/// One attempt at a request. Only the latest may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    scope: String,
    key: String,
    resource: Uuid,
    number: i32,
    ttl: Duration,
}

/// What [`Attempt::complete`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Completion {
    /// The answer is kept with the caller's commit.
    Stored(StoredAnswer),
    /// Another attempt had kept its answer before: undo this transaction and send that.
    Replay(StoredAnswer),
}

impl Idempotency {
    /// Takes the key within the transaction that also makes the resource. Nothing holds until the caller commits.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn claim(
        self,
        connection: &mut PgConnection,
        request: &IdempotentRequest,
        resource: Uuid,
    ) -> Result<Claim, IdempotencyError> {
        // An answer that has expired makes room for a new request; a request without an answer never expires. The
        // insert waits for a twin's first commit, which is short: no other system is called before it.
        let inserted = sqlx::query(
            "INSERT INTO idempotency_keys AS known (scope, key, fingerprint, resource_id, expires_at)
             VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
             ON CONFLICT (scope, key) DO UPDATE SET
                fingerprint = excluded.fingerprint, resource_id = excluded.resource_id, attempt = 1, locked_at = now(),
                status = NULL, content_type = NULL, location = NULL, body = NULL, expires_at = excluded.expires_at
             WHERE known.status IS NOT NULL AND known.expires_at < now()",
        )
        .bind(&request.scope)
        .bind(&request.key)
        .bind(&request.fingerprint[..])
        .bind(resource)
        .bind(self.ttl_seconds())
        .execute(&mut *connection)
        .await
        .map_err(IdempotencyError::database("claim an idempotency key"))?;
        let attempt = |resource, number| Attempt {
            scope: request.scope.clone(),
            key: request.key.clone(),
            resource,
            number,
            ttl: self.ttl,
        };
        if inserted.rows_affected() == 1 {
            return Ok(Claim::Started(attempt(resource, 1)));
        }
        let row = sqlx::query(
            "SELECT fingerprint, resource_id, attempt, status, content_type, location, body,
                    locked_at + make_interval(secs => $3) < now() AS dead
             FROM idempotency_keys WHERE scope = $1 AND key = $2 FOR UPDATE",
        )
        .bind(&request.scope)
        .bind(&request.key)
        .bind(self.lock_seconds())
        .fetch_optional(&mut *connection)
        .await
        .map_err(IdempotencyError::database("look up an idempotency key"))?;
        let Some(row) = row else {
            // Answered, expired and deleted since the insert met it: whoever comes again finds room.
            return Ok(Claim::InProgress { resource: None });
        };
        let read = || -> Result<_, sqlx::Error> {
            let fingerprint: Vec<u8> = row.try_get("fingerprint")?;
            let resource: Option<Uuid> = row.try_get("resource_id")?;
            let number: i32 = row.try_get("attempt")?;
            let dead: bool = row.try_get("dead")?;
            Ok((fingerprint, resource, number, dead, StoredAnswer::from_row(&row)?))
        };
        let (fingerprint, known, number, dead, answer) =
            read().map_err(IdempotencyError::database("read an idempotency key"))?;
        if !request.is_known_by(&fingerprint) {
            return Ok(Claim::Mismatch { resource: known });
        }
        if let Some(answer) = answer {
            return Ok(Claim::Replay(answer));
        }
        let Some(known_resource) = known.filter(|_| dead) else {
            return Ok(Claim::InProgress { resource: known });
        };
        sqlx::query("UPDATE idempotency_keys SET attempt = $3, locked_at = now() WHERE scope = $1 AND key = $2")
            .bind(&request.scope)
            .bind(&request.key)
            .bind(number + 1)
            .execute(&mut *connection)
            .await
            .map_err(IdempotencyError::database("take over an idempotency key"))?;
        Ok(Claim::TakenOver(attempt(known_resource, number + 1)))
    }
}

impl Attempt {
    /// What the first attempt began to make; the work continues from its state.
    #[must_use]
    pub const fn resource(&self) -> Uuid {
        self.resource
    }

    /// From 1; grows with each takeover.
    #[must_use]
    pub const fn number(&self) -> i32 {
        self.number
    }

    /// Locks the key for the rest of the caller's transaction, if this attempt is still the latest and unanswered.
    ///
    /// # Errors
    /// `Superseded` when it is not: undo the transaction and stop. Also when Postgres does not answer.
    pub async fn guard(&self, connection: &mut PgConnection) -> Result<(), IdempotencyError> {
        let mine = sqlx::query(
            "SELECT 1 FROM idempotency_keys WHERE scope = $1 AND key = $2 AND attempt = $3 AND status IS NULL FOR UPDATE",
        )
        .bind(&self.scope)
        .bind(&self.key)
        .bind(self.number)
        .fetch_optional(connection)
        .await
        .map_err(IdempotencyError::database("guard an attempt"))?;
        mine.map(|_| ())
            .ok_or(IdempotencyError::Superseded { attempt: self.number })
    }

    /// Keeps the answer, in the transaction that makes the outcome durable.
    ///
    /// # Errors
    /// `Superseded` when another attempt took over and has no answer yet (409 to the client, and undo); `AnswerTooLarge`;
    /// or when Postgres does not answer.
    pub async fn complete(
        &self,
        connection: &mut PgConnection,
        answer: StoredAnswer,
    ) -> Result<Completion, IdempotencyError> {
        answer.check()?;
        let kept = sqlx::query(
            // Kept from now on: the work may have taken longer than answers are kept.
            "UPDATE idempotency_keys SET status = $4, content_type = $5, location = $6, body = $7,
                expires_at = greatest(expires_at, clock_timestamp() + make_interval(secs => $8))
             WHERE scope = $1 AND key = $2 AND attempt = $3 AND status IS NULL",
        )
        .bind(&self.scope)
        .bind(&self.key)
        .bind(self.number)
        .bind(answer.status_number())
        .bind(answer.content_type.as_deref())
        .bind(answer.location.as_deref())
        .bind(&answer.body[..])
        .bind(self.ttl.as_secs_f64())
        .execute(&mut *connection)
        .await
        .map_err(IdempotencyError::database("keep an idempotent answer"))?;
        if kept.rows_affected() == 1 {
            return Ok(Completion::Stored(answer));
        }
        let row = sqlx::query(
            "SELECT status, content_type, location, body FROM idempotency_keys WHERE scope = $1 AND key = $2",
        )
        .bind(&self.scope)
        .bind(&self.key)
        .fetch_optional(connection)
        .await
        .map_err(IdempotencyError::database("read the answer of another attempt"))?;
        let answer = row.as_ref().map(StoredAnswer::from_row).transpose();
        let answer = answer
            .map_err(IdempotencyError::database("read the answer of another attempt"))?
            .flatten();
        answer
            .map(Completion::Replay)
            .ok_or(IdempotencyError::Superseded { attempt: self.number })
    }

    /// Gives the key up, so that the next request with it takes over at once. For errors after which repeating is safe.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn release(&self, connection: &mut PgConnection) -> Result<(), IdempotencyError> {
        sqlx::query(
            "UPDATE idempotency_keys SET locked_at = '-infinity'
             WHERE scope = $1 AND key = $2 AND attempt = $3 AND status IS NULL",
        )
        .bind(&self.scope)
        .bind(&self.key)
        .bind(self.number)
        .execute(connection)
        .await
        .map_err(IdempotencyError::database("release an attempt"))?;
        Ok(())
    }
}
