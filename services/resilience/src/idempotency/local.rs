//! Local mode: key, work and answer are one transaction, so a crash at any point leaves nothing behind.

use sqlx::{PgPool, Postgres, Row, Transaction};

use super::{Idempotency, IdempotencyError, IdempotentRequest, StoredAnswer, refusals};

/// What became of the key.
#[derive(Debug)]
#[must_use = "each of the four asks for another answer"]
pub enum Local {
    /// The first: do the work in [`LocalClaim::transaction`], then [`LocalClaim::commit`] its answer.
    Fresh(LocalClaim),
    /// It was answered before.
    Replay(StoredAnswer),
    /// The first has not ended: 409, [`refusals::in_progress`](super::refusals::in_progress).
    InProgress,
    /// The key was used for another request: 422, [`refusals::mismatch`](super::refusals::mismatch).
    Mismatch,
}

/// The right to do the work of a request. Dropped, everything is undone and the key is free again.
#[derive(Debug)]
pub struct LocalClaim {
    transaction: Transaction<'static, Postgres>,
    request: IdempotentRequest,
    ttl_seconds: f64,
}

/// What [`LocalClaim::commit`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// Work and answer are durable; the answer is the one given.
    Committed(StoredAnswer),
    /// Another replica finished the same request in the same moment: the work was undone, here is its answer.
    Replay(StoredAnswer),
    /// Another replica finished another request with this key in the same moment: the work was undone.
    Mismatch,
}

impl Stored {
    /// The answer to send.
    #[must_use]
    pub fn into_answer(self) -> StoredAnswer {
        match self {
            Self::Committed(answer) | Self::Replay(answer) => answer,
            Self::Mismatch => StoredAnswer::problem(&refusals::mismatch()),
        }
    }
}

impl Idempotency {
    /// Begins the one transaction of a request.
    ///
    /// ```no_run
    /// # use valerix_resilience::idempotency::*;
    /// # async fn example(idempotency: Idempotency, pool: sqlx::PgPool, request: IdempotentRequest)
    /// # -> Result<StoredAnswer, Box<dyn std::error::Error>> {
    /// let mut claim = match idempotency.begin(&pool, &request).await? {
    ///     Local::Fresh(claim) => claim,
    ///     Local::Replay(answer) => return Ok(answer),
    ///     Local::InProgress => return Ok(StoredAnswer::problem(&refusals::in_progress())),
    ///     Local::Mismatch => return Ok(StoredAnswer::problem(&refusals::mismatch())),
    /// };
    /// sqlx::query("UPDATE items SET quantity = quantity - 1 WHERE id = 7").execute(claim.transaction()).await?;
    /// let answer = StoredAnswer::json(http::StatusCode::OK, &"done")?;
    /// Ok(claim.commit(answer).await?.into_answer())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn begin(self, pool: &PgPool, request: &IdempotentRequest) -> Result<Local, IdempotencyError> {
        let mut transaction = crate::postgres::begin(pool)
            .await
            .map_err(IdempotencyError::database("begin an idempotent request"))?;
        // One round trip for lock and look. The look may miss an answer that was committed in the moment before the
        // lock was had; the insert in `commit` finds it then.
        let row = sqlx::query(
            "SELECT pg_try_advisory_xact_lock($1) AS locked, known.fingerprint, known.status, known.content_type,
                    known.location, known.body, known.status IS NOT NULL AND known.expires_at < now() AS expired
             FROM (SELECT 1) AS one
             LEFT JOIN idempotency_keys AS known ON known.scope = $2 AND known.key = $3",
        )
        .bind(request.lock_number())
        .bind(&request.scope)
        .bind(&request.key)
        .fetch_one(&mut *transaction)
        .await
        .map_err(IdempotencyError::database("look up an idempotency key"))?;
        let read = || -> Result<_, sqlx::Error> {
            let locked: bool = row.try_get("locked")?;
            let fingerprint: Option<Vec<u8>> = row.try_get("fingerprint")?;
            let expired: Option<bool> = row.try_get("expired")?;
            Ok((
                locked,
                fingerprint,
                expired.unwrap_or(false),
                StoredAnswer::from_row(&row)?,
            ))
        };
        let (locked, fingerprint, expired, answer) =
            read().map_err(IdempotencyError::database("read an idempotency key"))?;
        match fingerprint {
            Some(fingerprint) if !expired => {
                return Ok(match answer {
                    _ if !request.is_known_by(&fingerprint) => Local::Mismatch,
                    Some(answer) => Local::Replay(answer),
                    None => Local::InProgress,
                });
            }
            _ if !locked => return Ok(Local::InProgress),
            Some(_) => {
                sqlx::query("DELETE FROM idempotency_keys WHERE scope = $1 AND key = $2 AND expires_at < now()")
                    .bind(&request.scope)
                    .bind(&request.key)
                    .execute(&mut *transaction)
                    .await
                    .map_err(IdempotencyError::database("delete an expired idempotency key"))?;
            }
            None => {}
        }
        Ok(Local::Fresh(LocalClaim {
            transaction,
            request: request.clone(),
            ttl_seconds: self.ttl_seconds(),
        }))
    }
}

