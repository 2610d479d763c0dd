//! The payment service and the real processor, on a real Postgres and Redis.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod access;
mod bad_input;
mod charges;
mod commands;
mod desk;
mod end;
mod list;
mod processors;
mod reconciliation;
mod slow;
mod store;
mod voids;
mod walk;
