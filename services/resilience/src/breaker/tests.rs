//! The breaker against tables, against a plain model of itself, and under threads.

mod bodies;
mod model;
mod threads;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use valerix_policy::{BreakerOverride, CircuitState, Mode, OverrideState, Window};

use super::*;
use crate::clock::ManualClock;

fn seconds(seconds: u64) -> valerix_policy::Duration {
    valerix_policy::Duration::from_secs(seconds)
}

fn breaker(settings: &valerix_policy::CircuitBreaker) -> (CircuitBreaker<ManualClock>, ManualClock) {
    let clock = ManualClock::default();
    (CircuitBreaker::with_clock(settings, clock.clone()), clock)
}

fn call(breaker: &CircuitBreaker<ManualClock>, outcome: Outcome) {
    breaker.try_acquire().unwrap().record(outcome);
}

fn state(breaker: &CircuitBreaker<ManualClock>) -> CircuitState {
    breaker.snapshot().state
}

/// Longer than any first opening with its jitter.
fn outlast_opening(clock: &ManualClock) {
    clock.advance(Duration::from_secs(15));
}

fn opened(settings: &valerix_policy::CircuitBreaker) -> (CircuitBreaker<ManualClock>, ManualClock) {
    let (breaker, clock) = breaker(settings);
    while state(&breaker) == CircuitState::Closed {
        call(&breaker, Outcome::Failure);
    }
    (breaker, clock)
}

#[test]
fn nineteen_failures_leave_it_closed_and_the_twentieth_opens_it() {
    let (breaker, _) = breaker(&valerix_policy::CircuitBreaker::default());
    for _ in 0..19 {
        call(&breaker, Outcome::Failure);
    }
    assert_eq!(state(&breaker), CircuitState::Closed);
    call(&breaker, Outcome::Failure);
    assert_eq!(state(&breaker), CircuitState::Open);
}

#[test]
fn three_in_a_row_open_it_and_a_success_between_does_not() {
    let settings = valerix_policy::CircuitBreaker {
        consecutive_failures: Some(3),
        ..Default::default()
    };
    let (breaker, _) = breaker(&settings);
    for outcome in [
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Failure,
        Outcome::Failure,
    ] {
        call(&breaker, outcome);
    }
    call(&breaker, Outcome::Neutral);
    assert_eq!(state(&breaker), CircuitState::Closed);
    call(&breaker, Outcome::Failure);
    assert_eq!(state(&breaker), CircuitState::Open);
}

#[test]
fn half_of_the_calls_must_fail() {
    for (failures, expected) in [(9, CircuitState::Closed), (10, CircuitState::Open)] {
        let (breaker, _) = breaker(&valerix_policy::CircuitBreaker::default());
        for _ in 0..20 - failures {
            call(&breaker, Outcome::Success);
        }
        for _ in 0..failures {
            call(&breaker, Outcome::Failure);
        }
        assert_eq!(state(&breaker), expected, "{failures} of 20");
    }
}

#[test]
fn failures_older_than_the_window_do_not_count() {
    let (breaker, clock) = breaker(&valerix_policy::CircuitBreaker::default());
    for _ in 0..19 {
        call(&breaker, Outcome::Failure);
    }
    clock.advance(Duration::from_secs(29));
    assert_eq!(breaker.snapshot().failures, 19, "still within 30 s");
    clock.advance(Duration::from_secs(4));
    assert_eq!(breaker.snapshot().calls, 0);
    call(&breaker, Outcome::Failure);
    assert_eq!(state(&breaker), CircuitState::Closed);
}

#[test]
fn a_count_window_forgets_by_calls_and_not_by_time() {
    let settings = valerix_policy::CircuitBreaker {
        window: Window::count(10),
        minimum_requests: 10,
        ..valerix_policy::CircuitBreaker::default()
    };
    let (breaker, clock) = breaker(&settings);
    for _ in 0..4 {
        call(&breaker, Outcome::Failure);
    }
    clock.advance(Duration::from_secs(3_600));
    for _ in 0..10 {
        call(&breaker, Outcome::Success);
    }
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failures), (10, 0));
    for _ in 0..5 {
        assert_eq!(state(&breaker), CircuitState::Closed);
        call(&breaker, Outcome::Failure);
    }
    assert_eq!(state(&breaker), CircuitState::Open);
}

