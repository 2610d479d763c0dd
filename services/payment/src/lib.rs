//! The payment service: takes the money of an order once. README.md of the crate says what it promises.
//!
//! `saga::state` is the table that decides; `routes` and `consumer` bring order's wishes to it, `saga::settle` the
//! processor's words; `store` writes what it says, `sweeper` asks the processor again, `startup` puts the parts together.

pub mod config;
pub mod consumer;
pub mod events;
pub mod metrics;
pub mod payment;
pub mod processor;
pub mod reconciliation;
pub mod routes;
pub mod saga;
pub mod startup;
pub mod store;
pub mod sweeper;
