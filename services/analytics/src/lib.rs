//! What the shop sells, minute by minute: orders, revenue, conversion and how long orders take.
//!
//! Order's announcements come in by event ([`events`]), become sums per minute ([`facts`] says which, [`store`] keeps
//! them) and go out by [`routes`]. No producer knows of this service. What callers may rely on is written in the crate's
//! README.

pub mod config;
pub mod events;
pub mod facts;
pub mod latency;
pub mod routes;
pub mod startup;
pub mod store;
pub mod summary;
