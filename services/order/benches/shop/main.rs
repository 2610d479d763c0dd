//! The shop as it is deployed, four services and their databases, beside PostgreSQL's own pgbench with the same commits and
//! beside the same saga in Node: what a payment and an order cost, how the path of events goes alone, under overload and
//! after a kill, and what a lock takes.
//!
//! Services, servers and load share the machine's cores. One run is one round: `make bench SUITE=shop` takes several,
//! starts a PostgreSQL that waits for the disk and a Redis (`TEST_DATABASE_URL`, `TEST_REDIS_URL`) and builds the Node peer
//! (`BENCH_NODE_SHOP`, its folder). Each of our services is this program started again. Prints one JSON object a row. In the
//! end of each measure the books have to add up.
#![allow(
    dead_code,
    missing_docs,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a program for developers, which uses a part of what the tests of the shop use"
)]

mod load;
mod measures;
mod node;
mod pgbench;
mod rows;
#[path = "../../tests/it/shop/mod.rs"]
mod shop;

use std::process::ExitCode;

use self::measures::Bench;

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(shop::ROLE) {
        shop::run_as(&role);
        return ExitCode::SUCCESS;
    }
    let bench = Bench::new(std::env::var_os("BENCH_QUICK").is_some());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        bench.payments().await;
        bench.orders().await;
        bench.events().await;
        bench.overload().await;
        bench.kills().await;
        bench.lock().await;
    });
    ExitCode::SUCCESS
}
