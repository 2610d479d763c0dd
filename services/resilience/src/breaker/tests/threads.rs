//! The breaker under real threads: what must hold whatever the interleaving.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use valerix_policy::CircuitState;

use super::{opened, outlast_opening, state};
use crate::breaker::Outcome;

#[test]
fn a_thousand_callers_never_exceed_the_permits() {
    let (breaker, clock) = opened(&valerix_policy::CircuitBreaker::default());
    for _ in 0..20 {
        outlast_opening(&clock);
        clock.advance(Duration::from_secs(75));
        let (inside, most, passed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let gate = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (breaker, inside, most, passed, gate) = (&breaker, &inside, &most, &passed, &gate);
                scope.spawn(move || {
                    gate.wait();
                    for caller in 0..125 {
                        let Ok(permit) = breaker.try_acquire() else { continue };
                        if breaker.snapshot().machine == CircuitState::Closed {
                            continue;
                        }
                        passed.fetch_add(1, Ordering::SeqCst);
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        // Some are cancelled, one fails at the end.
                        if (thread + caller) % 3 == 0 {
                            drop(permit);
                        } else {
                            permit.record(Outcome::Neutral);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 5);
        assert!(passed.into_inner() > 0);
        assert_eq!(state(&breaker), CircuitState::HalfOpen);
        breaker.try_acquire().unwrap().record(Outcome::Failure);
        assert_eq!(state(&breaker), CircuitState::Open);
    }
}

#[test]
fn racing_failures_always_trip() {
    let settings = valerix_policy::CircuitBreaker {
        minimum_requests: 16,
        ..Default::default()
    };
    for _ in 0..200 {
        let (breaker, _) = super::breaker(&settings);
        let gate = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let permits: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
                    gate.wait();
                    for permit in permits {
                        permit.record(Outcome::Failure);
                    }
                });
            }
        });
        assert_eq!(
            state(&breaker),
            CircuitState::Open,
            "one of the last failures must have seen all sixteen"
        );
    }
}
