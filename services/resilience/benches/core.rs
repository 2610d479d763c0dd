//! What the hot paths cost: the breaker, the local limit, the branch of faults. `make bench` runs it beside its peers.
//!
//! `cargo bench -p valerix-resilience --bench core` shows each figure once, in CPU nanoseconds per operation.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for developers"
)]

mod measure;

use std::alloc::System;
use std::convert::Infallible;
use std::fmt::Write;
use std::future::ready;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use measure::{Contender, Row, serve};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower::{Layer, Service, ServiceExt, service_fn};
use valerix_resilience::layers::CircuitBreakerLayer;
use valerix_resilience::policy::{self, LimitAlgorithm};
use valerix_resilience::{CircuitBreaker, Clock, MonotonicClock, Outcome, Quota, RateLimiter, Resilience};

/// Counts allocations, so that their absence is measured and not claimed.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FLOOD: &str = "--flood";

/// One call: permission, and its outcome told. What comes back is put in memory, but not copied there.
#[inline(always)]
fn call<C: Clock>(breaker: &CircuitBreaker<C>) {
    match black_box(breaker).try_acquire() {
        Ok(permit) => {
            black_box(&permit.record(black_box(Outcome::Success)));
        }
        Err(rejected) => {
            black_box(&rejected);
        }
    }
}

fn closed() -> CircuitBreaker {
    CircuitBreaker::new(&policy::CircuitBreaker::default())
}

fn opened<C: Clock>(clock: C) -> CircuitBreaker<C> {
    let hour = policy::Duration::from_secs(3_600);
    let settings = policy::CircuitBreaker {
        open_duration: hour,
        max_open_duration: hour,
        ..Default::default()
    };
    let breaker = CircuitBreaker::with_clock(&settings, clock);
    while let Ok(permit) = breaker.try_acquire() {
        permit.record(Outcome::Failure);
    }
    breaker
}

/// Calls through the breaker as a tower layer: readiness, call, answer.
fn layered<C: Clock + Send + Sync + 'static>(name: &'static str, breaker: CircuitBreaker<C>) -> Row {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let inner = service_fn(|(): ()| ready(Ok::<(), Infallible>(())));
    let mut service = CircuitBreakerLayer::of("bench", Arc::new(breaker)).layer(inner);
    Row::operations(name, move |count| {
        runtime.block_on(async {
            for _ in 0..count {
                let service = service.ready().await.unwrap();
                drop(black_box(service.call(()).await));
            }
        });
    })
}

fn breaker_rows() -> Vec<Row> {
    let (one, full) = (
        closed(),
        CircuitBreaker::with_clock(&policy::CircuitBreaker::default(), MonotonicClock),
    );
    let (open, open_full) = (opened(valerix_resilience::CoarseClock), opened(MonotonicClock));
    let shared = closed();
    let counted = [closed(), opened(valerix_resilience::CoarseClock)];
    vec![
        Row::operations("breaker/closed", move |count| (0..count).for_each(|_| call(&one))),
        Row::operations("breaker/closed, on Instant", move |count| {
            (0..count).for_each(|_| call(&full));
        }),
        Row::operations("breaker/open", move |count| (0..count).for_each(|_| call(&open))),
        Row::operations("breaker/open, on Instant", move |count| {
            (0..count).for_each(|_| call(&open_full));
        }),
        Row::operations("breaker/two threads", move |count| {
            on_two_threads(count, || call(&shared));
        }),
        layered("breaker/layer, closed", closed()),
        layered("breaker/layer, open", opened(valerix_resilience::CoarseClock)),
        layered(
            "breaker/layer, closed, on Instant",
            CircuitBreaker::with_clock(&policy::CircuitBreaker::default(), MonotonicClock),
        ),
        layered("breaker/layer, open, on Instant", opened(MonotonicClock)),
        Row::figure("breaker/allocations", move |_| {
            let before = ALLOCATOR.stats().allocations;
            for _ in 0..100_000 {
                counted.iter().for_each(call);
            }
            (ALLOCATOR.stats().allocations - before) as f64 / 200_000.0
        }),
    ]
}

