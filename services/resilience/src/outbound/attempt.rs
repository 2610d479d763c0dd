//! One attempt of a call: a place in the bulkhead, a permit of the breaker, an address, the time it may take. In: the
//! call and what was tried before. Out: a result that is final, or a failure that may be repeated.
//!
//! An attempt that reaches nobody, or that gets a bad answer and may be repeated, goes on to another address at once; the
//! target's breaker counts how that ended. With breakers of scope `Host` each address's own counts what it did.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use valerix_policy::{BreakerScope, Mode};

use super::balance::{Balancer, Flight};
use super::call::{Attempt, AttemptError, AttemptResult, Bound, CallState, Completed, Failed, Held, Kind, Reply};
use super::error::CallError;
use super::failover::NextHop;
use super::judge::{Judge, Repeat};
use super::sent::Sent;
use crate::breaker::{Outcome, OwnedPermit, Permit, Ticket};
use crate::bulkhead::BulkheadPermit;

/// Where an attempt stands between its addresses.
pub(super) struct Route<'call> {
    pub(super) kind: Kind,
    /// When the attempt ends.
    pub(super) end: Instant,
    bound: Bound,
    /// The permit of the target's breaker; none with breakers of scope `Host`, and none for a call beside the circuits.
    shared: Option<Permit<'call>>,
    per_host: bool,
    /// Addresses left so far.
    pub(super) hops: u32,
    /// Whether it goes to the URL's own host now.
    direct: bool,
    begun: bool,
    /// Addresses whose circuits are open, and when the first of them lets a probe pass.
    pub(super) barred: Vec<SocketAddr>,
    soonest: Duration,
}

/// The address that a request goes to, with the permit of its own breaker. Neither where the host is left to who sends.
#[derive(Default)]
struct Hop {
    flight: Option<Flight>,
    permit: Option<OwnedPermit>,
}

impl<'call, J, F> CallState<'call, J, F> {
    fn check_time(&self, now: Instant) -> Result<(), CallError> {
        if self.end.instant() <= now {
            return Err(self.exceeded());
        }
        Ok(())
    }

    /// A place in the bulkhead; none in mode `Disabled`, and none taken but none refused in `Shadow`.
    async fn place(&self, kind: Kind) -> Result<Option<BulkheadPermit>, CallError> {
        let (target, policy) = (self.call.target, self.call.policy);
        if policy.mode == Mode::Disabled {
            return Ok(None);
        }
        let wait = match kind {
            Kind::Hedge => Duration::ZERO,
            Kind::Ordinary => policy.max_wait,
        };
        let place = if wait.is_zero() {
            target.bulkhead.try_acquire()
        } else {
            target.bulkhead.acquire(wait.min(self.end.remaining())).await
        };
        match place {
            Ok(place) => {
                target.counters.places_given.inc();
                Ok(Some(place))
            }
            Err(full) => {
                target.counters.places_refused.inc();
                if policy.mode == Mode::Shadow {
                    return Ok(None);
                }
                Err(self.overloaded(full.limit))
            }
        }
    }

    /// Sees to it that addresses are known, as far as that is the client's business. Returns the present.
    async fn resolved(&self, now: Instant) -> Result<Instant, CallError> {
        if let Some(balancer) = self.call.balancer {
            balancer.ready(self.end.instant().saturating_duration_since(now)).await;
        }
        if self.call.policy.max_wait.is_zero() && self.call.balancer.is_none() {
            // Nothing was waited for: a clock that is not read costs nothing.
            return Ok(now);
        }
        let now = Instant::now();
        self.check_time(now)?;
        Ok(now)
    }

