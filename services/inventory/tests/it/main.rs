//! The inventory service against a real Postgres and a real Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod access;
mod app;
mod by_event;
mod by_http;
mod cancel;
mod chaos;
mod counts;
mod list;
mod walk;
