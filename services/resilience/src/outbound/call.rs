//! One call with its attempts. In: a target, what is known of the request, and a way to make one attempt. Out: the
//! first answer that is final, or the reason why there is none. Reads time and the target; does no IO itself.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::attempt::{Journey, Kind};
use super::balance::{Balancer, Flight};
use super::classify::Classify;
use super::error::CallError;
use super::hedge;
use super::target::{Settings, Target};
use super::verdict::Verdict;
use crate::breaker::{Outcome, Ticket};
use crate::bulkhead::BulkheadPermit;
use crate::deadline::Deadline;
use crate::retry;

/// What of a request decides about its attempts.
pub(crate) struct Call<'call> {
    pub(crate) target: &'call Target,
    pub(crate) settings: &'call Settings,
    pub(crate) classify: &'call dyn Classify,
    /// Chooses the address of each attempt; none leaves that to who sends it.
    pub(crate) balancer: Option<&'call Arc<Balancer>>,
    /// The caller's deadline; none means only the target's own.
    pub(crate) deadline: Option<Deadline>,
    /// Whether the request may be sent more than once.
    pub(crate) repeatable: bool,
    /// Whether it cannot be made a second time at all, sent or not.
    pub(crate) once: bool,
    /// Whether it is a read that a second one may race.
    pub(crate) read: bool,
}

impl Call<'_> {
    pub(super) fn hedge(&self) -> Option<valerix_policy::Hedge> {
        self.settings.hedge.filter(|_| self.read && self.repeatable)
    }

    /// The time to connect; where there are other addresses, so much that one of them has time to answer.
    pub(super) fn connect_timeout(&self) -> Duration {
        let timeout = self.settings.timeout;
        if self.balancer.is_some_and(|balancer| balancer.len() > 1) {
            timeout.connect.get().min(timeout.attempt.get() / 2)
        } else {
            timeout.connect.get()
        }
    }
}

/// One attempt's share of the time, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// When it is given up.
    pub(crate) end: Instant,
    pub(crate) connect_timeout: Duration,
    /// The address to connect to; none means the URL's host.
    pub(crate) address: Option<SocketAddr>,
}

/// Why an attempt has no answer.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// This address could not be reached.
    Connect(String),
    /// No address is to be reached.
    Cut(String),
    Reset(String),
    Request(String),
}

/// The head of an answer, whatever client it came from.
pub(crate) trait Answer {
    fn status(&self) -> StatusCode;
    fn headers(&self) -> &HeaderMap;
}

impl<B> Answer for http::Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}

/// A final answer, with what must be held and known while its body is read.
pub(crate) struct Completed<R> {
    pub(crate) answer: R,
    pub(crate) outcome: Outcome,
    pub(crate) held: Held,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) deadline: Deadline,
}

/// What an answer occupies until its body has been read.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) _place: Option<BulkheadPermit>,
    pub(super) flight: Option<Flight>,
    /// Whether the address's own breaker counted the answer.
    pub(super) per_host: bool,
}

impl Held {
    /// Counts a body that broke off.
    pub(crate) fn body_failed(&self, target: &Target, ticket: Ticket) {
        match (&self.flight, self.per_host) {
            (Some(flight), true) => {
                if let Some(breaker) = flight.address().breaker() {
                    ticket.body_failed(breaker);
                }
            }
            _ => ticket.body_failed(&target.breaker),
        }
    }
}

/// Makes the call.
pub(crate) async fn execute<R, F, Fut>(call: Call<'_>, send: F) -> Result<Completed<R>, CallError>
where
    R: Answer,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    let journey = Journey::new(call, send);
    let (target, settings) = (journey.call.target, journey.call.settings);
    target.budget.deposit();
    let mut now = journey.began();
    loop {
        let verdict = match journey.call.hedge() {
            Some(hedge) if journey.attempts() == 0 => Box::pin(hedge::race(&journey, hedge, now)).await,
            _ => journey.attempt(Kind::Ordinary, now).await,
        };
        let (failed, after, reason) = match verdict {
            Verdict::Final(result) => return result,
            Verdict::Repeat { failed, after, reason } => (failed, after, reason),
        };
        let attempts = journey.attempts();
        if !journey.call.repeatable || attempts >= settings.retry.max_attempts {
            return failed.into_result();
        }
        let wait = retry::backoff(settings.retry.backoff, attempts, &target.random).max(after.unwrap_or_default());
        if wait >= journey.end.remaining() {
            // No attempt could follow: the answer at hand is worth more than a deadline error later.
            return failed.into_result();
        }
        if !target.budget.withdraw() {
            target.counters.retries_refused.inc();
            return Err(failed.into_exhausted(target));
        }
        target.metrics.retry(target.name(), reason);
        drop(failed);
        tokio::time::sleep(wait).await;
        now = Instant::now();
    }
}
