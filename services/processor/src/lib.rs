//! A simulated card processor with a ledger of its own: one charge per key, and misbehaviour on purpose.
//!
//! [`misbehaviour`] decides which request goes wrong how, [`routes`] obeys it, [`store`] has every SQL statement. What
//! callers may rely on is written in the crate's README.

pub mod charge;
pub mod config;
pub mod misbehaviour;
pub mod routes;
pub mod startup;
pub mod store;
