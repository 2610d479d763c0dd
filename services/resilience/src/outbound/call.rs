//! One call with its attempts. In: a target, what is known of the request, and a way to make one attempt. Out: the
//! first answer that is final, or the reason why there is none. Reads time and the target; does no IO itself.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use valerix_policy::Mode;

use super::classify::{Classify, Head};
use super::error::CallError;
use super::target::{Settings, Target};
use crate::breaker::{Outcome, Ticket};
use crate::bulkhead::BulkheadPermit;
use crate::deadline::Deadline;
use crate::problem::RETRY_HEADER;
use crate::retry;

/// What of a request decides about its attempts.
pub(crate) struct Call<'call> {
    pub(crate) target: &'call Target,
    pub(crate) classify: &'call dyn Classify,
    /// The caller's deadline; none means only the target's own.
    pub(crate) deadline: Option<Deadline>,
    /// Whether the request may be sent more than once.
    pub(crate) repeatable: bool,
}

/// One attempt's share of the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// What goes into `Valerix-Timeout-Ms`.
    pub(crate) time: Duration,
    pub(crate) connect_timeout: Duration,
}

/// Why an attempt has no answer.
#[derive(Debug)]
pub(crate) enum AttemptError {
    Connect(String),
    Reset(String),
    Request(String),
}

/// The head of an answer, whatever client it came from.
pub(crate) trait Answer {
    fn status(&self) -> StatusCode;
    fn headers(&self) -> &HeaderMap;
}

/// A final answer, with what must be held and known while its body is read.
pub(crate) struct Completed<R> {
    pub(crate) answer: R,
    pub(crate) place: Option<BulkheadPermit>,
    pub(crate) ticket: Ticket,
    pub(crate) deadline: Deadline,
}

/// Which of the times ends an attempt first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// The caller's deadline: says nothing about the target.
    Caller,
    /// The target's own `request` or `attempt`.
    Own,
}

/// What became of one attempt.
enum Verdict<R> {
    Final(Result<Completed<R>, CallError>),
    Repeat {
        failed: Failed<R>,
        after: Option<Duration>,
        reason: &'static str,
    },
}

/// A failure that may be repeated; it is the call's result if it is not.
enum Failed<R> {
    Answer(Completed<R>),
    Error(CallError),
}

impl<R: Answer> Failed<R> {
    fn into_result(self) -> Result<Completed<R>, CallError> {
        match self {
            Self::Answer(completed) => Ok(completed),
            Self::Error(error) => Err(error),
        }
    }

    fn into_exhausted(self, target: &Target) -> CallError {
        let (status, cause) = match self {
            Self::Answer(completed) => {
                let status = completed.answer.status();
                (Some(status), format!("the last answer was {status}"))
            }
            Self::Error(error) => (None, error.to_string()),
        };
        CallError::BudgetExhausted {
            target: target.name().to_owned(),
            status,
            cause,
        }
    }
}

/// Makes the call.
pub(crate) async fn execute<R, F, Fut>(call: Call<'_>, mut attempt: F) -> Result<Completed<R>, CallError>
where
    R: Answer,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    let target = call.target;
    let began = Instant::now();
    let settings = std::sync::Arc::clone(&target.settings());
    let own = Deadline::at(began + settings.timeout.request.get());
    target.budget.deposit();
    let mut number = 0;
    loop {
        number += 1;
        let (failed, after, reason) = match once(&call, &settings, own, began, number, &mut attempt).await {
            Verdict::Final(result) => return result,
            Verdict::Repeat { failed, after, reason } => (failed, after, reason),
        };
        if !call.repeatable || number >= settings.retry.max_attempts {
            return failed.into_result();
        }
        let wait = retry::backoff(settings.retry.backoff, number, &target.random).max(after.unwrap_or_default());
        let left = call
            .deadline
            .map_or(own.remaining(), |deadline| deadline.min(own).remaining());
        if wait >= left {
            // No attempt could follow: the answer at hand is worth more than a deadline error later.
            return failed.into_result();
        }
        if !target.budget.withdraw() {
            target.metrics.retry_refused(target.name());
            return Err(failed.into_exhausted(target));
        }
        target.metrics.retry(target.name(), reason);
        drop(failed);
        tokio::time::sleep(wait).await;
    }
}

