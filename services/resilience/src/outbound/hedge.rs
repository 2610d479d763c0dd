//! Further attempts of a read whose answer is slow. In: the time since the attempts began. Out: the first good answer;
//! those that are still under way then are dropped, which cancels them and gives their permits back as neutral.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use valerix_policy::HedgeType;

use super::call::{Attempt, AttemptError, AttemptResult, CallState, Kind};
use super::judge::Judge;

/// Makes an attempt and, each time the delay passes without an answer, a further one, as many as the policy allows.
pub(super) async fn race<R, J, F, Fut>(
    state: &CallState<'_, J, F>,
    hedge: valerix_policy::Hedge,
    began: Instant,
) -> AttemptResult<R>
where
    J: Judge<R>,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    let target = state.call.target;
    let measured = hedge.hedge_type == HedgeType::Percentile;
    let delay = if measured {
        target
            .latencies
            .percentile(hedge.percentile())
            .unwrap_or(hedge.delay.get())
    } else {
        hedge.delay.get()
    };
    let timer = tokio::time::sleep(delay);
    tokio::pin!(timer);
    let mut attempts = FuturesUnordered::new();
    attempts.push(state.attempt(Kind::Ordinary, began));
    let mut left = hedge.max_hedged_attempts;
    let mut best: Option<AttemptResult<R>> = None;
    loop {
        tokio::select! {
            biased;
            Some(result) = attempts.next() => {
                if result.is_good() {
                    if measured {
                        target.latencies.add(began.elapsed());
                    }
                    return result;
                }
                // A failure ends the race only when no other attempt can still do better.
                let result = match best.take() {
                    Some(former) if former.rank() > result.rank() => former,
                    _ => result,
                };
                if attempts.is_empty() {
                    return result.after(state.sent());
                }
                best = Some(result);
            }
            () = &mut timer, if left > 0 => {
                left -= 1;
                if target.budget.withdraw() {
                    target.counters.hedges.inc();
                    attempts.push(state.attempt(Kind::Hedge, Instant::now()));
                    timer.as_mut().reset(Instant::now() + delay);
                } else {
                    target.counters.retries_refused.inc();
                    left = 0;
                }
            }
        }
    }
}
