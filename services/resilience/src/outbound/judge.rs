//! What the engine asks about whatever came back: an HTTP answer, or the result of any other operation. Pure.

use std::time::Duration;

use http::StatusCode;

use super::classify::{Classify, Head, HttpHead};
use crate::breaker::Outcome;
use crate::problem::RETRY_HEADER;
use crate::retry;

/// Why a result is worth another attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    /// For metrics.
    pub(crate) reason: &'static str,
    /// The least wait that it asks for.
    pub(crate) after: Option<Duration>,
    /// Whether it speaks of the one address alone, so that another one may do at once.
    pub(crate) elsewhere: bool,
}

/// Judges results of type `R`.
pub(crate) trait Judge<R> {
    /// What the breaker counts.
    fn outcome(&self, result: &R) -> Outcome;

    /// Whether it is worth another attempt, where the call may be repeated at all.
    fn repeat(&self, result: &R) -> Option<Repeat>;

    /// Whether it says that the time which the caller gave was too short.
    fn ran_out_of_time(&self, result: &R) -> bool;
}

/// One's own view of which answers are worth another attempt.
pub(crate) type RetryOn = dyn Fn(Head<'_>) -> bool + Send + Sync;

/// Judges answers of HTTP.
pub(crate) struct HttpJudge<'call> {
    pub(crate) classify: &'call dyn Classify,
    /// Unless set: 502, 503 and 504.
    pub(crate) retry_on: Option<&'call RetryOn>,
}

impl<R: HttpHead> Judge<R> for HttpJudge<'_> {
    fn outcome(&self, answer: &R) -> Outcome {
        self.classify.outcome(answer.head())
    }

    fn repeat(&self, answer: &R) -> Option<Repeat> {
        let head = answer.head();
        let reason = match self.retry_on {
            None => retry::repeat_reason(head.status, head.headers)?,
            Some(_) if retry::is_final(head.headers) => return None,
            Some(wanted) => wanted(head).then(|| retry::reason(head.status).unwrap_or("answer"))?,
        };
        let after = retry::retry_after(head.headers);
        // A `Retry-After` asks to leave the whole service alone, unless the replica says that it is going away or that it
        // is not there yet.
        let elsewhere =
            after.is_none_or(|wait| wait.is_zero()) || matches!(head.problem(), Some("draining" | "starting"));
        Some(Repeat {
            reason,
            after,
            elsewhere,
        })
    }

    fn ran_out_of_time(&self, answer: &R) -> bool {
        let head = answer.head();
        head.status == StatusCode::GATEWAY_TIMEOUT && head.problem() == Some("deadline-exceeded")
    }
}

/// Marks an answer that is handed on although it might have been repeated: nobody further up is to repeat it.
pub(crate) fn mark_final(answer: &mut impl HttpHead) {
    answer
        .headers_mut()
        .insert(RETRY_HEADER, http::HeaderValue::from_static("no"));
}
