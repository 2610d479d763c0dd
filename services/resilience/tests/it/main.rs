//! The library against real servers on loopback, a real folder, and a real Postgres and Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod balancing;
mod cancel;
mod client;
mod client_layer;
mod examples;
mod fault_effects;
mod fault_process;
mod fault_under_way;
mod faults;
mod half_open;
mod hedging;
mod idempotency;
mod kills;
mod layers;
mod limits;
mod outbound;
mod payments;
mod pipeline;
mod priority;
mod process;
mod reload;
mod reload_process;
mod report;
mod retrying;
mod server;
mod shared_limits;
mod support;
