//! The guard and the gateway beside the proxies that people use in their place: what a request costs in CPU, what it adds in
//! time, what it holds in memory, and how it goes under overload and under change.
//!
//! Whoever is measured runs on a core of its own, load and backend on the others; contenders take turns. One run is one
//! round: `make bench SUITE=proxy` takes several, builds what is measured and says where it is (`BENCH_GUARD`,
//! `BENCH_GATEWAY`, `BENCH_NODE`). Prints one JSON object a row.
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
    runtime.block_on(async {
        bench.plain(&Rows).await;
        bench.edge(&Rows).await;
        bench.latency(&Rows).await;
        bench.memory(&Rows).await;
        bench.overload(&Rows).await;
        bench.changed_policy(&Rows).await;
        bench.many_routes(&Rows).await;
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
