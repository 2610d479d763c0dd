//! The circuit itself: permission asked before each call, settings, masks, and what it looks like from outside.

use std::fmt;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use valerix_policy::{BreakerOverride, CircuitState, Mode};

use super::mask::{Gate, Mask};
use super::permit::Permit;
use super::row::Row;
use super::thresholds::Thresholds;
use super::window::{CountWindow, TimeWindow};
use super::word::Word;
use crate::clock::{Clock, CoarseClock};
use crate::random::Random;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// A call was not permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit open, next probe in {} ms", retry_after.as_millis())]
pub struct Rejected {
    /// Time until a probe may pass; zero when probes are already under way.
    pub retry_after: Duration,
}

/// A change of state, handed to listeners after it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: CircuitState,
    /// The state entered.
    pub to: CircuitState,
    /// How long the circuit stays open, when it opened.
    pub open_for: Option<Duration>,
}

impl Transition {
    /// Tells one listener. Neither whose call or whose reload this is nor the listeners after it must end by its panic.
    pub(crate) fn tell(&self, listener: impl FnOnce()) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(listener)).is_err() {
            tracing::error!(to = self.to.as_str(), "a listener of a circuit panicked");
        }
    }
}

/// What a breaker looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The state that callers meet, an override included: half-open as soon as a probe may pass.
    pub state: CircuitState,
    /// The state of the machine behind an override.
    pub machine: CircuitState,
    /// Calls in the window.
    pub calls: u64,
    /// Failed calls in the window.
    pub failures: u64,
    /// Slow calls in the window.
    pub slow: u64,
    /// Time until the next probe, while open.
    pub next_probe_in: Option<Duration>,
}

type Listener = std::sync::Arc<dyn Fn(Transition) + Send + Sync>;

/// One circuit.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::{CircuitBreaker, ManualClock, Outcome, policy};
///
/// let clock = ManualClock::default();
/// let settings = policy::CircuitBreaker { consecutive_failures: Some(3), ..Default::default() };
/// let breaker = CircuitBreaker::with_clock(&settings, clock.clone());
/// for _ in 0..3 {
///     breaker.try_acquire()?.record(Outcome::Failure);
/// }
/// assert!(breaker.try_acquire().is_err());
/// clock.advance(Duration::from_secs(16));
/// breaker.try_acquire()?.record(Outcome::Success);
/// # Ok::<(), valerix_resilience::Rejected>(())
/// ```
pub struct CircuitBreaker<C: Clock = CoarseClock> {
    pub(super) word: CachePadded<AtomicU64>,
    pub(super) row: CachePadded<Row>,
    pub(super) gate: Gate,
    pub(super) thresholds: Thresholds,
    pub(super) time: TimeWindow,
    pub(super) count: CountWindow,
    pub(super) machine: Mutex<Machine>,
    pub(super) random: Random,
    pub(super) clock: C,
    listeners: std::sync::RwLock<Vec<Listener>>,
}

/// What only transitions and probes touch.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Openings in a row.
    pub(super) openings: u32,
    /// Probes that succeeded since the circuit became half-open.
    pub(super) successes: u32,
    /// When each probe under way began, by its number.
    pub(super) probes: Vec<(u64, u64)>,
    next_probe: u64,
}

impl CircuitBreaker<CoarseClock> {
    /// A closed breaker on the coarse monotonic clock.
    #[must_use]
    pub fn new(settings: &valerix_policy::CircuitBreaker) -> Self {
        Self::with_clock(settings, CoarseClock)
    }
}