    /// Asks the target's breaker, where it has one for all addresses.
    fn enter(&self, kind: Kind, now: Instant) -> Result<Route<'call>, CallError> {
        let Self { call, .. } = self;
        let balanced = call.balancer.is_some_and(|balancer| balancer.len() > 0);
        let per_host = call.judged && call.policy.scope == BreakerScope::Host && balanced;
        let shared = if per_host || !call.judged {
            None
        } else {
            let permit = call.target.breaker.try_acquire();
            let permit = permit.map_err(|rejected| self.circuit_open(rejected.retry_after))?;
            self.note_shadow(permit.would_be_refused());
            Some(permit)
        };
        let (end, bound) = self.attempt_end(now);
        Ok(Route {
            kind,
            end,
            bound,
            shared,
            per_host,
            hops: 0,
            direct: false,
            begun: false,
            barred: Vec::new(),
            soonest: Duration::MAX,
        })
    }

    fn note_shadow(&self, would_be_refused: bool) {
        if would_be_refused {
            self.call.target.counters.shadow_not_permitted.inc();
        }
    }

    /// Chooses the next address. With breakers of scope `Host` one whose own lets it pass.
    fn hop(&self, route: &mut Route<'_>) -> Result<Hop, CallError> {
        loop {
            let balancer = self.call.balancer.filter(|_| !route.direct);
            let picked = balancer.and_then(|balancer| Some((balancer, self.pick(balancer, &route.barred)?)));
            let Some((balancer, flight)) = picked else {
                if route.per_host && !route.direct {
                    // Every address's circuit is open.
                    return Err(self.circuit_open(route.soonest));
                }
                return Ok(Hop::default());
            };
            let mut permit = None;
            if route.per_host {
                match balancer.hosts().breaker(flight.address()).try_acquire_owned() {
                    Ok(own) => permit = Some(own),
                    Err(rejected) => {
                        route.soonest = route.soonest.min(rejected.retry_after);
                        route.barred.push(flight.socket());
                        continue;
                    }
                }
                self.note_shadow(permit.as_ref().is_some_and(OwnedPermit::would_be_refused));
            }
            return Ok(Hop {
                flight: Some(flight),
                permit,
            });
        }
    }

    /// Goes on to another address.
    fn follow(&self, next: NextHop, route: &mut Route<'_>) {
        let target = self.call.target;
        match next {
            NextHop::SameAttempt => target.metrics.failover(target.name(), "connect"),
            NextHop::Direct => {
                target.metrics.failover(target.name(), "host");
                route.direct = true;
            }
            NextHop::Repetition(reason) => {
                target.metrics.failover(target.name(), reason);
                target.metrics.retry(target.name(), reason);
                self.begin_attempt(Kind::Ordinary);
                (route.end, route.bound) = self.attempt_end(Instant::now());
            }
        }
        route.hops += 1;
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
}

