//! The breaker beside a model of it in plain sequential code, over random operations: they must never differ.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use valerix_policy::{CircuitState, Window, WindowType};

use crate::breaker::{CircuitBreaker, Outcome, Permit, Ticket};
use crate::clock::{Clock, ManualClock};
use crate::random::Random;

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// The outcome of a permit held, by its place.
    Record(usize, Outcome),
    Drop(usize),
    /// The body of an answer breaks off, by the answer's place.
    BreakOff(usize),
    Advance(u64),
    Reconfigure(usize),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Failure),
        2 => Just(Outcome::Success),
        1 => Just(Outcome::Neutral),
    ];
    prop_oneof![
        6 => Just(Step::Acquire),
        6 => (0_usize..64, outcome).prop_map(|(place, outcome)| Step::Record(place, outcome)),
        1 => (0_usize..64).prop_map(Step::Drop),
        2 => (0_usize..64).prop_map(Step::BreakOff),
        2 => prop_oneof![0_u64..50, 0_u64..2_000, 0_u64..20_000].prop_map(Step::Advance),
        1 => (0_usize..3).prop_map(Step::Reconfigure),
    ]
    .prop_flat_map(|step| prop_oneof![99 => Just(step), 1 => Just(Step::Reset)])
}

/// Three sets of thresholds with the same window, so that reconfiguring keeps it.
fn settings(window: Window, variant: usize) -> valerix_policy::CircuitBreaker {
    let millis = valerix_policy::Duration::from_millis;
    valerix_policy::CircuitBreaker {
        consecutive_failures: [Some(4), None, Some(2)][variant],
        window,
        minimum_requests: [5, 3, 8][variant],
        failure_rate_percent: [50, 60, 100][variant],
        slow_call_duration: millis([500, 1_000, 200][variant]),
        slow_call_rate_percent: [100, 50, 80][variant],
        open_duration: millis([1_000, 300, 700][variant]),
        max_open_duration: millis([3_000, 300, 6_000][variant]),
        half_open_permits: [2, 1, 3][variant],
        half_open_timeout: millis([2_000, 600, 5_000][variant]),
        ..Default::default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Call {
    began: u64,
    generation: u64,
    probe: Option<u64>,
}

/// An answer with a good head: the state that its body speaks about, its call in the history, and the row that it cut.
#[derive(Clone, Copy, Debug)]
struct Head {
    generation: u64,
    call: Option<usize>,
    cut: Option<(u64, u32)>,
}

/// The rules of the design page, with nothing clever.
struct Model {
    settings: valerix_policy::CircuitBreaker,
    random: Random,
    state: CircuitState,
    generation: u64,
    until: u64,
    row: u32,
    /// Whether a success cut a row off and nothing confirmed it yet, and how many such cuts were confirmed.
    cut: bool,
    confirmed: u64,
    openings: u32,
    successes: u32,
    probes: Vec<(u64, u64)>,
    next_probe: u64,
    history: Vec<(u64, bool, bool)>,
}

impl Model {
    fn acquire(&mut self, now: u64) -> Option<Call> {
        if self.state == CircuitState::Open && now >= self.until {
            self.state = CircuitState::HalfOpen;
            self.generation += 1;
            self.successes = 0;
            self.probes.clear();
        } else if self.state == CircuitState::HalfOpen {
            let timeout = self.settings.half_open_timeout.as_millis();
            if self.probes.iter().any(|(_, began)| now - began >= timeout) {
                self.open(now);
            }
        }
        match self.state {
            CircuitState::Closed => Some(Call {
                began: now,
                generation: self.generation,
                probe: None,
            }),
            CircuitState::Open | CircuitState::Unknown => None,
            CircuitState::HalfOpen => {
                let taken = self.successes + u32::try_from(self.probes.len()).unwrap();
                (taken < self.settings.half_open_permits).then(|| {
                    self.next_probe += 1;
                    self.probes.push((self.next_probe, now));
                    Call {
                        began: now,
                        generation: self.generation,
                        probe: Some(self.next_probe),
                    }
                })
            }
        }
    }

    fn record(&mut self, call: Call, outcome: Outcome, now: u64) -> Option<Head> {
        if call.generation != self.generation {
            return None;
        }
        let slow = now - call.began >= self.settings.slow_call_duration.as_millis();
        let failure = outcome == Outcome::Failure;
        if let Some(number) = call.probe {
            self.probes.retain(|(probe, _)| *probe != number);
            let overdue = now - call.began >= self.settings.half_open_timeout.as_millis();
            if failure || overdue || (slow && outcome == Outcome::Success) {
                self.open(now);
                return None;
            }
            if outcome == Outcome::Neutral {
                return None;
            }
            self.successes += 1;
            self.close_if_enough();
            return Some(Head {
                generation: self.generation,
                call: None,
                cut: None,
            });
        }
        if outcome == Outcome::Neutral {
            return None;
        }
        self.history.push((now, failure, slow));
        if failure {
            self.fail(1, now);
            return None;
        }
        let head = Head {
            generation: self.generation,
            call: Some(self.history.len() - 1),
            cut: (self.row > 0).then_some((self.confirmed, self.row)),
        };
        if self.row > 0 {
            self.cut = true;
        } else if self.cut {
            self.cut = false;
            self.confirmed += 1;
        }
        self.row = 0;
        if slow && self.rates_exceeded(now) {
            self.open(now);
        }
        Some(head)
    }

    fn fail(&mut self, by: u32, now: u64) {
        self.row += by;
        let limit = self.settings.consecutive_failures;
        if limit.is_some_and(|limit| self.row >= limit) || self.rates_exceeded(now) {
            self.open(now);
        }
    }

    fn break_off(&mut self, head: Head, now: u64) {
        if head.generation != self.generation || self.state == CircuitState::Open {
            return;
        }
        if self.state == CircuitState::HalfOpen {
            return self.open(now);
        }
        if let Some(call) = head.call {
            self.history[call].1 = true;
        }
        let restored = head.cut.filter(|(confirmed, _)| *confirmed == self.confirmed);
        self.fail(1 + restored.map_or(0, |(_, row)| row), now);
    }

    fn close(&mut self) {
        self.state = CircuitState::Closed;
        self.generation += 1;
        (self.row, self.openings, self.cut, self.confirmed) = (0, 0, false, 0);
        self.probes.clear();
        self.history.clear();
    }

    fn close_if_enough(&mut self) {
        if self.state == CircuitState::HalfOpen && self.successes >= self.settings.half_open_permits {
            self.close();
        }
    }

    /// The state as it shows: half-open as soon as a probe may pass.
    fn shown(&self, now: u64) -> CircuitState {
        match self.state {
            CircuitState::Open if now >= self.until => CircuitState::HalfOpen,
            state => state,
        }
    }

    fn totals(&self, now: u64) -> (u64, u64, u64) {
        let window = self.settings.window;
        let counted: Vec<_> = match window.window_type {
            WindowType::Count => {
                let size = usize::try_from(window.calls()).unwrap();
                self.history[self.history.len().saturating_sub(size)..].to_vec()
            }
            WindowType::Time => {
                let millis = window.duration().as_millis();
                let mut slot = 1;
                while millis.div_ceil(slot) + 1 > 16 {
                    slot *= 2;
                }
                let slots = millis.div_ceil(slot) + 1;
                self.history
                    .iter()
                    .filter(|(at, ..)| at / slot + slots > now / slot)
                    .copied()
                    .collect()
            }
        };
        let count = |wanted: fn(&(u64, bool, bool)) -> bool| counted.iter().filter(|call| wanted(call)).count() as u64;
        (counted.len() as u64, count(|call| call.1), count(|call| call.2))
    }

    fn rates_exceeded(&self, now: u64) -> bool {
        let (calls, failures, slow) = self.totals(now);
        let reaches = |count: u64, percent: u32| count > 0 && count * 100 >= calls * u64::from(percent);
        calls >= u64::from(self.settings.minimum_requests)
            && (reaches(failures, self.settings.failure_rate_percent)
                || reaches(slow, self.settings.slow_call_rate_percent))
    }

    fn open(&mut self, now: u64) {
        self.openings += 1;
        let doubled = self.settings.open_duration.as_millis() << (self.openings - 1).min(32);
        let base = doubled.min(self.settings.max_open_duration.as_millis());
        self.state = CircuitState::Open;
        self.generation += 1;
        self.until = now + base + self.random.up_to(base / 2);
        self.probes.clear();
    }
}

fn agree(window: Window, seed: u64, steps: &[Step]) -> Result<usize, TestCaseError> {
    let clock = ManualClock::default();
    let first = settings(window, 0);
    let breaker = CircuitBreaker::build(&first, clock.clone(), Random::seeded(seed), 2);
    let mut model = Model {
        settings: first,
        random: Random::seeded(seed),
        state: CircuitState::Closed,
        generation: 0,
        until: 0,
        row: 0,
        cut: false,
        confirmed: 0,
        openings: 0,
        successes: 0,
        probes: Vec::new(),
        next_probe: 0,
        history: Vec::new(),
    };
    let mut held: Vec<(Permit<'_, ManualClock>, Call)> = Vec::new();
    let mut heads: Vec<(Ticket, Head)> = Vec::new();
    let mut transitions = 0;
    for step in steps {
        let now = clock.millis();
        let before = model.generation;
        match *step {
            Step::Acquire => match (breaker.try_acquire(), model.acquire(now)) {
                (Ok(permit), Some(call)) => held.push((permit, call)),
                (Err(rejected), None) => {
                    let expected = if model.state == CircuitState::Open {
                        model.until - now
                    } else {
                        0
                    };
                    prop_assert_eq!(rejected.retry_after, Duration::from_millis(expected));
                }
                (real, model) => prop_assert!(false, "acquire: breaker {real:?}, model {model:?}"),
            },
            Step::Record(place, outcome) if !held.is_empty() => {
                let (permit, call) = held.remove(place % held.len());
                let ticket = permit.record(outcome);
                match model.record(call, outcome, now) {
                    Some(head) => heads.push((ticket, head)),
                    // Whatever breaks off now, it counted already or not at all.
                    None => ticket.body_failed(&breaker),
                }
            }
            Step::BreakOff(place) if !heads.is_empty() => {
                let (ticket, head) = heads.swap_remove(place % heads.len());
                ticket.body_failed(&breaker);
                model.break_off(head, now);
            }
            Step::Reset => {
                breaker.reset();
                model.close();
            }
            Step::Drop(place) if !held.is_empty() => {
                let (permit, call) = held.remove(place % held.len());
                drop(permit);
                model.record(call, Outcome::Neutral, now);
            }
            Step::Advance(millis) => clock.advance(Duration::from_millis(millis)),
            Step::Reconfigure(variant) => {
                model.settings = settings(window, variant);
                breaker.reconfigure(&model.settings);
                model.close_if_enough();
            }
            Step::Record(..) | Step::Drop(_) | Step::BreakOff(_) => {}
        }
        transitions += usize::from(model.generation != before);
        let snapshot = breaker.snapshot();
        prop_assert_eq!(snapshot.state, model.shown(clock.millis()));
        let totals = model.totals(clock.millis());
        prop_assert_eq!((snapshot.calls, snapshot.failures, snapshot.slow), totals);
    }
    Ok(transitions)
}

fn windows() -> impl Strategy<Value = Window> {
    let time = prop_oneof![Just(1), Just(5), Just(30)]
        .prop_map(|secs| Window::time(valerix_policy::Duration::from_secs(secs)));
    prop_oneof![time, prop_oneof![Just(8_u32), Just(20)].prop_map(Window::count)]
}

/// `VALERIX_MODEL_CASES` sets how many histories of 200 steps are tried: 150 (30,000 steps) unless set, 50,000 for ten
/// million steps.
#[test]
fn breaker_and_model_never_differ() {
    let cases = std::env::var("VALERIX_MODEL_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(150);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let transitions = std::sync::atomic::AtomicUsize::new(0);
    let histories = (windows(), any::<u64>(), proptest::collection::vec(step(), 200));
    runner
        .run(&histories, |(window, seed, steps)| {
            let count = agree(window, seed, &steps)?;
            transitions.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    let transitions = transitions.into_inner();
    assert!(
        transitions > usize::try_from(cases).unwrap() * 5,
        "only {transitions} transitions were exercised"
    );
}
