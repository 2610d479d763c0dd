//! The console in front of an API server in memory, judged by what browsers and that API server see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod cluster;
mod commands;
mod page;
mod reports;
mod scale;
mod schema;
mod session;
mod stream;
mod support;
