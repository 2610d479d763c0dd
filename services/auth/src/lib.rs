//! The auth service: who the shop's users are. README.md of the crate says what it promises.
//!
//! `routes` takes what users say; `account` holds it to its bounds, `passwords` hashes and compares, `lockout` slows
//! guessing down, `keys` signs the tokens that every service verifies by itself; `store` has every SQL statement,
//! `startup` puts the parts together.

pub mod account;
pub mod config;
pub mod events;
pub mod keys;
pub mod lockout;
pub mod metrics;
pub mod passwords;
pub mod routes;
pub mod startup;
pub mod store;
pub mod tokens;