async fn once<R, F, Fut>(
    call: &Call<'_>,
    settings: &Settings,
    own: Deadline,
    began: Instant,
    number: u32,
    attempt: &mut F,
) -> Verdict<R>
where
    R: Answer,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    let target = call.target;
    let name = || target.name().to_owned();
    let exceeded = || {
        target.metrics.timeout("deadline");
        CallError::DeadlineExceeded {
            target: name(),
            elapsed: began.elapsed(),
            attempts: number - 1,
        }
    };
    if call.deadline.map_or(own, |deadline| deadline.min(own)).is_past() {
        return Verdict::Final(Err(exceeded()));
    }
    let place = match place(
        target,
        settings,
        call.deadline.map_or(own, |deadline| deadline.min(own)),
    )
    .await
    {
        Ok(place) => place,
        Err(error) => return Verdict::Final(Err(error)),
    };
    let (time, bound) = time(settings, own, call.deadline);
    if time.is_zero() {
        return Verdict::Final(Err(exceeded()));
    }
    let permit = match target.breaker.try_acquire() {
        Ok(permit) => permit,
        Err(rejected) => {
            target.metrics.call(target.name(), "not_permitted");
            let error = CallError::CircuitOpen {
                target: name(),
                retry_after: rejected.retry_after,
            };
            return Verdict::Final(Err(error));
        }
    };
    if permit.would_be_refused() {
        target.metrics.call(target.name(), "shadow_not_permitted");
    }
    let connect_timeout = settings.timeout.connect.get();
    let result = tokio::time::timeout(time, attempt(Attempt { time, connect_timeout })).await;
    match result {
        Ok(Ok(answer)) => {
            let outcome = outcome_of(call, bound, &answer);
            target.metrics.outcome(target.name(), outcome);
            let ticket = permit.record(outcome);
            let reason = repeat_reason(&answer);
            let deadline = call.deadline.map_or(own, |deadline| deadline.min(own));
            let after = retry::retry_after(answer.headers());
            let completed = Completed {
                answer,
                place,
                ticket,
                deadline,
            };
            match reason {
                Some(reason) => Verdict::Repeat {
                    failed: Failed::Answer(completed),
                    after,
                    reason,
                },
                None => Verdict::Final(Ok(completed)),
            }
        }
        Ok(Err(AttemptError::Request(cause))) => {
            // Never left this process: the target has no part in it.
            drop(permit);
            Verdict::Final(Err(CallError::Request { target: name(), cause }))
        }
        Ok(Err(error)) => {
            target.metrics.outcome(target.name(), Outcome::Failure);
            permit.record(Outcome::Failure);
            let (error, reason) = match error {
                AttemptError::Connect(cause) => (
                    CallError::Connect {
                        target: name(),
                        attempts: number,
                        cause,
                    },
                    "connect",
                ),
                AttemptError::Reset(cause) | AttemptError::Request(cause) => (
                    CallError::Reset {
                        target: name(),
                        attempts: number,
                        cause,
                    },
                    "reset",
                ),
            };
            Verdict::Repeat {
                failed: Failed::Error(error),
                after: None,
                reason,
            }
        }
        Err(_) if bound == Bound::Caller => {
            target.metrics.outcome(target.name(), Outcome::Neutral);
            permit.record(Outcome::Neutral);
            target.metrics.timeout("deadline");
            let error = CallError::DeadlineExceeded {
                target: name(),
                elapsed: began.elapsed(),
                attempts: number,
            };
            Verdict::Final(Err(error))
        }
        Err(_) => {
            target.metrics.outcome(target.name(), Outcome::Failure);
            permit.record(Outcome::Failure);
            target.metrics.timeout("attempt");
            let error = CallError::AttemptTimeout {
                target: name(),
                timeout: time,
                attempts: number,
            };
            Verdict::Repeat {
                failed: Failed::Error(error),
                after: None,
                reason: "timeout",
            }
        }
    }
}

/// A place in the bulkhead; none in mode `Disabled`, and none taken but none refused in `Shadow`.
async fn place(target: &Target, settings: &Settings, deadline: Deadline) -> Result<Option<BulkheadPermit>, CallError> {
    if settings.mode == Mode::Disabled {
        return Ok(None);
    }
    match target
        .bulkhead
        .acquire(settings.max_wait.min(deadline.remaining()))
        .await
    {
        Ok(place) => {
            target.metrics.bulkhead(target.name(), true);
            Ok(Some(place))
        }
        Err(full) => {
            target.metrics.bulkhead(target.name(), false);
            if settings.mode == Mode::Shadow {
                return Ok(None);
            }
            Err(CallError::Overloaded {
                target: target.name().to_owned(),
                limit: full.limit,
            })
        }
    }
}

/// The time of an attempt, and whose it is.
fn time(settings: &Settings, own: Deadline, caller: Option<Deadline>) -> (Duration, Bound) {
    let own = own.remaining().min(settings.timeout.attempt.get());
    match caller.map(Deadline::remaining) {
        Some(left) if left < own => (left, Bound::Caller),
        _ => (own, Bound::Own),
    }
}

fn outcome_of<R: Answer>(call: &Call<'_>, bound: Bound, answer: &R) -> Outcome {
    let head = Head {
        status: answer.status(),
        headers: answer.headers(),
    };
    let inherited = head.status == StatusCode::GATEWAY_TIMEOUT && head.problem() == Some("deadline-exceeded");
    if inherited && bound == Bound::Caller {
        return Outcome::Neutral;
    }
    call.classify.outcome(head)
}

/// Why an answer is worth another attempt; none when it is final.
fn repeat_reason<R: Answer>(answer: &R) -> Option<&'static str> {
    if answer.headers().get(RETRY_HEADER).is_some_and(|value| value == "no") {
        return None;
    }
    match answer.status() {
        StatusCode::BAD_GATEWAY => Some("502"),
        StatusCode::SERVICE_UNAVAILABLE => Some("503"),
        StatusCode::GATEWAY_TIMEOUT => Some("504"),
        _ => None,
    }
}
