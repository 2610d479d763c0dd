//! The payment service: takes the money of an order once. README.md of the crate says what it promises.
//!
//! `saga` is the table that decides, and knows nothing of the rest; `routes` and `consumer` bring order's wishes to it,
//! `settle` the processor's words; `store` writes what it says, `sweeper` asks the processor again. `books` says what agrees
//! with the processor's ledger, `reconciliation` compares. `startup` puts the parts together.

pub mod books;
pub mod config;
pub mod consumer;
pub mod events;
pub mod metrics;
pub mod payment;
pub mod processor;
pub mod reconciliation;
pub mod routes;
pub mod saga;
pub mod settle;
pub mod startup;
pub mod store;
pub mod sweeper;