impl LocalClaim {
    /// Where all work must happen.
    pub fn transaction(&mut self) -> &mut sqlx::PgConnection {
        &mut self.transaction
    }

    /// Keeps the answer and makes work and answer durable in one commit.
    ///
    /// # Errors
    /// When the answer is too large or Postgres does not answer. After an error of the commit itself it is unknown
    /// whether it happened; repeating the request tells.
    pub async fn commit(mut self, answer: StoredAnswer) -> Result<Stored, IdempotencyError> {
        answer.check()?;
        let inserted = sqlx::query(
            // From now on, and not from when the work began, as `now()` would have it.
            "INSERT INTO idempotency_keys (scope, key, fingerprint, status, content_type, location, body, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8))
             ON CONFLICT (scope, key) DO NOTHING",
        )
        .bind(&self.request.scope)
        .bind(&self.request.key)
        .bind(&self.request.fingerprint[..])
        .bind(answer.status_number())
        .bind(answer.content_type.as_deref())
        .bind(answer.location.as_deref())
        .bind(&answer.body[..])
        .bind(self.ttl_seconds)
        .execute(&mut *self.transaction)
        .await
        .map_err(IdempotencyError::database("keep an idempotent answer"))?;
        if inserted.rows_affected() == 1 {
            self.transaction
                .commit()
                .await
                .map_err(IdempotencyError::database("commit an idempotent request"))?;
            return Ok(Stored::Committed(answer));
        }
        let row = sqlx::query(
            "SELECT fingerprint, status, content_type, location, body FROM idempotency_keys
             WHERE scope = $1 AND key = $2",
        )
        .bind(&self.request.scope)
        .bind(&self.request.key)
        .fetch_optional(&mut *self.transaction)
        .await
        .map_err(IdempotencyError::database("read the answer of a twin request"))?;
        self.transaction
            .rollback()
            .await
            .map_err(IdempotencyError::database("undo a twin request"))?;
        // Expired and deleted within this moment: whoever repeats the request finds room.
        let superseded = IdempotencyError::Superseded { attempt: 1 };
        let Some(row) = row else { return Err(superseded) };
        let read = || -> Result<_, sqlx::Error> {
            let fingerprint: Vec<u8> = row.try_get("fingerprint")?;
            Ok((fingerprint, StoredAnswer::from_row(&row)?))
        };
        match read().map_err(IdempotencyError::database("read the answer of a twin request"))? {
            (fingerprint, _) if !self.request.is_known_by(&fingerprint) => Ok(Stored::Mismatch),
            (_, Some(answer)) => Ok(Stored::Replay(answer)),
            (_, None) => Err(superseded),
        }
    }
}
