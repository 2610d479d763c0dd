//! A guard between real sockets: an application of the test's behind it, targets of the test's in front of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod bounds;
mod drain;
mod faults;
mod forward_proxy;
mod grpc;
mod hostile;
mod http;
mod https;
mod idempotency;
mod memory;
mod process;
mod reload;
mod support;
mod targets;
mod tcp;
mod traces;
