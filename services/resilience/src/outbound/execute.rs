//! A call from its first attempt to its last. In: what is known of the request, a judge of results, and a way to make one
//! attempt. Out: the first result that is final, or the reason why there is none. Reads time and the target; does no IO
//! itself.

use std::future::Future;

use tokio::time::Instant;

use super::call::{Attempt, AttemptError, AttemptResult, Call, CallState, Completed, Kind};
use super::error::CallError;
use super::hedge;
use super::judge::Judge;
use crate::retry::{Next, Series};

/// Makes the call.
pub(crate) async fn execute<R, J, F, Fut>(call: Call<'_>, judge: J, send: F) -> Result<Completed<R>, CallError>
where
    J: Judge<R>,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    let state = CallState::new(call, judge, send);
    let target = state.call.target;
    let series = Series {
        settings: &state.call.policy.retry,
        budget: &target.budget,
        random: &target.random,
    };
    let mut now = state.began;
    loop {
        let result = match state.call.hedge() {
            Some(hedge) if state.attempts() == 0 => Box::pin(hedge::race(&state, hedge, now)).await,
            _ => state.attempt(Kind::Ordinary, now).await,
        };
        let (failed, after, reason) = match result {
            AttemptResult::Final(result) => return result,
            AttemptResult::Repeat { failed, after, reason } => (failed, after, reason),
        };
        if !state.call.repeatable {
            return failed.into_result();
        }
        let wait = match series.next(state.attempts(), after, Some(state.end)) {
            Next::Wait(wait) => wait,
            Next::Stop => return failed.into_result(),
            Next::Spent => {
                target.counters.retries_refused.inc();
                return failed.into_unrepeated(target);
            }
        };
        target.metrics.retry(target.name(), reason);
        drop(failed);
        tokio::time::sleep(wait).await;
        now = Instant::now();
    }
}
