//! The runner against a real PostgreSQL, a real folder and a loopback server that knows the two calls it makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails loudly"
)]

mod api;
mod bucket;
mod campaigns;
mod clock;
mod crash;
mod damage;
mod deletion;
mod discovery;
mod encryption;
mod fence;
mod full;
mod gate;
mod harness;
mod memory;
mod parts;
mod real_store;
mod refusals;
mod restore;
mod retention;
mod room;
mod round_trip;
mod steps;
mod store;
mod trial;
mod trial_of_a_bucket;
mod trust;
mod waiting;
