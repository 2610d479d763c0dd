//! The inventory service against a real Postgres and a real Redis.

mod app;
mod by_event;
mod by_http;
mod cancel;