#[test]
fn slow_calls_open_it_even_when_they_succeed() {
    let settings = valerix_policy::CircuitBreaker {
        minimum_requests: 5,
        ..Default::default()
    };
    let (breaker, clock) = breaker(&settings);
    for call in 0..5 {
        assert_eq!(state(&breaker), CircuitState::Closed, "after {call}");
        let permit = breaker.try_acquire().unwrap();
        clock.advance(Duration::from_secs(5));
        permit.record(Outcome::Success);
    }
    assert_eq!(state(&breaker), CircuitState::Open);
}

#[test]
fn each_opening_in_a_row_is_longer_and_jitter_only_lengthens() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    for base in [10_000, 20_000, 40_000, 60_000, 60_000] {
        let Err(Rejected { retry_after }) = breaker.try_acquire() else {
            panic!("must be open")
        };
        let millis = u64::try_from(retry_after.as_millis()).unwrap();
        assert!((base..=base * 3 / 2).contains(&millis), "{millis} for {base}");
        clock.advance(retry_after);
        call(&breaker, Outcome::Failure);
    }
}

#[test]
fn five_successful_probes_close_it_and_forget_the_past() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    outlast_opening(&clock);
    for _ in 0..5 {
        assert_ne!(state(&breaker), CircuitState::Closed);
        call(&breaker, Outcome::Success);
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (CircuitState::Closed, 0));
    for _ in 0..19 {
        call(&breaker, Outcome::Failure);
    }
    assert_eq!(state(&breaker), CircuitState::Closed);
}

#[test]
fn no_more_probes_than_permits_and_a_cancelled_one_gives_its_place_back() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    outlast_opening(&clock);
    let mut probes: Vec<_> = (0..5).map(|_| breaker.try_acquire().unwrap()).collect();
    assert!(breaker.try_acquire().is_err());
    drop(probes.pop());
    probes.push(breaker.try_acquire().unwrap());
    assert!(breaker.try_acquire().is_err());
    for probe in probes {
        probe.record(Outcome::Success);
    }
    assert_eq!(state(&breaker), CircuitState::Closed);
}

#[test]
fn hung_probes_never_wedge_it() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    outlast_opening(&clock);
    let hung: Vec<_> = (0..5).map(|_| breaker.try_acquire().unwrap()).collect();
    clock.advance(Duration::from_secs(30));
    assert!(breaker.try_acquire().is_err(), "the overdue probes are failures");
    assert_eq!(state(&breaker), CircuitState::Open);
    clock.advance(Duration::from_secs(30));
    let probe = breaker.try_acquire().unwrap();
    for late in hung {
        late.record(Outcome::Failure);
    }
    assert_eq!(
        state(&breaker),
        CircuitState::HalfOpen,
        "answers of the earlier half-open state are dropped"
    );
    probe.record(Outcome::Success);
}

#[test]
fn an_answer_from_before_the_trip_changes_nothing() {
    let (breaker, clock) = breaker(&valerix_policy::CircuitBreaker::default());
    let early: Vec<_> = (0..20).map(|_| breaker.try_acquire().unwrap()).collect();
    for _ in 0..20 {
        call(&breaker, Outcome::Failure);
    }
    outlast_opening(&clock);
    let probe = breaker.try_acquire().unwrap();
    for (index, permit) in early.into_iter().enumerate() {
        permit.record(if index % 2 == 0 {
            Outcome::Success
        } else {
            Outcome::Failure
        });
    }
    assert_eq!(state(&breaker), CircuitState::HalfOpen);
    probe.record(Outcome::Success);
    assert_eq!(state(&breaker), CircuitState::HalfOpen);
}

#[test]
fn a_circuit_whose_time_is_over_shows_half_open_although_nobody_calls() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    let next = breaker.snapshot().next_probe_in.unwrap();
    clock.advance(next - Duration::from_millis(1));
    assert_eq!(state(&breaker), CircuitState::Open);
    clock.advance(Duration::from_millis(1));
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.machine, snapshot.next_probe_in),
        (CircuitState::HalfOpen, CircuitState::HalfOpen, None)
    );
}

