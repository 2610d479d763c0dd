//! The kit against a real Postgres and a real Redis.

mod events;
mod relay;
mod server;
mod support;
