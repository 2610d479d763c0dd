//! The kit against a real Postgres and a real Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod app;
mod boundaries;
mod events;
mod example;
mod gone;
mod identity;
mod limits;
mod linearizable;
mod lock;
mod losses;
mod lost;
mod parking;
mod relay;
mod restored;
mod sampling;
mod server;
mod slow_clients;
mod streams;
mod support;
mod vanishing;
mod walk;
mod windows;
