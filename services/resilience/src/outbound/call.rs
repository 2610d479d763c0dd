//! One call with its attempts as data: what is known of it before, what its attempts share, what one of them came to.
//! The steps are elsewhere: `attempt` makes one attempt, `failover` takes it to another address, `hedge` races several,
//! `execute` repeats.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::balance::{Balancer, Flight};
use super::error::CallError;
use super::judge::Repeat;
use super::sent::Sent;
use super::target::{Target, TargetPolicy};
use crate::breaker::{Outcome, Ticket};
use crate::bulkhead::BulkheadPermit;
use crate::deadline::Deadline;

/// What of a request decides about its attempts.
pub(crate) struct Call<'call> {
    pub(crate) target: &'call Target,
    pub(crate) policy: &'call TargetPolicy,
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
    /// Whether circuits are asked, and told how it ended.
    pub(crate) judged: bool,
}

impl Call<'_> {
    pub(super) fn hedge(&self) -> Option<valerix_policy::Hedge> {
        self.policy.hedge.filter(|_| self.read && self.repeatable)
    }

    /// The time to connect; where there are other addresses, so much that one of them has time to answer.
    #[cfg(feature = "reqwest")]
    pub(super) fn connect_timeout(&self) -> Duration {
        let timeout = self.policy.timeout;
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
    #[cfg(feature = "reqwest")]
    pub(crate) connect_timeout: Duration,
    /// The address to connect to; none means the URL's host.
    pub(crate) address: Option<SocketAddr>,
}

/// Why an attempt has no answer.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// This address could not be reached.
    Connect(String),
    /// No address is to be reached, or none any longer.
    Cut {
        cause: String,
        sent: Sent,
    },
    Reset(String),
    /// Nothing that says anything about the target.
    Request {
        cause: String,
        sent: Sent,
    },
}

impl AttemptError {
    /// A request that never left this process.
    #[cfg(feature = "reqwest")]
    pub(crate) const fn unsent(cause: String) -> Self {
        let sent = Sent::Nothing;
        Self::Request { cause, sent }
    }
}

/// A final answer, with what must be held and known while its body is read.
pub(crate) struct Completed<R> {
    pub(crate) answer: R,
    pub(crate) outcome: Outcome,
    pub(crate) held: Held,
    pub(crate) ticket: Option<Ticket>,
    #[cfg(feature = "reqwest")]
    pub(crate) deadline: Deadline,
    /// Whether that is the target's own time: a body that it ends is a failure of the target.
    #[cfg(feature = "reqwest")]
    pub(crate) deadline_is_own: bool,
    /// Whether only the budget kept it from being repeated.
    pub(crate) unrepeated: bool,
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

/// What became of one attempt.
pub(super) enum AttemptResult<R> {
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
pub(super) enum Reply<R> {
    Answer {
        answer: R,
        repeat: Option<Repeat>,
    },
    Connect(String),
    /// Nobody was to be reached, whatever the address.
    Cut {
        cause: String,
        sent: Sent,
    },
    Reset(String),
    /// Never left this process, or not whole.
    Request {
        cause: String,
        sent: Sent,
    },
    TimedOut,
}

impl<R> Reply<R> {
    pub(super) const fn sent(&self) -> Sent {
        match self {
            Self::Connect(_) => Sent::Nothing,
            Self::Cut { sent, .. } | Self::Request { sent, .. } => *sent,
            Self::Answer { .. } | Self::Reset(_) | Self::TimedOut => Sent::Perhaps,
        }
    }
}

impl<R> AttemptResult<R> {
    /// No answer, and worth another attempt.
    pub(super) const fn failed(reason: &'static str, error: CallError) -> Self {
        Self::Repeat {
            failed: Failed::Error(error),
            after: None,
            reason,
        }
    }

    /// The same when all attempts that raced with it have ended: they may have sent something that it could not know of.
    pub(super) fn after(self, sent: Sent) -> Self {
        match self {
            Self::Final(Err(error)) => Self::Final(Err(error.after(sent))),
            Self::Repeat {
                failed: Failed::Error(error),
                after,
                reason,
            } => Self::Repeat {
                failed: Failed::Error(error.after(sent)),
                after,
                reason,
            },
            answered => answered,
        }
    }

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

impl<R> Failed<R> {
    pub(super) fn into_result(self) -> Result<Completed<R>, CallError> {
        match self {
            Self::Answer(completed) => Ok(completed),
            Self::Error(error) => Err(error),
        }
    }

