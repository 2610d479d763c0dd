//! Whether an attempt that an address failed goes on at another one at once. In: what the address did and which others
//! are left. Out: where to go on, paid from the retry budget where a request had been sent.

use tokio::time::Instant;

use super::attempt::Route;
use super::balance::Flight;
use super::call::{CallState, Kind, Reply};

/// Further addresses that an attempt tries which reaches nobody.
const MAX_HOPS: u32 = 3;

/// How an attempt goes on at another address.
pub(super) enum NextHop {
    /// Nothing was sent: it is still the same attempt.
    SameAttempt,
    /// The same, to the URL's own host.
    Direct,
    /// It counts as a repetition.
    Repetition(&'static str),
}

impl<J, F> CallState<'_, J, F> {
    /// Whether the attempt goes on at another address at once.
    #[inline]
    pub(super) fn next_hop<R>(&self, reply: &Reply<R>, flight: Option<&Flight>, route: &Route<'_>) -> Option<NextHop> {
        match reply {
            Reply::Answer { repeat: None, .. } | Reply::Request { .. } | Reply::Cut { .. } => None,
            _ => self.next_hop_after_failure(reply, flight?, route),
        }
    }

    #[cold]
    fn next_hop_after_failure<R>(&self, reply: &Reply<R>, flight: &Flight, route: &Route<'_>) -> Option<NextHop> {
        let (call, balancer) = (&self.call, self.call.balancer?);
        let mut tried = self.tried();
        if !tried.contains(&flight.socket()) {
            tried.push(flight.socket());
        }
        let others = balancer.has_other(&tried, &route.barred);
        drop(tried);
        let reason = match reply {
            Reply::Connect(_) => {
                balancer.unreachable();
                if call.once || Instant::now() >= route.end {
                    return None;
                }
                if others && route.hops < MAX_HOPS {
                    return Some(NextHop::SameAttempt);
                }
                return balancer.has_another_way().then_some(NextHop::Direct);
            }
            Reply::Answer {
                repeat: Some(repeat), ..
            } if repeat.elsewhere => repeat.reason,
            Reply::Reset(_) => "reset",
            _ => return None,
        };
        let go_on = others
            && route.kind == Kind::Ordinary
            && route.hops == 0
            && call.repeatable
            && self.attempts() < call.policy.retry.max_attempts
            && Instant::now() < self.end.instant()
            && call.target.budget.withdraw();
        go_on.then_some(NextHop::Repetition(reason))
    }
}
