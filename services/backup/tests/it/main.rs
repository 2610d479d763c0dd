//! The runner against a real PostgreSQL, a real folder and a loopback server that knows the two calls it makes.

mod api;
mod crash;
mod damage;
mod harness;
mod refusals;
mod round_trip;
