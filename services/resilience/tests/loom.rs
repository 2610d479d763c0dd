//! The breaker's own source, compiled against loom's atomics and tried in every interleaving of a few threads.
//!
//! The modules are taken in by path, so that nothing else of the workspace has to be compiled for loom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]

/// As `src/breaker/mod.rs` has it, but for its tests.
#[path = "../src/breaker"]
mod breaker {
    mod circuit;
    mod mask;
    mod owned;
    mod permit;
    mod record;
    mod row;
    mod thresholds;
    mod window;
    mod word;

    pub use self::circuit::{CircuitBreaker, Rejected, Snapshot, Transition};
    pub use self::owned::OwnedPermit;
    pub use self::permit::{Outcome, Permit, Ticket};
}
#[path = "../src/clock.rs"]
mod clock;
#[path = "../src/random.rs"]
mod random;

/// What `src/sync.rs` is outside of the model.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    /// As few as the window's arithmetic needs: each is a location of the model.
    pub(crate) const WINDOW_SLOTS: usize = 2;

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use valerix_policy::CircuitState;

use breaker::{CircuitBreaker, Outcome};
use clock::ManualClock;
use random::Random;

type Breaker = CircuitBreaker<ManualClock>;

fn breaker(consecutive: Option<u32>, minimum: u32, permits: u32) -> (Arc<Breaker>, ManualClock) {
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1));
    let settings = valerix_policy::CircuitBreaker {
        consecutive_failures: consecutive,
        minimum_requests: minimum,
        half_open_permits: permits,
        ..Default::default()
    };
    (
        Arc::new(Breaker::build(&settings, clock.clone(), Random::seeded(1), 2)),
        clock,
    )
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Runs `act` on two threads and on this one.
fn race(breaker: &Arc<Breaker>, act: fn(&Breaker)) {
    let other = {
        let breaker = Arc::clone(breaker);
        thread::spawn(move || act(&breaker))
    };
    act(breaker);
    other.join().unwrap();
}

fn fail(breaker: &Breaker) {
    if let Ok(permit) = breaker.try_acquire() {
        permit.record(Outcome::Failure);
    }
}

#[test]
fn of_two_racing_failures_one_sees_the_rate() {
    explore(|| {
        let (breaker, _) = breaker(None, 2, 1);
        let first = breaker.try_acquire().unwrap();
        let other = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || breaker.try_acquire().unwrap().record(Outcome::Failure))
        };
        first.record(Outcome::Failure);
        other.join().unwrap();
        assert_eq!(breaker.snapshot().machine, CircuitState::Open);
    });
}

/// Slow successes share no counter of failures in a row: only the fence lets one of them see both.
#[test]
fn of_two_racing_slow_calls_one_sees_the_rate() {
    explore(|| {
        let (breaker, clock) = breaker(None, 2, 1);
        let first = breaker.try_acquire().unwrap();
        let other = {
            let (breaker, clock) = (Arc::clone(&breaker), clock.clone());
            thread::spawn(move || {
                let second = breaker.try_acquire().unwrap();
                clock.advance(Duration::from_secs(5));
                second.record(Outcome::Success);
            })
        };
        clock.advance(Duration::from_secs(5));
        first.record(Outcome::Success);
        other.join().unwrap();
        assert_eq!(breaker.snapshot().machine, CircuitState::Open);
    });
}

#[test]
fn of_two_racing_failures_one_completes_the_row_and_only_one_trips() {
    explore(|| {
        let (breaker, _) = breaker(Some(2), 100, 1);
        let transitions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = transitions.clone();
        breaker.on_transition(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        fail(&breaker);
        race(&breaker, fail);
        assert_eq!(breaker.snapshot().machine, CircuitState::Open);
        assert_eq!(transitions.load(std::sync::atomic::Ordering::SeqCst), 1);
    });
}

/// Wherever the head of one comes between the head and the body of the other, the row of two is complete with both.
#[test]
fn of_two_racing_corrections_one_completes_the_row() {
    explore(|| {
        let (breaker, _) = breaker(Some(2), 100, 1);
        let broken = |breaker: &Breaker| {
            if let Ok(permit) = breaker.try_acquire() {
                permit.record(Outcome::Success).body_failed(breaker);
            }
        };
        race(&breaker, broken);
        assert_eq!(breaker.snapshot().machine, CircuitState::Open);
    });
}

#[test]
fn one_permit_means_one_probe() {
    explore(|| {
        let (breaker, clock) = breaker(Some(1), 100, 1);
        fail(&breaker);
        clock.advance(Duration::from_secs(15));
        let inside = Arc::new(AtomicUsize::new(0));
        let probe = |breaker: &Breaker, inside: &AtomicUsize| {
            if let Ok(permit) = breaker.try_acquire() {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two probes at a time");
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        };
        let other = {
            let (breaker, inside) = (Arc::clone(&breaker), Arc::clone(&inside));
            thread::spawn(move || probe(&breaker, &inside))
        };
        probe(&breaker, &inside);
        other.join().unwrap();
        assert_eq!(breaker.snapshot().machine, CircuitState::HalfOpen);
        assert!(
            breaker.try_acquire().is_ok(),
            "a place that was given back can be had again"
        );
    });
}

#[test]
fn a_late_answer_never_touches_the_next_state() {
    explore(|| {
        let (breaker, clock) = breaker(Some(1), 100, 1);
        let late = breaker.try_acquire().unwrap();
        fail(&breaker);
        clock.advance(Duration::from_secs(15));
        let other = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || {
                breaker
                    .try_acquire()
                    .map(|probe| probe.record(Outcome::Success))
                    .is_ok()
            })
        };
        late.record(Outcome::Failure);
        assert!(other.join().unwrap());
        assert_eq!(breaker.snapshot().machine, CircuitState::Closed);
    });
}
