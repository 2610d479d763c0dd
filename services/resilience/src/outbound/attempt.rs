//! One attempt of a call: a place in the bulkhead, a permit of the breaker, an address, the time it may take. In: the
//! call and what was tried before. Out: a verdict that is final, or a failure that may be repeated.
//!
//! An attempt that reaches nobody, or that gets a bad answer and may be repeated, goes on to another address at once; the
//! target's breaker counts how that ended. With breakers of scope `Host` each address's own counts what it did.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use valerix_policy::{BreakerScope, Mode};

use super::balance::{Balancer, Flight};
use super::call::{Answer, Attempt, AttemptError, Call, Completed, Held};
use super::classify::Head;
use super::error::CallError;
use super::target::Target;
use crate::breaker::{CircuitBreaker, Outcome, Permit, Ticket};
use crate::bulkhead::BulkheadPermit;
use crate::deadline::Deadline;
use crate::problem::RETRY_HEADER;
use crate::retry;

/// Further addresses that an attempt tries which reaches nobody.
const MAX_HOPS: u32 = 3;

/// A call under way: what its attempts share.
pub(super) struct Journey<'call, F> {
    pub(super) call: Call<'call>,
    began: Instant,
    /// The target's own `request` time.
    own: Deadline,
    /// The earlier of that and the caller's deadline.
    pub(super) end: Deadline,
    /// Attempts begun, hedges left out.
    attempts: AtomicU32,
    hedges: AtomicU32,
    /// Addresses that did not do.
    tried: Mutex<Vec<SocketAddr>>,
    send: F,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    /// Beside one that is under way: it waits for nothing.
    Hedge,
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
enum Sent<R> {
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

/// Where an attempt stands when an address did not do.
struct Hop<'attempt> {
    kind: Kind,
    /// Addresses left before this one.
    number: u32,
    /// When the attempt ends.
    end: Instant,
    /// Addresses whose circuits are open.
    barred: &'attempt [SocketAddr],
}

