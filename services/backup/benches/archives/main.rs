//! A backup, its upload, its way back and its trial, beside what a person would type for the same.
//!
//! One run is one round: `make bench SUITE=backup` takes several, and starts a PostgreSQL that waits for the disk and an S3
//! server (`TEST_DATABASE_URL`, `TEST_S3_ENDPOINT` and its kin; without the latter a small store in this process). The runner
//! is the program that this crate builds. Prints one JSON object a row. `BENCH_MEGABYTES` says how large the database is.
#![allow(
    dead_code,
    missing_docs,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a program for developers, which uses a part of what the tests of the runner use"
)]

#[path = "../../tests/it/api.rs"]
mod api;
mod by_hand;
#[path = "../../tests/it/gate.rs"]
mod gate;
#[path = "../../tests/it/harness.rs"]
mod harness;
mod measures;
#[path = "../../tests/it/restore/harness.rs"]
mod restoring;
#[path = "../../tests/it/room.rs"]
mod room;
#[path = "../../tests/it/steps.rs"]
mod steps;
#[path = "../../tests/it/store/mod.rs"]
mod store;
#[path = "../../tests/it/trial.rs"]
mod trial;

/// What a quick run takes. Unit: megabytes.
const QUICK: u64 = 200;
/// What one takes whose figures count.
const FULL: u64 = 2_000;

fn main() {
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let told = std::env::var("BENCH_MEGABYTES").ok();
    let megabytes = told.map_or(if quick { QUICK } else { FULL }, |told| told.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measures::all(megabytes));
}
