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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::Resilience;
    use crate::outbound::Sent;

    /// What the last attempt could not even begin with takes nothing back of what an earlier one has sent.
    #[tokio::test(start_paused = true)]
    async fn a_repetition_that_cannot_be_built_tells_of_the_attempt_that_was_sent() {
        let resilience = Resilience::builder().start().await.unwrap();
        let mut policy = valerix_policy::Policy::default();
        let mut settings = valerix_policy::Target::named("upstream");
        settings.retry.budget.percent = 100;
        policy.targets.push(settings);
        resilience.apply_policy(policy.render().as_bytes()).unwrap();
        let target = resilience.target("upstream");
        let pipeline = target.pipeline::<(), std::io::Error>();
        for (earlier, sent) in [(1, Sent::Perhaps), (0, Sent::Nothing)] {
            let policy = Arc::clone(&target.policy());
            let call = Call {
                target: &target,
                policy: &policy,
                balancer: None,
                deadline: None,
                repeatable: true,
                once: false,
                read: false,
                judged: true,
            };
            let attempts = AtomicU32::new(0);
            let failed = execute(call, &pipeline, |_| {
                let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                let cause = String::new();
                let error = if attempt < earlier {
                    AttemptError::Reset(cause)
                } else {
                    AttemptError::Request {
                        cause,
                        sent: Sent::Nothing,
                    }
                };
                async { Err(error) }
            });
            let error = failed.await.err().unwrap();
            assert!(matches!(error, CallError::Request { .. }), "{error}");
            assert_eq!((attempts.into_inner(), error.sent()), (earlier + 1, sent));
        }
    }
}