#[test]
fn a_reset_closes_it_forgets_the_past_and_calls_under_way() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    breaker.on_transition(move |transition| ear.lock().unwrap().push((transition.from, transition.to)));
    breaker.reset();
    assert_eq!((state(&breaker), breaker.snapshot().calls), (CircuitState::Closed, 0));
    let under_way = breaker.try_acquire().unwrap();
    call(&breaker, Outcome::Failure);
    breaker.reset();
    under_way.record(Outcome::Failure);
    assert_eq!(breaker.snapshot().calls, 0);
    assert_eq!(
        *heard.lock().unwrap(),
        [(CircuitState::Open, CircuitState::Closed)],
        "a closed circuit that is reset has made no transition"
    );
    while state(&breaker) == CircuitState::Closed {
        call(&breaker, Outcome::Failure);
    }
    let Err(Rejected { retry_after }) = breaker.try_acquire() else {
        panic!("must be open")
    };
    assert!(retry_after <= Duration::from_secs(15), "a first opening again");
    clock.advance(retry_after);
    breaker.try_acquire().unwrap().record(Outcome::Success);
}

#[test]
fn an_override_is_a_mask_with_an_end() {
    let (breaker, clock) = breaker(&valerix_policy::CircuitBreaker::default());
    let forced = |state| BreakerOverride {
        circuit_breaker: state,
        until: Utc::now() + TimeDelta::seconds(60),
    };
    breaker.set_override(Some((forced(OverrideState::ForcedOpen), Duration::from_secs(60))));
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after, Duration::from_secs(60));
    assert_eq!(
        (state(&breaker), breaker.snapshot().machine),
        (CircuitState::Open, CircuitState::Closed)
    );
    assert_eq!(breaker.override_state(), Some(OverrideState::ForcedOpen));
    clock.advance(Duration::from_secs(60));
    assert_eq!(breaker.override_state(), None);
    call(&breaker, Outcome::Success);

    breaker.set_override(Some((forced(OverrideState::ForcedClosed), Duration::from_secs(3))));
    for _ in 0..30 {
        call(&breaker, Outcome::Failure);
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.machine),
        (CircuitState::Closed, CircuitState::Open),
        "it goes on counting"
    );
    clock.advance(Duration::from_secs(3));
    assert!(
        breaker.try_acquire().is_err(),
        "what it counted holds when the mask is gone"
    );
    breaker.set_override(None);
    assert!(breaker.try_acquire().is_err());
}

#[test]
fn shadow_lets_pass_and_says_so_and_disabled_does_not_count() {
    let (breaker, _) = breaker(&valerix_policy::CircuitBreaker::default());
    breaker.set_mode(Mode::Shadow);
    for _ in 0..20 {
        call(&breaker, Outcome::Failure);
    }
    let permit = breaker.try_acquire().unwrap();
    assert!(permit.would_be_refused());
    drop(permit);
    breaker.set_mode(Mode::Enforce);
    assert!(breaker.try_acquire().is_err());
    breaker.set_mode(Mode::Disabled);
    let before = breaker.snapshot();
    call(&breaker, Outcome::Failure);
    assert_eq!(breaker.snapshot(), before);
}

#[test]
fn a_reload_keeps_state_and_window() {
    let mut settings = valerix_policy::CircuitBreaker::default();
    let (breaker, clock) = breaker(&settings);
    for _ in 0..19 {
        call(&breaker, Outcome::Failure);
    }
    settings.window = Window::time(seconds(120));
    breaker.reconfigure(&settings);
    assert_eq!(
        breaker.snapshot().failures,
        19,
        "a new window size keeps what was counted"
    );
    call(&breaker, Outcome::Failure);
    let Err(Rejected { retry_after }) = breaker.try_acquire() else {
        panic!("must be open")
    };
    settings.open_duration = seconds(1);
    for _ in 0..1_000 {
        breaker.reconfigure(&settings);
    }
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after, retry_after);
    clock.advance(retry_after);
    drop(breaker.try_acquire().unwrap());
}

#[test]
fn listeners_hear_of_each_transition_once() {
    let (breaker, clock) = breaker(&valerix_policy::CircuitBreaker::default());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    breaker.on_transition(move |transition| ear.lock().unwrap().push(transition.to));
    for _ in 0..20 {
        call(&breaker, Outcome::Failure);
    }
    outlast_opening(&clock);
    for _ in 0..5 {
        call(&breaker, Outcome::Success);
    }
    assert_eq!(
        *heard.lock().unwrap(),
        [CircuitState::Open, CircuitState::HalfOpen, CircuitState::Closed]
    );
}
