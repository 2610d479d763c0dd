//! Whether and when a failed attempt is followed by another: the one rule of the clients, of pipelines and of the layer.
//! Reads time, randomness and the budget.

use std::time::Duration;

use super::{RetryBudget, backoff};
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::random::Random;

/// The longest `Retry-After` that is waited for where no deadline says less.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The attempts of one call.
pub(crate) struct Series<'call, C: Clock> {
    pub(crate) settings: &'call valerix_policy::Retry,
    pub(crate) budget: &'call RetryBudget<C>,
    pub(crate) random: &'call Random,
}

/// What follows an attempt that is worth another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another one, after this time. It is paid for.
    Wait(Duration),
    /// None: there were enough, or none could end in time. The result at hand is worth more than a later deadline error.
    Stop,
    /// None: the budget is spent.
    Spent,
}

impl<C: Clock> Series<'_, C> {
    /// What follows the `attempts`-th attempt, where the answer asked to be left alone for `asked`.
    pub(crate) fn next(&self, attempts: u32, asked: Option<Duration>, deadline: Option<Deadline>) -> Next {
        if attempts >= self.settings.max_attempts {
            return Next::Stop;
        }
        let asked = asked.unwrap_or_default();
        let wait = backoff(self.settings.backoff, attempts, self.random).max(asked);
        let in_time = match deadline {
            Some(deadline) => wait < deadline.remaining(),
            None => asked <= LONGEST_WAIT,
        };
        if !in_time {
            Next::Stop
        } else if self.budget.withdraw() {
            Next::Wait(wait)
        } else {
            Next::Spent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn attempts_time_and_budget_end_it_in_this_order() {
        let settings = valerix_policy::Retry::default();
        let budget = RetryBudget::with_clock(ManualClock::default());
        budget.configure(100, 0, 1);
        let random = Random::seeded(1);
        let series = Series {
            settings: &settings,
            budget: &budget,
            random: &random,
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let within = |seconds| Some(Deadline::after(Duration::from_secs(seconds)));
        assert_eq!(series.next(3, None, None), Next::Stop);
        assert_eq!(series.next(1, seconds(31), None), Next::Stop);
        assert_eq!(series.next(1, seconds(u64::MAX), within(60)), Next::Stop);
        assert_eq!(series.next(1, seconds(5), within(5)), Next::Stop);
        assert_eq!(series.next(1, None, within(5)), Next::Spent);
        budget.deposit();
        assert_eq!(
            series.next(1, seconds(40), within(60)),
            Next::Wait(Duration::from_secs(40))
        );
        budget.deposit();
        assert_eq!(series.next(1, seconds(30), None), Next::Wait(Duration::from_secs(30)));
        assert_eq!(series.next(1, None, None), Next::Spent);
    }
}
