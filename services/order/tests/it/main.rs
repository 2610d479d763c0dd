//! The order service with real inventory, payment and processor, each its own process with its own database, on a real
//! Postgres and Redis. Any of them can be killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod access;
mod bad_input;
mod campaigns;
mod changes;
mod end;
mod faults;
mod history;
mod orders;
mod overload;
mod owners;
mod probes;
mod saga;
mod shop;
mod store;
mod traces;
mod upgrade;
mod walk;
