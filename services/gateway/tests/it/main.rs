//! The gateway in front of services that misbehave, judged by what each end sees.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod cors;
mod dashboard;
mod documents;
mod drain;
mod edge;
mod grpc;
mod https;
mod identity;
mod process;
mod protection;
mod reload;
mod smuggling;
mod streaming;
mod support;
mod tls;
mod upgrades;
