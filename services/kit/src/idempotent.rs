//! A request that may be sent twice, acts once and calls other services in between: the key and what the request begins
//! are one commit, the work has no transaction open, the answer is kept by another commit.
//!
//! Whatever goes wrong after the first commit (an error, a panic, the end of the time), the key does not stay taken: it is
//! settled in the background, so that the same request is answered, or goes on with what was begun, instead of hearing for
//! half a minute that somebody is at it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Transaction};
use tracing::Instrument;
use uuid::Uuid;
use valerix_resilience::idempotency::{
    Attempt, Claim, Completion, Idempotency, IdempotencyError, IdempotentRequest, StoredAnswer, refusals,
};
use valerix_resilience::{Backoff, Deadline};

use crate::postgres::begin;
use crate::problem::{Problem, from_idempotency, from_sqlx};

/// Of a caller's time, the most that is left for writing the answer down and sending it; a quarter of shorter times.
const LONGEST_MARGIN: Duration = Duration::from_millis(250);
/// The part of that margin which is left for sending: whoever is cut off at the end of the caller's time says nothing.
const SENDING: u32 = 5;
/// How long a key is tried to be settled in the background. After that its lock timeout has passed as well.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a handler divides its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// No other service is called after this.
    pub work: Deadline,
    /// The answer is written down, or given up to be written down later, and on its way by then.
    pub answer: Deadline,
}

impl Budget {
    /// At most `longest` for the work, less where the caller waits shorter: the last write comes before his end.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        let (work, answer) = split(longest, Deadline::current().map(Deadline::remaining));
        Self {
            work: Deadline::after(work),
            answer: Deadline::after(answer),
        }
    }
}

fn split(longest: Duration, caller: Option<Duration>) -> (Duration, Duration) {
    let margin = caller.map_or(LONGEST_MARGIN, |caller| LONGEST_MARGIN.min(caller / 4));
    let work = caller.map_or(longest, |caller| longest.min(caller - margin));
    let answer = work + margin;
    (
        work,
        caller.map_or(answer, |caller| answer.min(caller - margin / SENDING)),
    )
}

/// Where the work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The resource is to be made, under this id.
    New(Uuid),
    /// An earlier request with the same key has made it and never ended: go on from its state.
    Begun(Uuid),
}

/// What a first request makes, under this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Whoever sends the key with another request is told of it: the caller has proved who they are.
    Named(Uuid),
    /// The id is told to nobody but in the answer to the request itself: callers who are not known share their keys, and by
    /// the id of what another one has made they could do with it as they like.
    Secret(Uuid),
}

impl Resource {
    const fn id(self) -> Uuid {
        let (Self::Named(id) | Self::Secret(id)) = self;
        id
    }
}

/// What the work came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The answer for good: kept, and given again to the same key.
    Final(StoredAnswer),
    /// An answer for now: the same key asks again.
    ForNow(StoredAnswer),
}