/// How an attempt goes on at another address.
enum Onward {
    /// Nothing was sent: it is still the same attempt.
    SameAttempt,
    /// The same, to the URL's own host.
    Direct,
    /// It counts as a repetition.
    Repetition(&'static str),
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

impl<'call, F> Journey<'call, F> {
    pub(super) fn new(call: Call<'call>, send: F) -> Self {
        let began = Instant::now();
        let own = Deadline::at(began + call.settings.timeout.request.get());
        let end = call.deadline.map_or(own, |deadline| deadline.min(own));
        Self {
            call,
            began,
            own,
            end,
            attempts: AtomicU32::new(0),
            hedges: AtomicU32::new(0),
            tried: Mutex::new(Vec::new()),
            send,
        }
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Attempts begun, hedges left out.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    fn all_attempts(&self) -> u32 {
        self.attempts() + self.hedges.load(Ordering::Relaxed)
    }

    fn tried(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        self.call.target.name().to_owned()
    }

    fn exceeded(&self) -> CallError {
        self.call.target.metrics.timeout("deadline");
        CallError::DeadlineExceeded {
            target: self.name(),
            elapsed: self.began.elapsed(),
            attempts: self.all_attempts(),
        }
    }

    fn circuit_open(&self, retry_after: Duration) -> CallError {
        self.call.target.counters.not_permitted.inc();
        CallError::CircuitOpen {
            target: self.name(),
            retry_after,
        }
    }

    /// When an attempt that begins now ends, and whose time that is.
    fn attempt_end(&self, now: Instant) -> (Instant, Bound) {
        let own = self.own.instant().min(now + self.call.settings.timeout.attempt.get());
        match self.call.deadline {
            Some(deadline) if deadline.instant() < own => (deadline.instant(), Bound::Caller),
            _ => (own, Bound::Own),
        }
    }

    /// A place in the bulkhead; none in mode `Disabled`, and none taken but none refused in `Shadow`.
    async fn place(&self, kind: Kind) -> Result<Option<BulkheadPermit>, CallError> {
        let (target, settings) = (self.call.target, self.call.settings);
        if settings.mode == Mode::Disabled {
            return Ok(None);
        }
        let mut place = target.bulkhead.try_acquire();
        if place.is_err() && kind == Kind::Ordinary && !settings.max_wait.is_zero() {
            place = target
                .bulkhead
                .acquire(settings.max_wait.min(self.end.remaining()))
                .await;
        }
        match place {
            Ok(place) => {
                target.counters.places_given.inc();
                Ok(Some(place))
            }
            Err(full) => {
                target.counters.places_refused.inc();
                if settings.mode == Mode::Shadow {
                    return Ok(None);
                }
                Err(CallError::Overloaded {
                    target: self.name(),
                    limit: full.limit,
                })
            }
        }
    }

    fn permit<'breaker>(&self, breaker: &'breaker CircuitBreaker) -> Result<Permit<'breaker>, Duration> {
        let permit = breaker.try_acquire().map_err(|rejected| rejected.retry_after)?;
        if permit.would_be_refused() {
            self.call.target.counters.shadow_not_permitted.inc();
        }
        Ok(permit)
    }

    /// Counts for the choice of addresses what one of them did.
    fn note(&self, flight: Option<&Flight>, outcome: Outcome) {
        let (Some(balancer), Some(flight)) = (self.call.balancer, flight) else {
            return;
        };
        match outcome {
            Outcome::Success => balancer.succeeded(flight.address()),
            Outcome::Failure => {
                if balancer.failed(flight.address()) {
                    self.call.target.counters.ejections.inc();
                }
            }
            Outcome::Neutral => {}
        }
    }

    /// An address for the next request. While a hedge may follow, it is to go elsewhere.
    fn pick(&self, balancer: &Balancer, barred: &[SocketAddr]) -> Option<Flight> {
        let mut tried = self.tried();
        let flight = balancer.pick(&tried, barred)?;
        if self.call.hedge().is_some() {
            tried.push(flight.socket());
        }
        Some(flight)
    }
}

impl<R, F, Fut> Journey<'_, F>
where
    R: Answer,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<R, AttemptError>>,
{
    /// Makes an attempt. `now` is the present.
    pub(super) async fn attempt(&self, kind: Kind, mut now: Instant) -> Verdict<R> {
        let (target, settings, balancer) = (self.call.target, self.call.settings, self.call.balancer);
        if self.end.instant() <= now {
            return Verdict::Final(Err(self.exceeded()));
        }
        let place = match self.place(kind).await {
            Ok(place) => place,
            Err(error) => return Verdict::Final(Err(error)),
        };
        if let Some(balancer) = balancer {
            balancer.ready(self.end.instant().saturating_duration_since(now)).await;
        }
        if !settings.max_wait.is_zero() || balancer.is_some() {
            now = Instant::now();
        }
        if self.end.instant() <= now {
            return Verdict::Final(Err(self.exceeded()));
        }
        let per_host = settings.scope == BreakerScope::Host && balancer.is_some_and(|balancer| balancer.len() > 0);
        let shared = if per_host {
            None
        } else {
            match self.permit(&target.breaker) {
                Ok(permit) => Some(permit),
                Err(retry_after) => return Verdict::Final(Err(self.circuit_open(retry_after))),
            }
        };
        let begun = if kind == Kind::Hedge {
            &self.hedges
        } else {
            &self.attempts
        };
        let mut counted = false;
        let (mut end, mut bound) = self.attempt_end(now);
        let (mut hops, mut direct) = (0, false);
        let (mut barred, mut soonest) = (Vec::new(), Duration::MAX);
        loop {
            let flight = balancer
                .filter(|_| !direct)
                .and_then(|balancer| self.pick(balancer, &barred));
            let own = match (balancer, &flight) {
                (Some(balancer), Some(flight)) if per_host => {
                    match self.permit(balancer.hosts().breaker(flight.address())) {
                        Ok(permit) => Some(permit),
                        Err(retry_after) => {
                            soonest = soonest.min(retry_after);
                            barred.push(flight.socket());
                            continue;
                        }
                    }
                }
                // Every address's circuit is open.
                _ if per_host && !direct => return Verdict::Final(Err(self.circuit_open(soonest))),
                _ => None,
            };
            if !counted {
                counted = true;
                begun.fetch_add(1, Ordering::Relaxed);
            }
            let sent = self.send(flight.as_ref(), end).await;
            let outcome = self.outcome(&sent, bound);
            if !matches!(sent, Sent::Request(_)) {
                target.counters.outcome(outcome).inc();
                if !matches!(sent, Sent::Cut(_)) {
                    self.note(flight.as_ref(), outcome);
                }
            }
            let onward = self.onward(
                &sent,
                flight.as_ref(),
                Hop {
                    kind,
                    number: hops,
                    end,
                    barred: &barred,
                },
            );
            if let Some(onward) = onward {
                if let Some(own) = own {
                    own.record(outcome);
                }
                match onward {
                    Onward::SameAttempt => target.metrics.failover(target.name(), "connect"),
                    Onward::Direct => {
                        target.metrics.failover(target.name(), "host");
                        direct = true;
                    }
                    Onward::Repetition(reason) => {
                        target.metrics.failover(target.name(), reason);
                        target.metrics.retry(target.name(), reason);
                        self.attempts.fetch_add(1, Ordering::Relaxed);
                        (end, bound) = self.attempt_end(Instant::now());
                    }
                }
                hops += 1;
                continue;
            }
            // A request that never left has no outcome: its permit goes back unused.
            let permit = own.or(shared).filter(|_| !matches!(sent, Sent::Request(_)));
            let ticket = permit.map(|permit| permit.record(outcome));
            return self.conclude(
                sent,
                outcome,
                bound,
                ticket,
                Held {
                    _place: place,
                    flight,
                    per_host,
                },
            );
        }
    }

    async fn send(&self, flight: Option<&Flight>, end: Instant) -> Sent<R> {
        let attempt = Attempt {
            end,
            connect_timeout: self.call.connect_timeout(),
            address: flight.map(Flight::socket),
        };
        match tokio::time::timeout_at(end, (self.send)(attempt)).await {
            Ok(Ok(answer)) => {
                let reason = repeat_reason(&answer);
                Sent::Answer { answer, reason }
            }
            Ok(Err(AttemptError::Connect(cause))) => Sent::Connect(cause),
            Ok(Err(AttemptError::Cut(cause))) => Sent::Cut(cause),
            Ok(Err(AttemptError::Reset(cause))) => Sent::Reset(cause),
            Ok(Err(AttemptError::Request(cause))) => Sent::Request(cause),
            Err(_) => Sent::TimedOut,
        }
    }

    fn outcome(&self, sent: &Sent<R>, bound: Bound) -> Outcome {
        match sent {
            Sent::Answer { answer, .. } => {
                let head = Head {
                    status: answer.status(),
                    headers: answer.headers(),
                };
                let inherited = head.status == StatusCode::GATEWAY_TIMEOUT
                    && bound == Bound::Caller
                    && head.problem() == Some("deadline-exceeded");
                if inherited {
                    Outcome::Neutral
                } else {
                    self.call.classify.outcome(head)
                }
            }
            Sent::Connect(_) | Sent::Cut(_) | Sent::Reset(_) => Outcome::Failure,
            Sent::TimedOut if bound == Bound::Own => Outcome::Failure,
            Sent::TimedOut | Sent::Request(_) => Outcome::Neutral,
        }
    }

    /// Whether the attempt goes on at another address at once.
    #[inline]
    fn onward(&self, sent: &Sent<R>, flight: Option<&Flight>, hop: Hop<'_>) -> Option<Onward> {
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

    fn conclude(
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
fn repeat_reason<R: Answer>(answer: &R) -> Option<&'static str> {
    let reason = match answer.status() {
        StatusCode::BAD_GATEWAY => "502",
        StatusCode::SERVICE_UNAVAILABLE => "503",
        StatusCode::GATEWAY_TIMEOUT => "504",
        _ => return None,
    };
    let is_final = answer.headers().get(RETRY_HEADER).is_some_and(|value| value == "no");
    (!is_final).then_some(reason)
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
