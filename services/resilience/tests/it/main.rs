//! The library against real servers on loopback, a real folder, and a real Postgres and Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod balancing;
mod client;
mod faults;
mod hedging;
mod idempotency;
mod limits;
mod outbound;
mod postgres;
mod reload;
mod report;
mod server;
mod shared_limits;
mod support;
