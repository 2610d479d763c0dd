//! The notification service against a real Postgres and a real Redis, with a mail server and an auth of the tests' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod app;
mod auth;
mod by_mail;
mod contacts;
mod list;
mod smtp;
mod walk;