/// Answers one request in recovery-point mode.
///
/// `open` makes or finds the resource in the transaction that takes the key, and gives the transaction back; `work` goes on
/// from there with no transaction open.
///
/// # Errors
/// What `open` and `work` say; 503 when Postgres does not answer, or not by `budget.answer`.
pub async fn idempotent<R, O, W>(
    idempotency: Idempotency,
    pool: &PgPool,
    request: &IdempotentRequest,
    resource: Resource,
    budget: Budget,
    open: impl FnOnce(Transaction<'static, Postgres>, Opening) -> O + Send,
    work: impl FnOnce(R) -> W + Send,
) -> Result<Response, Problem>
where
    R: Send,
    O: Future<Output = Result<(Transaction<'static, Postgres>, R), Problem>> + Send,
    W: Future<Output = Result<Answered, Problem>> + Send,
{
    let database = |error: sqlx::Error| from_sqlx(&error);
    let opened = async {
        let mut transaction = begin(pool).await.map_err(database)?;
        let claim = idempotency.claim(&mut transaction, request, resource.id()).await;
        let (attempt, opening) = match claim.map_err(|error| from_idempotency(&error))? {
            Claim::Started(attempt) => (attempt, Opening::New(resource.id())),
            Claim::TakenOver(attempt) => {
                let begun = Opening::Begun(attempt.resource());
                (attempt, begun)
            }
            Claim::Replay(answer) => return Ok(Err(answer.into_response())),
            Claim::InProgress { .. } => return Ok(Err(refusals::in_progress().into_response())),
            Claim::Mismatch { resource: made } => {
                let refusal = match resource {
                    Resource::Named(_) => refusals::mismatch().with("resource", made.map(|id| id.to_string())),
                    Resource::Secret(_) => refusals::mismatch(),
                };
                return Ok(Err(refusal.into_response()));
            }
        };
        let (transaction, opened) = open(transaction, opening).await?;
        let held = Held::new(pool, attempt);
        // In a task of its own, which goes on when nobody waits for it any more: a key that is given up before its COMMIT
        // is through is not there yet, and stays taken.
        let committing = async { transaction.commit().await.map(|()| held) };
        let committed = tokio::spawn(committing.in_current_span()).await;
        let held = committed
            .map_err(|error| Problem::internal(&error))?
            .map_err(database)?;
        Ok(Ok((held, opened)))
    };
    let (mut held, opened) = match by(budget.answer, opened).await? {
        Ok(opened) => opened,
        Err(answer) => return Ok(answer),
    };
    let answered = by(budget.answer, work(opened)).await?;
    match tokio::time::timeout_at(budget.answer.instant(), held.keep(answered.clone())).await {
        Ok(Ok(answer)) => Ok(answer.into_response()),
        Ok(Err(error @ IdempotencyError::Superseded { .. })) => Err(from_idempotency(&error)),
        // The answer is true whether or not it is written down by now.
        not_kept => {
            tracing::warn!(?not_kept, "an answer is sent before it is kept");
            let (Answered::Final(answer) | Answered::ForNow(answer)) = answered;
            Ok(answer.into_response())
        }
    }
}

/// What `future` says, or 503 at `deadline`.
async fn by<T>(deadline: Deadline, future: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let Ok(said) = tokio::time::timeout_at(deadline.instant(), future).await else {
        tracing::warn!("the database did not answer within a request's time");
        let detail = "the database is slow at the moment; nothing is known about the request: send the same key again";
        return Err(Problem::unavailable(detail));
    };
    said
}

/// A key that was taken. Dropped before its answer is kept, that is done in the background; without an answer the key is
/// given up.
struct Held {
    attempt: Attempt,
    pool: PgPool,
    left: Option<Answered>,
    settled: bool,
}

impl Held {
    fn new(pool: &PgPool, attempt: Attempt) -> Self {
        Self {
            attempt,
            pool: pool.clone(),
            left: None,
            settled: false,
        }
    }

    /// Writes down what the work came to, and says what the caller is told.
    async fn keep(&mut self, answered: Answered) -> Result<StoredAnswer, IdempotencyError> {
        self.left = Some(answered.clone());
        let kept = settle(&self.pool, &self.attempt, answered).await;
        self.settled = !matches!(kept, Err(IdempotencyError::Database { .. }));
        kept
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.settled {
            return;
        }
        let (pool, attempt, left) = (self.pool.clone(), self.attempt.clone(), self.left.take());
        runtime.spawn(tokio::time::timeout(SETTLE_TIMEOUT, async move {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
            loop {
                let settled = match left.clone() {
                    Some(answered) => settle(&pool, &attempt, answered).await.map(drop),
                    None => release(&pool, &attempt).await,
                };
                let Err(IdempotencyError::Database { source, .. }) = settled else {
                    return;
                };
                tracing::info!(error = %source, "an idempotency key is still held");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }));
    }
}

async fn settle(pool: &PgPool, attempt: &Attempt, answered: Answered) -> Result<StoredAnswer, IdempotencyError> {
    match answered {
        Answered::Final(answer) => match attempt.complete(&mut *connection(pool).await?, answer).await? {
            Completion::Stored(answer) | Completion::Replay(answer) => Ok(answer),
        },
        Answered::ForNow(answer) => release(pool, attempt).await.map(|()| answer),
    }
}

async fn release(pool: &PgPool, attempt: &Attempt) -> Result<(), IdempotencyError> {
    attempt.release(&mut *connection(pool).await?).await
}

async fn connection(pool: &PgPool) -> Result<PoolConnection<Postgres>, IdempotencyError> {
    let step = "get a connection";
    pool.acquire()
        .await
        .map_err(|source| IdempotencyError::Database { step, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_comes_before_the_callers_end() {
        let milliseconds = Duration::from_millis;
        for (caller, work, answer) in [
            (None, 2_000, 2_250),
            (Some(15_000), 2_000, 2_250),
            (Some(2_000), 1_750, 1_950),
            (Some(1_000), 750, 950),
            (Some(400), 300, 380),
            (Some(0), 0, 0),
        ] {
            let split = split(milliseconds(2_000), caller.map(milliseconds));
            assert_eq!(split, (milliseconds(work), milliseconds(answer)), "{caller:?}");
        }
    }
}
