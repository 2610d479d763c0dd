//! The way back against a real PostgreSQL: what comes out is what went in, and until it is, nothing that is there changes.

mod autovacuum;
mod bound;
mod damaged;
mod extension;
pub mod harness;
mod heir;
mod killed;
pub mod new;
mod replace;
mod server;
