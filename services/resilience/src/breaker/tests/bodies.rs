//! Answers whose heads were good and whose bodies broke off.

use std::time::Duration;

use valerix_policy::{CircuitState, Window};

use super::super::*;
use super::{breaker, call, opened, outlast_opening, seconds, state};
use crate::clock::ManualClock;

#[test]
fn a_body_that_breaks_off_is_a_failure() {
    let settings = valerix_policy::CircuitBreaker {
        consecutive_failures: Some(2),
        ..Default::default()
    };
    let (breaker, _) = breaker(&settings);
    // The heads of both calls come before the bodies break off.
    let tickets: Vec<_> = (0..2)
        .map(|_| breaker.try_acquire().unwrap().record(Outcome::Success))
        .collect();
    for ticket in tickets {
        assert_eq!(state(&breaker), CircuitState::Closed);
        ticket.body_failed(&breaker);
    }
    assert_eq!(state(&breaker), CircuitState::Open);
}

/// One call with a good head and a body that breaks off.
fn break_off(breaker: &CircuitBreaker<ManualClock>) {
    let ticket = breaker.try_acquire().unwrap().record(Outcome::Success);
    ticket.body_failed(breaker);
}

#[test]
fn bodies_that_break_off_one_after_the_other_complete_the_row() {
    for window in [Window::default(), Window::count(50)] {
        let settings = valerix_policy::CircuitBreaker {
            consecutive_failures: Some(3),
            window,
            ..Default::default()
        };
        let (breaker, _) = breaker(&settings);
        break_off(&breaker);
        break_off(&breaker);
        assert_eq!(state(&breaker), CircuitState::Closed);
        break_off(&breaker);
        assert_eq!(state(&breaker), CircuitState::Open);
    }
}

#[test]
fn a_body_that_breaks_off_is_the_same_call_and_a_whole_failure() {
    for window in [Window::default(), Window::count(50)] {
        let settings = valerix_policy::CircuitBreaker {
            failure_rate_percent: 100,
            window,
            ..Default::default()
        };
        let (breaker, _) = breaker(&settings);
        for calls in 1..20 {
            break_off(&breaker);
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.calls, snapshot.failures), (calls, calls));
            assert_eq!(snapshot.state, CircuitState::Closed);
        }
        break_off(&breaker);
        assert_eq!(state(&breaker), CircuitState::Open, "twenty of twenty");
    }
}

#[test]
fn a_failed_head_does_not_count_again_when_its_body_breaks_off() {
    let (breaker, _) = breaker(&valerix_policy::CircuitBreaker::default());
    for outcome in [Outcome::Failure, Outcome::Neutral] {
        breaker.try_acquire().unwrap().record(outcome).body_failed(&breaker);
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (1, 1));
}

/// A long download breaks off: the failures that came before its head are long since answered for by other successes.
#[test]
fn a_body_that_breaks_off_late_brings_no_old_row_back() {
    let settings = valerix_policy::CircuitBreaker {
        consecutive_failures: Some(3),
        minimum_requests: 1_000,
        ..Default::default()
    };
    let (breaker, clock) = breaker(&settings);
    call(&breaker, Outcome::Failure);
    call(&breaker, Outcome::Failure);
    let long = breaker.try_acquire().unwrap().record(Outcome::Success);
    call(&breaker, Outcome::Success);
    call(&breaker, Outcome::Success);
    long.body_failed(&breaker);
    assert_eq!(state(&breaker), CircuitState::Closed);
    call(&breaker, Outcome::Failure);
    assert_eq!(state(&breaker), CircuitState::Closed, "a row of two");
    call(&breaker, Outcome::Failure);
    assert_eq!(state(&breaker), CircuitState::Open);

    breaker.reset();
    let older = breaker.try_acquire().unwrap().record(Outcome::Success);
    clock.advance(Duration::from_secs(60));
    older.body_failed(&breaker);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (0, 0), "it has left the window");
}

#[test]
fn the_body_of_the_probe_that_closed_it_speaks_against_the_closed_circuit() {
    let settings = valerix_policy::CircuitBreaker {
        consecutive_failures: Some(1),
        half_open_permits: 1,
        ..Default::default()
    };
    let (breaker, clock) = opened(&settings);
    outlast_opening(&clock);
    let ticket = breaker.try_acquire().unwrap().record(Outcome::Success);
    assert_eq!(state(&breaker), CircuitState::Closed);
    ticket.body_failed(&breaker);
    assert_eq!(state(&breaker), CircuitState::Open);
}
