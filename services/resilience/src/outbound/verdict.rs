//! What becomes of one attempt. In: what an address did, and how the breaker counts it. Out: a verdict that is final, or
//! a failure that may be repeated. Pure but for the metrics of what ran out of time.

use std::future::Future;
use std::time::Duration;

use super::attempt::{Bound, Journey};
use super::call::{Answer, Attempt, AttemptError, Completed, Held};
use super::error::CallError;
use super::target::Target;
use crate::breaker::{Outcome, Ticket};
use crate::retry;

/// What became of one attempt.
pub(super) enum Verdict<R> {
    Final(Result<Completed<R>, CallError>),
    Repeat {
        failed: Failed<R>,
        after: Option<Duration>,
        reason: &'static str,
    },
}

/// A failure that may be repeated; it is the call's result if it is not.
pub(super) enum Failed<R> {
    Answer(Completed<R>),
    Error(CallError),
}

/// What one address did.
pub(super) enum Sent<R> {
    Answer {
        answer: R,
        reason: Option<&'static str>,
    },
    Connect(String),
    /// Nobody was to be reached, whatever the address.
    Cut(String),
    Reset(String),
    /// Never left this process.
    Request(String),
    TimedOut,
}

impl<R: Answer> Verdict<R> {
    /// Whether it is an answer and no failure of the target.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Final(Ok(completed)) if completed.outcome != Outcome::Failure)
    }

    /// Of two failures the one of the higher rank says more.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Final(Err(_)) => 0,
            Self::Repeat {
                failed: Failed::Error(_),
                ..
            } => 1,
            Self::Final(Ok(_)) => 2,
            Self::Repeat {
                failed: Failed::Answer(_),
                ..
            } => 3,
        }
    }
}

impl<R: Answer> Failed<R> {
    pub(super) fn into_result(self) -> Result<Completed<R>, CallError> {
        match self {
            Self::Answer(completed) => Ok(completed),
            Self::Error(error) => Err(error),
        }
    }

    pub(super) fn into_exhausted(self, target: &Target) -> CallError {
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

impl<R, F, Fut> Journey<'_, F>
where
    R: Answer,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    pub(super) fn conclude(
        &self,
        sent: Sent<R>,
        outcome: Outcome,
        bound: Bound,
        ticket: Option<Ticket>,
        held: Held,
    ) -> Verdict<R> {
        let target = self.call.target;
        let attempts = self.all_attempts();
        let error = |error, reason| Verdict::Repeat {
            failed: Failed::Error(error),
            after: None,
            reason,
        };
        match sent {
            Sent::Answer { answer, reason } => {
                let after = reason.and_then(|_| retry::retry_after(answer.headers()));
                let completed = Completed {
                    answer,
                    outcome,
                    held,
                    ticket,
                    deadline: self.end,
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
            Sent::Connect(cause) | Sent::Cut(cause) => {
                let target = self.name();
                error(
                    CallError::Connect {
                        target,
                        attempts,
                        cause,
                    },
                    "connect",
                )
            }
            Sent::Request(cause) => {
                let target = self.name();
                Verdict::Final(Err(CallError::Request { target, cause }))
            }
            Sent::Reset(cause) => {
                let target = self.name();
                error(
                    CallError::Reset {
                        target,
                        attempts,
                        cause,
                    },
                    "reset",
                )
            }
            Sent::TimedOut if bound == Bound::Caller => Verdict::Final(Err(self.exceeded())),
            Sent::TimedOut => {
                target.metrics.timeout("attempt");
                let timeout = self.call.settings.timeout.attempt.get().min(self.began.elapsed());
                let target = self.name();
                error(
                    CallError::AttemptTimeout {
                        target,
                        timeout,
                        attempts,
                    },
                    "timeout",
                )
            }
        }
    }
}

/// Why an answer is worth another attempt; none when it is final.
pub(super) fn repeat_reason<R: Answer>(answer: &R) -> Option<&'static str> {
    retry::repeat_reason(answer.status(), answer.headers())
}
