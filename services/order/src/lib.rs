//! The order service: takes orders and brings each of them to an end. README.md of the crate says what it promises.
//!
//! `saga::state` is the table that decides; `routes` and `consumer` bring inputs to it, `store` writes what it says,
//! `sweeper` sends what was not answered, `startup` puts the parts together.

pub mod clients;
pub mod config;
pub mod consumer;
pub mod events;
pub mod keys;
pub mod metrics;
pub mod order;
pub mod routes;
pub mod saga;
pub mod startup;
pub mod store;
pub mod sweeper;
