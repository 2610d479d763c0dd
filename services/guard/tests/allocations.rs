//! How often memory is asked for on behalf of a request. A program of its own: what other tests take would count too.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking, and here are those of others too"
)]

#[path = "it/support.rs"]
mod support;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::Setup;
use valerix_policy::Policy;
use valerix_policy::guard::Protocol;
use valerix_proxy::testing::{kilobytes, memory_is_asked_for};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\n\r\n";
/// What hyper takes for both of its ends is the most of it.
const MOST: usize = 18;

#[tokio::test]
async fn a_request_asks_for_memory_a_few_times() {
    let guard = Setup::new()
        .inbound("http", Protocol::Http, kilobytes().await)
        .policy(|policy| *policy = Policy::default())
        .start()
        .await;
    let mut client = guard.connect().await;
    let taken = || {
        let stats = ALLOCATOR.stats();
        stats.allocations + stats.reallocations
    };
    memory_is_asked_for(MOST, &mut client, REQUEST, taken).await;
}