    /// What it is when the budget allows no repetition: an answer is still an answer.
    pub(super) fn into_unrepeated(self, target: &Target) -> Result<Completed<R>, CallError> {
        match self {
            Self::Answer(completed) => Ok(Completed {
                unrepeated: true,
                ..completed
            }),
            Self::Error(error) => Err(CallError::BudgetExhausted {
                target: target.name().to_owned(),
                sent: error.sent(),
                cause: error.to_string(),
            }),
        }
    }
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
    /// What other attempts and waits left of the target's own `request` time, less than half of what the target has for
    /// a first attempt: says nothing about it either.
    Remainder,
    /// The target's own `request` or `attempt`.
    Own,
}

/// A call under way: what its attempts share.
pub(super) struct CallState<'call, J, F> {
    pub(super) call: Call<'call>,
    pub(super) judge: J,
    pub(super) send: F,
    pub(super) began: Instant,
    /// The target's own `request` time.
    own: Deadline,
    /// The earlier of that and the caller's deadline.
    pub(super) end: Deadline,
    /// Attempts begun, hedges left out.
    attempts: AtomicU32,
    hedges: AtomicU32,
    sent: AtomicBool,
    /// Addresses that did not do.
    tried: Mutex<Vec<SocketAddr>>,
}

impl<'call, J, F> CallState<'call, J, F> {
    pub(super) fn new(call: Call<'call>, judge: J, send: F) -> Self {
        let began = Instant::now();
        let own = Deadline::at(began + call.policy.timeout.request.get());
        let end = call.deadline.map_or(own, |deadline| deadline.min(own));
        Self {
            call,
            judge,
            send,
            began,
            own,
            end,
            attempts: AtomicU32::new(0),
            hedges: AtomicU32::new(0),
            sent: AtomicBool::new(false),
            tried: Mutex::new(Vec::new()),
        }
    }

    /// Attempts begun, hedges left out.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    pub(super) fn all_attempts(&self) -> u32 {
        self.attempts() + self.hedges.load(Ordering::Relaxed)
    }

    /// Counts an attempt that leaves. The first one pays into the budget, from which the others are taken.
    pub(super) fn begin_attempt(&self, kind: Kind) {
        match kind {
            Kind::Hedge => drop(self.hedges.fetch_add(1, Ordering::Relaxed)),
            Kind::Ordinary => {
                if self.attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                    self.call.target.budget.deposit();
                }
            }
        }
    }

    pub(super) fn sent(&self) -> Sent {
        if self.sent.load(Ordering::Relaxed) {
            Sent::Perhaps
        } else {
            Sent::Nothing
        }
    }

    pub(super) fn note_sent(&self, sent: Sent) {
        if sent.may_have_acted() {
            self.sent.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn tried(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> String {
        self.call.target.name().to_owned()
    }

    /// When an attempt that begins now ends, and whose time that is.
    pub(super) fn attempt_end(&self, now: Instant) -> (Instant, Bound) {
        let timeout = self.call.policy.timeout;
        let whole = timeout.attempt.get().min(timeout.request.get());
        let end = self.own.instant().min(now + timeout.attempt.get());
        match self.call.deadline {
            Some(deadline) if deadline.instant() < end => (deadline.instant(), Bound::Caller),
            _ if end.saturating_duration_since(now) < whole / 2 => (end, Bound::Remainder),
            _ => (end, Bound::Own),
        }
    }

    /// Whether an answer to an attempt of this bound whose body does not end in time has missed the target's own.
    #[cfg(feature = "reqwest")]
    pub(super) fn deadline_is_own(&self, bound: Bound) -> bool {
        bound != Bound::Remainder && self.end.instant() == self.own.instant()
    }

    pub(super) fn exceeded(&self) -> CallError {
        self.call.target.metrics.timeout("deadline");
        CallError::DeadlineExceeded {
            target: self.name(),
            elapsed: self.began.elapsed(),
            attempts: self.all_attempts(),
            sent: self.sent(),
        }
    }

    pub(super) fn circuit_open(&self, retry_after: Duration) -> CallError {
        self.call.target.counters.not_permitted.inc();
        CallError::CircuitOpen {
            target: self.name(),
            retry_after,
            sent: self.sent(),
        }
    }

    pub(super) fn overloaded(&self, limit: usize) -> CallError {
        CallError::Overloaded {
            target: self.name(),
            limit,
            sent: self.sent(),
        }
    }
}
