//! The order service: takes orders and brings each of them to an end. README.md of the crate says what it promises.
//!
//! `saga` is the table that decides, and knows nothing of the rest; `store` asks it and writes what it says. Inputs come from
//! `routes` by way of `drive`, the fast path over HTTP, and from `consumer`; who has to hear of a move does so by `moves`
//! and `waiters`. `sweeper` sends what was not answered, `startup` puts the parts together.

pub mod clients;
pub mod config;
pub mod consumer;
pub mod drive;
pub mod events;
pub mod keys;
pub mod metrics;
pub mod moves;
pub mod order;
pub mod routes;
pub mod saga;
pub mod startup;
pub mod store;
pub mod sweeper;
pub mod waiters;
