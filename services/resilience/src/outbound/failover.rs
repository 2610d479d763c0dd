//! Whether an attempt that an address failed goes on at another one at once. In: what the address did and which others
//! are left. Out: where to go on, paid from the retry budget where a request had been sent.

use std::future::Future;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::attempt::{Journey, Kind};
use super::balance::Flight;
use super::call::{Answer, Attempt, AttemptError};
use super::classify::Head;
use super::verdict::Sent;

/// Further addresses that an attempt tries which reaches nobody.
const MAX_HOPS: u32 = 3;

/// Where an attempt stands when an address did not do.
pub(super) struct Hop<'attempt> {
    pub(super) kind: Kind,
    /// Addresses left before this one.
    pub(super) number: u32,
    /// When the attempt ends.
    pub(super) end: Instant,
    /// Addresses whose circuits are open.
    pub(super) barred: &'attempt [SocketAddr],
}

/// How an attempt goes on at another address.
pub(super) enum Onward {
    /// Nothing was sent: it is still the same attempt.
    SameAttempt,
    /// The same, to the URL's own host.
    Direct,
    /// It counts as a repetition.
    Repetition(&'static str),
}

impl<R, F, Fut> Journey<'_, F>
where
    R: Answer,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    /// Whether the attempt goes on at another address at once.
    #[inline]
    pub(super) fn onward(&self, sent: &Sent<R>, flight: Option<&Flight>, hop: Hop<'_>) -> Option<Onward> {
        match sent {
            Sent::Answer { reason: None, .. } | Sent::Request(_) | Sent::Cut(_) => None,
            _ => self.onward_after_failure(sent, flight?, hop),
        }
    }

    #[cold]
    fn onward_after_failure(&self, sent: &Sent<R>, flight: &Flight, hop: Hop<'_>) -> Option<Onward> {
        let (call, balancer) = (&self.call, self.call.balancer?);
        let mut tried = self.tried();
        if !tried.contains(&flight.socket()) {
            tried.push(flight.socket());
        }
        let others = balancer.has_other(&tried, hop.barred);
        drop(tried);
        if let Sent::Connect(_) = sent {
            balancer.unreachable();
            if call.once || Instant::now() >= hop.end {
                return None;
            }
            if others && hop.number < MAX_HOPS {
                return Some(Onward::SameAttempt);
            }
            return balancer.has_another_way().then_some(Onward::Direct);
        }
        let reason = match sent {
            Sent::Answer {
                answer,
                reason: Some(reason),
            } if speaks_for_itself(answer) => reason,
            Sent::Reset(_) => "reset",
            _ => return None,
        };
        let go_on = others
            && hop.kind == Kind::Ordinary
            && hop.number == 0
            && call.repeatable
            && self.attempts() < call.settings.retry.max_attempts
            && Instant::now() < self.end.instant()
            && call.target.budget.withdraw();
        go_on.then_some(Onward::Repetition(reason))
    }
}

/// Whether a bad answer is one address's own matter: a `Retry-After` asks to leave the whole service alone, unless the
/// replica says that it is going away.
fn speaks_for_itself<R: Answer>(answer: &R) -> bool {
    let head = Head {
        status: answer.status(),
        headers: answer.headers(),
    };
    head.problem() == Some("draining") || !answer.headers().contains_key(http::header::RETRY_AFTER)
}
