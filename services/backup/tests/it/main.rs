//! The runner against a real PostgreSQL, a real folder and a loopback server that knows the two calls it makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails loudly"
)]

mod api;
mod bucket;
mod crash;
mod damage;
mod discovery;
mod harness;
mod refusals;
mod restore;
mod retention;
mod round_trip;
mod store;
mod trial;
mod trust;
mod waiting;