/// Half of the operations on each of two threads.
fn on_two_threads(count: u64, operation: impl Fn() + Sync) {
    let operation = &operation;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || (0..count / 2).for_each(|_| operation()));
        }
    });
}

/// A limit that nobody reaches, on the numbers that its peers get.
fn limiter(algorithm: LimitAlgorithm) -> RateLimiter {
    RateLimiter::new(Quota {
        requests: 1_000_000_000,
        window: Duration::from_secs(1),
        burst: 1_000_000_000,
        algorithm,
    })
}

fn limit_rows() -> Vec<Row> {
    let keys: Arc<[String]> = (0..10_000)
        .map(|key| format!("10.0.{}.{}", key / 250, key % 250))
        .collect();
    let algorithms = [
        (
            LimitAlgorithm::GCRA,
            ["limit/GCRA", "limit/GCRA, two threads", "limit/GCRA, 10,000 keys"],
        ),
        (
            LimitAlgorithm::Window,
            ["limit/Window", "limit/Window, two threads", "limit/Window, 10,000 keys"],
        ),
    ];
    let rows = algorithms.map(|(algorithm, [single, contended, keyed])| {
        let (one, shared, many, keys) = (
            limiter(algorithm),
            limiter(algorithm),
            limiter(algorithm),
            Arc::clone(&keys),
        );
        let (number, shared_number) = (one.number(""), shared.number(""));
        [
            Row::operations(single, move |count| {
                (0..count).for_each(|_| {
                    black_box(&one.take_number(black_box(number)));
                });
            }),
            Row::operations(contended, move |count| {
                on_two_threads(count, || {
                    black_box(&shared.take_number(black_box(shared_number)));
                });
            }),
            Row::operations(keyed, move |count| {
                (0..count).zip(keys.iter().cycle()).for_each(|(_, key)| {
                    black_box(&many.take(black_box(key)));
                });
            }),
        ]
    });
    rows.into_iter().flatten().collect()
}

/// A flood of keys that are never seen again, in a process of its own, because memory that was freed is not given back.
/// The largest levels, and none that comes to rest: a Window of many requests in a long time.
fn flood() {
    let limiter = RateLimiter::new(Quota {
        requests: 200,
        window: Duration::from_secs(600),
        burst: 1,
        algorithm: LimitAlgorithm::Window,
    });
    let before = resident();
    let mut key = String::new();
    for number in 0..10_000_000_u32 {
        key.clear();
        write!(key, "key-{number}").unwrap();
        black_box(limiter.take(&key));
    }
    println!("{} {}", limiter.live_keys(), resident().saturating_sub(before));
}

/// Bytes in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn flood_rows() -> Vec<Row> {
    let figure = |place: usize| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--bench", FLOOD])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().nth(place).unwrap().parse::<f64>().unwrap()
    };
    vec![
        Row::figure("limit/live keys of 10 million", move |_| figure(0)),
        Row::figure("limit/growth under 10 million keys", move |_| {
            figure(1) / f64::from(1 << 20)
        }),
    ]
}

fn fault_rows(resilience: &Resilience) -> Vec<Row> {
    let faults = resilience.faults();
    vec![Row::operations(
        "outbound/fault branch of the server, off",
        move |count| {
            (0..count).for_each(|_| {
                black_box(faults.inbound(black_box("GET"), black_box("/")));
            });
        },
    )]
}

fn main() {
    // Under `cargo test` there is nothing to do.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if std::env::args().any(|argument| argument == FLOOD) {
        return flood();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let resilience = runtime
        .block_on(Resilience::builder().service("bench").start())
        .unwrap();
    let mut rows = breaker_rows();
    rows.extend(limit_rows());
    rows.extend(flood_rows());
    rows.extend(fault_rows(&resilience));
    serve(vec![Contender {
        name: "valerix",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rows,
    }]);
}
