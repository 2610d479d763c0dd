//! Stock of the shop: how many pieces of an item there are, and which order holds how many of them.
//!
//! `order` asks by HTTP ([`routes`]) and by event ([`consumer`]); both end in [`commands`], where the rules are; [`store`]
//! has every SQL statement. What callers may rely on is written in the crate's README.

pub mod chaos;
pub mod commands;
pub mod config;
pub mod consumer;
pub mod events;
pub mod routes;
pub mod startup;
pub mod stock;
pub mod store;
