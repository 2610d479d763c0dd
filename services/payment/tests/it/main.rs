//! The payment service and the real processor, on a real Postgres and Redis.

mod bad_input;
mod charges;
mod commands;
mod desk;
mod voids;
