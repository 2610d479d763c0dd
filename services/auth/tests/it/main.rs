//! The service against a real Postgres and a real Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod access;
mod accounts;
mod app;
mod guessing;
mod keys;
mod logs;
mod sessions;
mod walk;
