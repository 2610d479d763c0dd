//! The Rust peers of `make bench`, each in its cheapest ordinary configuration with the thresholds of our default:
//! open at half of at least 20 calls, a window of 30 seconds where the peer has one at a bounded price.

#[path = "../../../measure/mod.rs"]
mod measure;
mod stack;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use failsafe::backoff;
use failsafe::failure_policy::{SuccessRateOverTimeWindow, success_rate_over_time_window};
use failsafe::{Config, StateMachine};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use measure::{Contender, Row, serve};

type Failsafe = StateMachine<SuccessRateOverTimeWindow<backoff::Constant>, ()>;

const HOUR: Duration = Duration::from_secs(3_600);

/// The success rate over 30 seconds alone: `Config::new()` adds consecutive failures, which costs more.
fn failsafe_closed() -> Failsafe {
    let policy = success_rate_over_time_window(0.5, 20, Duration::from_secs(30), backoff::constant(HOUR));
    Config::new().failure_policy(policy).build()
}

/// Opened by failures in a row: the rate needs a full window first. Refusing looks at the state only.
fn failsafe_open() -> StateMachine<failsafe::failure_policy::ConsecutiveFailures<backoff::Constant>, ()> {
    let policy = failsafe::failure_policy::consecutive_failures(1, backoff::constant(HOUR));
    let breaker = Config::new().failure_policy(policy).build();
    breaker.on_error();
    breaker
}

/// Permission and outcome, as our bench does it: cheaper than `call`, which does the same around a closure.
macro_rules! call {
    ($breaker:expr) => {
        if black_box(black_box($breaker).is_call_permitted()) {
            $breaker.on_success();
        }
    };
}

fn failsafe() -> Contender {
    let (closed, open, shared) = (failsafe_closed(), failsafe_open(), failsafe_closed());
    Contender {
        name: "failsafe",
        version: "1.3.0".to_owned(),
        rows: vec![
            Row::operations("breaker/closed", move |count| (0..count).for_each(|_| call!(&closed))),
            Row::operations("breaker/open", move |count| (0..count).for_each(|_| call!(&open))),
            Row::operations("breaker/two threads", move |count| {
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| (0..count / 2).for_each(|_| call!(&shared)));
                    }
                });
            }),
        ],
    }
}

fn quota() -> Quota {
    let most = NonZeroU32::new(1_000_000_000).expect("not zero");
    Quota::per_second(most).allow_burst(most)
}

/// Its defaults: the TSC clock of quanta, and DashMap for keys. It knows GCRA only, and is beside our Window too.
fn governor() -> Contender {
    let keys: Arc<[String]> = (0..10_000)
        .map(|key| format!("10.0.{}.{}", key / 250, key % 250))
        .collect();
    let names = [
        ["limit/GCRA", "limit/GCRA, two threads", "limit/GCRA, 10,000 keys"],
        ["limit/Window", "limit/Window, two threads", "limit/Window, 10,000 keys"],
    ];
    let rows = names.map(|[single, contended, keyed]| {
        let one: DefaultDirectRateLimiter = RateLimiter::direct(quota());
        let shared: DefaultDirectRateLimiter = RateLimiter::direct(quota());
        let many: DefaultKeyedRateLimiter<String> = RateLimiter::keyed(quota());
        let keys = Arc::clone(&keys);
        [
            Row::operations(single, move |count| {
                (0..count).for_each(|_| {
                    black_box(black_box(&one).check().is_ok());
                });
            }),
            Row::operations(contended, move |count| {
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            (0..count / 2).for_each(|_| {
                                black_box(black_box(&shared).check().is_ok());
                            });
                        });
                    }
                });
            }),
            Row::operations(keyed, move |count| {
                (0..count).zip(keys.iter().cycle()).for_each(|(_, key)| {
                    black_box(many.check_key(black_box(key)).is_ok());
                });
            }),
        ]
    });
    Contender {
        name: "governor",
        version: "0.10.4".to_owned(),
        rows: rows.into_iter().flatten().collect(),
    }
}

fn main() {
    serve(vec![failsafe(), stack::tower_resilience(), governor()]);
}