impl<J, F> CallState<'_, J, F> {
    /// Makes an attempt. `now` is the present.
    pub(super) async fn attempt<R, Fut>(&self, kind: Kind, now: Instant) -> AttemptResult<R>
    where
        J: Judge<R>,
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<R, AttemptError>>,
    {
        match self.try_attempt(kind, now).await {
            Ok(result) => result,
            Err(error) => AttemptResult::Final(Err(error)),
        }
    }

    async fn try_attempt<R, Fut>(&self, kind: Kind, now: Instant) -> Result<AttemptResult<R>, CallError>
    where
        J: Judge<R>,
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<R, AttemptError>>,
    {
        self.check_time(now)?;
        let place = self.place(kind).await?;
        let now = self.resolved(now).await?;
        let mut route = self.enter(kind, now)?;
        loop {
            let hop = self.hop(&mut route)?;
            if !std::mem::replace(&mut route.begun, true) {
                self.begin_attempt(kind);
            }
            let reply = self.send_to(hop.flight.as_ref(), route.end).await;
            let outcome = self.outcome(&reply, route.bound);
            self.count(&reply, outcome, hop.flight.as_ref());
            let Some(next) = self.next_hop(&reply, hop.flight.as_ref(), &route) else {
                let ticket = record(&reply, outcome, hop.permit, route.shared);
                let held = Held {
                    _place: place,
                    flight: hop.flight,
                    per_host: route.per_host,
                };
                return Ok(self.conclude(reply, outcome, route.bound, ticket, held));
            };
            if let Some(permit) = hop.permit {
                permit.record(outcome);
            }
            self.follow(next, &mut route);
        }
    }

    async fn send_to<R, Fut>(&self, flight: Option<&Flight>, end: Instant) -> Reply<R>
    where
        J: Judge<R>,
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<R, AttemptError>>,
    {
        let attempt = Attempt {
            end,
            #[cfg(feature = "reqwest")]
            connect_timeout: self.call.connect_timeout(),
            address: flight.map(Flight::socket),
        };
        let began = Instant::now();
        let answered = tokio::time::timeout_at(end, (self.send)(attempt)).await;
        self.call.target.counters.seconds.observe(began.elapsed().as_secs_f64());
        match answered {
            Ok(Ok(answer)) => {
                let repeat = self.judge.repeat(&answer);
                Reply::Answer { answer, repeat }
            }
            Ok(Err(AttemptError::Connect(cause))) => Reply::Connect(cause),
            Ok(Err(AttemptError::Cut { cause, sent })) => Reply::Cut { cause, sent },
            Ok(Err(AttemptError::Reset(cause))) => Reply::Reset(cause),
            Ok(Err(AttemptError::Request { cause, sent })) => Reply::Request { cause, sent },
            Err(_) => Reply::TimedOut,
        }
    }

    fn outcome<R>(&self, reply: &Reply<R>, bound: Bound) -> Outcome
    where
        J: Judge<R>,
    {
        match reply {
            Reply::Answer { answer, .. } if bound != Bound::Own && self.judge.ran_out_of_time(answer) => {
                Outcome::Neutral
            }
            Reply::Answer { answer, .. } => self.judge.outcome(answer),
            Reply::Connect(_) | Reply::Cut { .. } | Reply::Reset(_) => Outcome::Failure,
            Reply::TimedOut if bound == Bound::Own => Outcome::Failure,
            Reply::TimedOut | Reply::Request { .. } => Outcome::Neutral,
        }
    }

    /// Counts what an address did: for metrics, for the choice of addresses, and whether anything was sent.
    fn count<R>(&self, reply: &Reply<R>, outcome: Outcome, flight: Option<&Flight>) {
        self.note_sent(reply.sent());
        if !matches!(reply, Reply::Request { .. }) {
            self.call.target.counters.outcome(outcome).inc();
            if !matches!(reply, Reply::Cut { .. }) {
                self.note(flight, outcome);
            }
        }
    }

    /// What the attempt came to, once no other address is tried.
    fn conclude<R>(
        &self,
        reply: Reply<R>,
        outcome: Outcome,
        bound: Bound,
        ticket: Option<Ticket>,
        held: Held,
    ) -> AttemptResult<R> {
        let (target, attempts) = (self.name(), self.all_attempts());
        match reply {
            Reply::Answer { answer, repeat } => {
                let completed = Completed {
                    answer,
                    outcome,
                    held,
                    ticket,
                    #[cfg(feature = "reqwest")]
                    deadline: self.end,
                    #[cfg(feature = "reqwest")]
                    deadline_is_own: self.deadline_is_own(bound),
                    unrepeated: false,
                };
                match repeat {
                    Some(Repeat { reason, after, .. }) => AttemptResult::Repeat {
                        failed: Failed::Answer(completed),
                        after,
                        reason,
                    },
                    None => AttemptResult::Final(Ok(completed)),
                }
            }
            Reply::Connect(cause)
            | Reply::Cut {
                cause,
                sent: Sent::Nothing,
            } => {
                let sent = self.sent();
                AttemptResult::failed(
                    "connect",
                    CallError::Connect {
                        target,
                        attempts,
                        sent,
                        cause,
                    },
                )
            }
            Reply::Request { cause, .. } => {
                let sent = self.sent();
                AttemptResult::Final(Err(CallError::Request { target, sent, cause }))
            }
            Reply::Reset(cause)
            | Reply::Cut {
                cause,
                sent: Sent::Perhaps,
            } => AttemptResult::failed(
                "reset",
                CallError::Reset {
                    target,
                    attempts,
                    cause,
                },
            ),
            Reply::TimedOut if bound != Bound::Own => AttemptResult::Final(Err(self.exceeded())),
            Reply::TimedOut => {
                self.call.target.metrics.timeout("attempt");
                let timeout = self.call.policy.timeout.attempt.get().min(self.began.elapsed());
                AttemptResult::failed(
                    "timeout",
                    CallError::AttemptTimeout {
                        target,
                        timeout,
                        attempts,
                    },
                )
            }
        }
    }
}

/// Tells the breaker that let the request pass. One that never left whole has no outcome: its permit goes back unused.
fn record<R>(
    reply: &Reply<R>,
    outcome: Outcome,
    own: Option<OwnedPermit>,
    shared: Option<Permit<'_>>,
) -> Option<Ticket> {
    if matches!(reply, Reply::Request { .. }) {
        return None;
    }
    match own {
        Some(permit) => Some(permit.record(outcome)),
        None => shared.map(|permit| permit.record(outcome)),
    }
}
