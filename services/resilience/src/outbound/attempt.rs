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
use super::call::{Answer, Attempt, AttemptError, Call, Held};
use super::classify::Head;
use super::error::CallError;
use super::failover::{Hop, Onward};
use super::verdict::{Sent, Verdict, repeat_reason};
use crate::breaker::{CircuitBreaker, Outcome, Permit};
use crate::bulkhead::BulkheadPermit;
use crate::deadline::Deadline;

/// A call under way: what its attempts share.
pub(super) struct Journey<'call, F> {
    pub(super) call: Call<'call>,
    pub(super) began: Instant,
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
pub(super) enum Bound {
    /// The caller's deadline: says nothing about the target.
    Caller,
    /// The target's own `request` or `attempt`.
    Own,
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

    pub(super) fn all_attempts(&self) -> u32 {
        self.attempts() + self.hedges.load(Ordering::Relaxed)
    }

    pub(super) fn tried(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> String {
        self.call.target.name().to_owned()
    }

    pub(super) fn exceeded(&self) -> CallError {
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
        if self.call.once {
            // There is no second try: no risk is taken with an address whose last attempt failed.
            *tried = balancer.failing();
        }
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
}