impl<C: Clock> CircuitBreaker<C> {
    /// A closed breaker on a clock of one's own.
    #[must_use]
    pub fn with_clock(settings: &valerix_policy::CircuitBreaker, clock: C) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, |count| count.get().next_power_of_two().min(16));
        Self::build(settings, clock, Random::from_entropy(), shards)
    }

    pub(crate) fn build(settings: &valerix_policy::CircuitBreaker, clock: C, random: Random, shards: usize) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(Word::INITIAL.0)),
            row: CachePadded::new(Row::new()),
            gate: Gate::default(),
            thresholds: Thresholds::new(settings),
            time: TimeWindow::new(settings.window.duration().as_millis(), shards),
            count: CountWindow::new(count_size(settings)),
            machine: Mutex::new(Machine::default()),
            random,
            clock,
            listeners: std::sync::RwLock::default(),
        }
    }

    /// Calls `listener` after every transition, on the thread that caused it, without a lock held. One that panics is
    /// logged and passed over.
    pub fn on_transition(&self, listener: impl Fn(Transition) + Send + Sync + 'static) {
        let mut listeners = self
            .listeners
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        listeners.push(std::sync::Arc::new(listener));
    }

    /// Asks for one call. The permit must be told the outcome; dropped, it counts as neutral.
    ///
    /// # Errors
    /// When the circuit is open, or half-open with all probes taken.
    #[inline(always)]
    pub fn try_acquire(&self) -> Result<Permit<'_, C>, Rejected> {
        let now = self.clock.millis();
        // What nearly every call meets fits into its caller: no mask, and closed or open.
        if self.gate.is_set() {
            return self.acquire_masked(now);
        }
        self.acquire(now)
    }

    #[cold]
    fn acquire_masked(&self, now: u64) -> Result<Permit<'_, C>, Rejected> {
        match self.gate.mask(now) {
            Mask::None => self.acquire(now),
            Mask::ForcedOpen { left } => Err(Rejected {
                retry_after: Duration::from_millis(left),
            }),
            // The machine goes on counting what it would have let pass.
            Mask::PassAll => Ok(self.acquire(now).unwrap_or_else(|_| Permit::uncounted(self, now, true))),
            Mask::Off => Ok(Permit::uncounted(self, now, false)),
        }
    }

    #[inline]
    fn acquire(&self, now: u64) -> Result<Permit<'_, C>, Rejected> {
        let word = Word(self.word.load(Ordering::Acquire));
        match word.state() {
            CircuitState::Closed | CircuitState::Unknown => Ok(Permit::closed(self, now, word.generation())),
            CircuitState::Open if now < word.until() => Err(Rejected {
                retry_after: millis(word.until() - now),
            }),
            CircuitState::Open | CircuitState::HalfOpen => self.acquire_probe(now),
        }
    }

    #[cold]
    fn acquire_probe(&self, now: u64) -> Result<Permit<'_, C>, Rejected> {
        let mut machine = lock(&self.machine);
        let word = Word(self.word.load(Ordering::Acquire));
        let entered = match word.state() {
            CircuitState::Closed | CircuitState::Unknown => {
                return Ok(Permit::closed(self, now, word.generation()));
            }
            CircuitState::Open if now < word.until() => {
                return Err(Rejected {
                    retry_after: millis(word.until() - now),
                });
            }
            CircuitState::Open => {
                machine.successes = 0;
                machine.probes.clear();
                Some(self.enter(word, CircuitState::HalfOpen, 0))
            }
            CircuitState::HalfOpen => {
                let timeout = self.thresholds.half_open_timeout_millis();
                if machine
                    .probes
                    .iter()
                    .any(|(_, began)| now.saturating_sub(*began) >= timeout)
                {
                    let transition = self.reopen(&mut machine, word, now);
                    drop(machine);
                    self.tell(transition);
                    return Err(Rejected {
                        retry_after: transition.open_for.unwrap_or_default(),
                    });
                }
                None
            }
        };
        let taken = machine
            .successes
            .saturating_add(u32::try_from(machine.probes.len()).unwrap_or(u32::MAX));
        let permit = if taken < self.thresholds.half_open_permits() {
            let number = machine.next_probe;
            machine.next_probe += 1;
            machine.probes.push((number, now));
            let generation = Word(self.word.load(Ordering::Relaxed)).generation();
            Ok(Permit::probe(self, now, generation, number))
        } else {
            Err(Rejected {
                retry_after: Duration::ZERO,
            })
        };
        drop(machine);
        if let Some(transition) = entered {
            self.tell(transition);
        }
        permit
    }

    pub(super) fn tell(&self, transition: Transition) {
        let listeners = self.listeners.read();
        let listeners = listeners.unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        for listener in listeners {
            transition.tell(|| listener(transition));
        }
    }

    /// Takes new thresholds. State, openings and, where the window keeps its kind, its calls are kept.
    pub fn reconfigure(&self, settings: &valerix_policy::CircuitBreaker) {
        let mut machine = lock(&self.machine);
        self.time
            .resize(self.clock.millis(), settings.window.duration().as_millis());
        self.count.resize(count_size(settings));
        self.thresholds.store(settings);
        // Where the successes so far are enough by the new settings, no further probe would ever be let in to tell.
        let word = Word(self.word.load(Ordering::Acquire));
        let enough =
            word.state() == CircuitState::HalfOpen && machine.successes >= self.thresholds.half_open_permits().max(1);
        let transition = enough.then(|| self.close(&mut machine, word));
        drop(machine);
        if let Some(transition) = transition {
            self.tell(transition);
        }
    }

    /// Sets the policy's mode: `Shadow` lets pass what it would refuse, `Disabled` stops counting too.
    pub fn set_mode(&self, mode: Mode) {
        self.gate.set_mode(mode);
    }

    /// Holds the circuit open or closed for `left`, beside the machine; `None` lifts it.
    pub fn set_override(&self, state: Option<(BreakerOverride, Duration)>) {
        let now = self.clock.millis();
        self.gate.set_override(state.map(|(wanted, left)| {
            (
                wanted.circuit_breaker,
                now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            )
        }));
    }

    /// The override in force.
    #[must_use]
    pub fn override_state(&self) -> Option<valerix_policy::OverrideState> {
        self.gate.override_state(self.clock.millis())
    }

    /// Closes the circuit by hand and forgets what it counted; calls under way count no more. An override stays.
    ///
    /// ```
    /// use valerix_resilience::{CircuitBreaker, Outcome, policy};
    ///
    /// let settings = policy::CircuitBreaker { consecutive_failures: Some(1), ..Default::default() };
    /// let breaker = CircuitBreaker::new(&settings);
    /// breaker.try_acquire()?.record(Outcome::Failure);
    /// assert!(breaker.try_acquire().is_err());
    /// breaker.reset();
    /// assert!(breaker.try_acquire().is_ok());
    /// # Ok::<(), valerix_resilience::Rejected>(())
    /// ```
    pub fn reset(&self) {
        let mut machine = lock(&self.machine);
        let word = Word(self.word.load(Ordering::Acquire));
        let transition = self.close(&mut machine, word);
        drop(machine);
        if transition.from != transition.to {
            self.tell(transition);
        }
    }

    /// State and window, for reports and metrics.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.clock.millis();
        let word = Word(self.word.load(Ordering::Acquire));
        // Only a call makes the machine half-open; who looks is told what a call would meet.
        let machine = match word.state() {
            CircuitState::Open if now >= word.until() => CircuitState::HalfOpen,
            state => state,
        };
        let (state, next_probe_in) = match self.gate.mask(now) {
            Mask::ForcedOpen { left } => (CircuitState::Open, Some(millis(left))),
            Mask::PassAll if self.gate.override_state(now).is_some() => (CircuitState::Closed, None),
            _ if machine == CircuitState::Open => (machine, Some(millis(word.until() - now))),
            _ => (machine, None),
        };
        let totals = self.totals(now);
        Snapshot {
            state,
            machine,
            calls: totals.calls,
            failures: totals.failures,
            slow: totals.slow,
            next_probe_in,
        }
    }
}

impl<C: Clock> fmt::Debug for CircuitBreaker<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CircuitBreaker")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn count_size(settings: &valerix_policy::CircuitBreaker) -> u32 {
    if settings.window.window_type == valerix_policy::WindowType::Count {
        settings.window.calls()
    } else {
        0
    }
}
