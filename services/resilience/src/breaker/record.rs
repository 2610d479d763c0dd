//! What became of calls: the outcomes of calls and probes, the failures of bodies, and the transitions that follow.

use valerix_policy::CircuitState;

use super::circuit::{CircuitBreaker, Machine, Transition, millis};
use super::permit::{Outcome, Ticket};
use super::row::Cut;
use super::window::{Sample, Totals};
use super::word::Word;
use crate::clock::Clock;
use crate::sync::{MutexGuard, Ordering, lock};

impl<C: Clock> CircuitBreaker<C> {
    /// A result of a call begun in `generation` while closed.
    #[inline]
    pub(super) fn record(&self, generation: u32, began: u64, outcome: Outcome) -> Ticket {
        let word = Word(self.word.load(Ordering::Acquire));
        if !word.is_closed_in(generation) || outcome == Outcome::Neutral {
            return Ticket::NONE;
        }
        let now = self.clock.millis();
        let slow = now.saturating_sub(began) >= self.thresholds.slow_call_millis();
        let failure = outcome == Outcome::Failure;
        // What nearly every call is fits into its caller: a quick success after a success, over a time window.
        let plain = !failure && !slow && self.thresholds.window_calls() == 0;
        if plain && self.row.is_quiet() {
            self.time.add_plain(now, shard());
            Ticket::of_success(generation, Some(now), Cut::NONE)
        } else {
            self.record_sample(generation, now, Sample { failure, slow })
        }
    }

    #[inline(never)]
    fn record_sample(&self, generation: u32, now: u64, sample: Sample) -> Ticket {
        let place = if self.thresholds.window_calls() == 0 {
            self.time.add(now, shard(), sample);
            Some(now)
        } else {
            self.count.add(sample)
        };
        if sample.failure {
            self.count_failure(generation, now, Cut::NONE);
            return Ticket::NONE;
        }
        let cut = self.row.succeed();
        if sample.slow && self.rates_exceeded(now) {
            self.trip(generation, now);
        }
        Ticket::of_success(generation, place, cut)
    }

    /// A failure that the window already has: adds it to the row, and opens the circuit where that is enough.
    fn count_failure(&self, generation: u32, now: u64, cut: Cut) {
        let row = self.row.fail(cut);
        let limit = self.thresholds.consecutive_failures();
        if (limit > 0 && row >= limit) || self.rates_exceeded(now) {
            self.trip(generation, now);
        }
    }

    pub(super) fn totals(&self, now: u64) -> Totals {
        if self.thresholds.window_calls() == 0 {
            self.time.totals(now)
        } else {
            self.count.totals()
        }
    }

    #[cold]
    fn rates_exceeded(&self, now: u64) -> bool {
        let totals = self.totals(now);
        let reaches = |count: u64, percent: u32| count > 0 && count * 100 >= totals.calls * u64::from(percent);
        totals.calls >= u64::from(self.thresholds.minimum_requests())
            && (reaches(totals.failures, self.thresholds.failure_rate_percent())
                || reaches(totals.slow, self.thresholds.slow_call_rate_percent()))
    }

    #[cold]
    fn trip(&self, generation: u32, now: u64) {
        let mut machine = lock(&self.machine);
        let word = Word(self.word.load(Ordering::Acquire));
        if word.state() != CircuitState::Closed || word.generation() != generation {
            return;
        }
        let transition = self.reopen(&mut machine, word, now);
        drop(machine);
        self.tell(transition);
    }

    /// The outcome of a probe. A slow answer shows that the dependency is still unwell and counts as a failure.
    pub(super) fn record_probe(&self, generation: u32, number: u64, began: u64, outcome: Outcome) -> Ticket {
        let now = self.clock.millis();
        let slow = now.saturating_sub(began) >= self.thresholds.slow_call_millis();
        let overdue = now.saturating_sub(began) >= self.thresholds.half_open_timeout_millis();
        let mut machine = lock(&self.machine);
        let word = Word(self.word.load(Ordering::Acquire));
        if word.state() != CircuitState::HalfOpen || word.generation() != generation {
            return Ticket::NONE;
        }
        machine.probes.retain(|(probe, _)| *probe != number);
        let mut ticket = Ticket::NONE;
        let transition = match outcome {
            Outcome::Failure => Some(self.reopen(&mut machine, word, now)),
            _ if overdue => Some(self.reopen(&mut machine, word, now)),
            Outcome::Success if slow => Some(self.reopen(&mut machine, word, now)),
            Outcome::Success => {
                machine.successes += 1;
                let closed =
                    (machine.successes >= self.thresholds.half_open_permits()).then(|| self.close(&mut machine, word));
                // Of the state that it leads to: a body that breaks off speaks against that.
                let generation = Word(self.word.load(Ordering::Relaxed)).generation();
                ticket = Ticket::of_success(generation, None, Cut::NONE);
                closed
            }
            Outcome::Neutral => None,
        };
        drop(machine);
        if let Some(transition) = transition {
            self.tell(transition);
        }
        ticket
    }

    /// The body of an answer broke off after its head had counted as a success: that success becomes a failure. It is not
    /// one more call, and the row that it had cut off goes on.
    pub(super) fn correct(&self, ticket: Ticket) {
        let word = Word(self.word.load(Ordering::Acquire));
        if word.generation() != ticket.generation {
            return;
        }
        match word.state() {
            CircuitState::Closed => {
                let now = self.clock.millis();
                match ticket.place {
                    Some(place) if self.thresholds.window_calls() == 0 => self.time.turn_into_failure(place, now),
                    Some(place) => self.count.turn_into_failure(place),
                    None => {}
                }
                self.count_failure(ticket.generation, now, ticket.cut);
            }
            CircuitState::HalfOpen => {
                let mut machine = lock(&self.machine);
                let word = Word(self.word.load(Ordering::Acquire));
                if word.state() == CircuitState::HalfOpen && word.generation() == ticket.generation {
                    let transition = self.reopen(&mut machine, word, self.clock.millis());
                    drop(machine);
                    self.tell(transition);
                }
            }
            CircuitState::Open | CircuitState::Unknown => {}
        }
    }

    pub(super) fn reopen(&self, machine: &mut MutexGuard<'_, Machine>, word: Word, now: u64) -> Transition {
        machine.openings = machine.openings.saturating_add(1);
        machine.probes.clear();
        let base = self.thresholds.open_millis(machine.openings);
        let open_for = base + self.random.up_to(base / 2);
        let mut transition = self.enter(word, CircuitState::Open, now + open_for);
        transition.open_for = Some(millis(open_for));
        transition
    }

    pub(super) fn close(&self, machine: &mut MutexGuard<'_, Machine>, word: Word) -> Transition {
        machine.openings = 0;
        machine.probes.clear();
        // Before the word: no call of the new generation has begun yet.
        self.time.clear();
        self.count.clear();
        self.row.clear();
        self.enter(word, CircuitState::Closed, 0)
    }

    /// Every write of the word happens under the machine's lock.
    pub(super) fn enter(&self, word: Word, state: CircuitState, until: u64) -> Transition {
        self.word.store(word.next(state, until).0, Ordering::Release);
        Transition {
            from: word.state(),
            to: state,
            open_for: None,
        }
    }
}

/// The shard of this thread: threads take numbers as they come. Constant at first, so that reading it needs no check of
/// whether it was initialised.
#[inline]
fn shard() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    match SHARD.get() {
        usize::MAX => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            SHARD.set(number);
            number
        }
        number => number,
    }
}
