//! The guard and the gateway beside the proxies that people use in their place: what a request costs in CPU, what it adds in
//! time, what it holds in memory, and how it goes under overload and under change.
//!
//! Whoever is measured runs on a core of its own, load and backend on the others; contenders take turns. One run is one
//! round: `make bench SUITE=proxy` takes several, builds what is measured and says where it is (`BENCH_GUARD`,
//! `BENCH_GATEWAY`, `BENCH_NODE`). Prints one JSON object a row. Arguments name measures: plain, edge, latency, memory, overload,
//! policy, routes; without any all are made.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a program for developers"
)]

mod backend;
mod contenders;
mod load;
mod measures;
mod pacer;
mod subject;

use std::process::{Command, ExitCode};

use self::contenders::Tokens;
use self::measures::{Bench, Rows};

fn main() -> ExitCode {
    if std::env::var_os("BENCH_PINNED").is_none() && subject::has_taskset() {
        return beside_the_subject();
    }
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let tokens = Tokens::new();
    let backend = backend::start(tokens.keys.clone());
    let bench = Bench::new(backend, tokens, quick);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Names of measures, where not all of them are wanted; what begins with a dash is cargo's.
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    runtime.block_on(async {
        if wanted("plain") {
            bench.plain(&Rows).await;
        }
        if wanted("edge") {
            bench.edge(&Rows).await;
        }
        if wanted("latency") {
            bench.latency(&Rows).await;
        }
        if wanted("memory") {
            bench.memory(&Rows).await;
        }
        if wanted("overload") {
            bench.overload(&Rows).await;
        }
        if wanted("policy") {
            bench.changed_policy(&Rows).await;
        }
        if wanted("routes") {
            bench.many_routes(&Rows).await;
        }
    });
    ExitCode::SUCCESS
}

/// Runs this program once more, on all cores but the subject's.
fn beside_the_subject() -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let status = Command::new("taskset")
        .args(["-c", &format!("1-{}", cores - 1)])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env("BENCH_PINNED", "1")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
