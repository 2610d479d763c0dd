//! How often memory is asked for on behalf of a request. A program of its own: what other tests take would count too.
#![allow(
    dead_code,
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
use valerix_proxy::testing::{ask_for_a_kilobyte, kilobytes};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUESTS: usize = 1_000;
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
    let mut taken = 0;
    // The first time opens connections and whatever else is kept.
    for _ in 0..2 {
        let before = ALLOCATOR.stats();
        for _ in 0..REQUESTS {
            ask_for_a_kilobyte(&mut client, REQUEST).await;
        }
        let after = ALLOCATOR.stats();
        taken = after.allocations + after.reallocations - before.allocations - before.reallocations;
    }
    let each = taken / REQUESTS;
    eprintln!("{taken} times for {REQUESTS} requests");
    assert!(
        each <= MOST,
        "memory is asked for {each} times for a request, which is more than {MOST}"
    );
}
