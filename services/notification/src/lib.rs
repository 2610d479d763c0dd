//! Tells customers what became of their orders, by e-mail and SMS.
//!
//! Announcements come in by event ([`events`]) and become messages ([`message`]); the sweeper ([`sweeper`]) finds out where
//! they go ([`contacts`]) and delivers them ([`mail`]). [`store`] has every SQL statement. What callers may rely on is
//! written in the crate's README.

pub mod config;
pub mod contact;
pub mod contacts;
pub mod events;
pub mod mail;
pub mod message;
pub mod metrics;
pub mod routes;
pub mod startup;
pub mod store;
pub mod sweeper;
