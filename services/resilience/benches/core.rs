//! What the hot paths cost: CPU nanoseconds per operation, rows interleaved, seven rounds, median with least and most.
//!
//! `cargo bench -p valerix-resilience --bench core` prints the table and writes `target/bench/resilience.json`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program for developers"
)]

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use valerix_resilience::policy::{self, LimitAlgorithm, Policy, Target};
use valerix_resilience::{CircuitBreaker, Clock, MonotonicClock, Outcome, Quota, RateLimiter, Resilience};

const ROUNDS: usize = 7;

struct Row {
    name: &'static str,
    bound: Option<f64>,
    operations: u64,
    run: Box<dyn Fn(u64)>,
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

fn call<C: Clock>(breaker: &CircuitBreaker<C>) {
    if let Ok(permit) = breaker.try_acquire() {
        black_box(permit.record(Outcome::Success));
    }
}

fn opened() -> CircuitBreaker {
    let breaker = CircuitBreaker::new(&policy::CircuitBreaker {
        open_duration: policy::Duration::from_secs(3_600),
        max_open_duration: policy::Duration::from_secs(3_600),
        ..Default::default()
    });
    while let Ok(permit) = breaker.try_acquire() {
        permit.record(Outcome::Failure);
    }
    breaker
}

fn row(name: &'static str, bound: Option<f64>, operations: u64, run: impl Fn(u64) + 'static) -> Row {
    Row {
        name,
        bound,
        operations,
        run: Box::new(run),
    }
}

fn limiter(algorithm: LimitAlgorithm) -> RateLimiter {
    RateLimiter::new(Quota {
        requests: 1_000_000,
        window: Duration::from_millis(1),
        burst: 1_000_000,
        algorithm,
    })
}

fn documents() -> [Vec<u8>; 2] {
    [1, 2].map(|variant| {
        let mut policy = Policy::default();
        for number in 0..100 {
            let mut target = Target::named(format!("target-{number}"));
            target.retry.max_attempts = variant;
            policy.targets.push(target);
        }
        policy.render().into_bytes()
    })
}

fn rows(resilience: &Resilience) -> Vec<Row> {
    let closed = CircuitBreaker::new(&policy::CircuitBreaker::default());
    let instant = CircuitBreaker::with_clock(&policy::CircuitBreaker::default(), MonotonicClock);
    let shared = std::sync::Arc::new(CircuitBreaker::new(&policy::CircuitBreaker::default()));
    let open = opened();
    let (gcra, window, keyed) = (
        limiter(LimitAlgorithm::GCRA),
        limiter(LimitAlgorithm::Window),
        limiter(LimitAlgorithm::GCRA),
    );
    let keys: Vec<u64> = (0..10_000).map(|key| keyed.number(&key.to_string())).collect();
    let faults = resilience.faults();
    let (reloaded, documents) = (resilience.clone(), documents());
    vec![
        row("breaker closed", Some(15.0), 5_000_000, move |count| {
            (0..count).for_each(|_| call(&closed));
        }),
        row("breaker closed, CLOCK_MONOTONIC", None, 5_000_000, move |count| {
            (0..count).for_each(|_| call(&instant));
        }),
        row("breaker open", Some(5.0), 5_000_000, move |count| {
            (0..count).for_each(|_| call(&open));
        }),
        row("breaker closed, two threads", Some(20.0), 5_000_000, move |count| {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..count / 2).for_each(|_| call(&shared)));
                }
            });
        }),
        row("limit GCRA, one key", None, 5_000_000, move |count| {
            (0..count).for_each(|_| {
                black_box(gcra.take_number(0));
            });
        }),
        row("limit Window, one key", None, 5_000_000, move |count| {
            (0..count).for_each(|_| {
                black_box(window.take_number(0));
            });
        }),
        row("limit GCRA, 10,000 keys", None, 2_000_000, move |count| {
            (0..count).zip(keys.iter().cycle()).for_each(|(_, key)| {
                black_box(keyed.take_number(*key));
            });
        }),
        row("fault branch, none active", Some(5.0), 20_000_000, move |count| {
            (0..count).for_each(|_| {
                black_box(faults.inbound(black_box("GET"), black_box("/")));
            });
        }),
        row("reload of 100 targets", Some(1_000_000.0), 100, move |count| {
            (0..count)
                .zip(documents.iter().cycle())
                .for_each(|(_, document)| reloaded.apply_policy(document).unwrap());
        }),
    ]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let resilience = runtime
        .block_on(Resilience::builder().service("bench").start())
        .unwrap();
    let rows = rows(&resilience);
    let mut measured = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter().zip(&mut measured) {
            (row.run)(row.operations / 10);
            let before = cpu();
            (row.run)(row.operations);
            times.push((cpu() - before).as_nanos() as f64 / row.operations as f64);
        }
    }
    let folder = std::path::Path::new("target/bench");
    std::fs::create_dir_all(folder).unwrap();
    let mut file = std::fs::File::create(folder.join("resilience.json")).unwrap();
    println!(
        "{:34} {:>12} {:>12} {:>12}  bound",
        "CPU ns per operation", "least", "median", "most"
    );
    for (row, times) in rows.iter().zip(&mut measured) {
        times.sort_by(f64::total_cmp);
        let (min, median, max) = (times[0], times[ROUNDS / 2], times[ROUNDS - 1]);
        let bound = row
            .bound
            .map_or_else(|| "-".to_owned(), |bound| format!("<= {bound} ns"));
        let holds = row.bound.is_none_or(|bound| median <= bound);
        let verdict = if holds { "" } else { "  NOT HELD" };
        println!("{:34} {min:12.1} {median:12.1} {max:12.1}  {bound}{verdict}", row.name);
        let line = serde_json::json!({
            "suite": "resilience", "row": row.name, "unit": "CPU ns/op",
            "ours": {"min": min, "median": median, "max": max}, "peers": [], "bound": bound, "holds": holds,
        });
        writeln!(file, "{line}").unwrap();
    }
}
