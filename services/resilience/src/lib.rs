//! Resilience for Rust services: circuit breaker, retries with a budget, deadlines, bulkheads and faults, driven by one
//! hot-reloaded document.
//!
//! [`Resilience`] is the whole of it: `builder().start()` reads and follows the documents, `client(name)` gives an HTTP
//! client of a target, `server_layer()` protects an axum router, `report_router()` proves what is in force. Each part
//! ([`CircuitBreaker`], [`RetryBudget`], [`Bulkhead`], [`Deadline`]) also works alone.
// What only the client and the server layer use is compiled without them too, so that it stays one code.
#![cfg_attr(
    not(all(feature = "axum", feature = "reqwest")),
    allow(dead_code, unused_imports, unused_mut)
)]

mod backoff;
mod breaker;
mod bulkhead;
#[cfg(feature = "reqwest")]
mod client;
mod clock;
#[cfg(feature = "axum")]
mod concurrency;
mod deadline;
mod documents;
mod faults;
#[cfg(feature = "postgres")]
pub mod idempotency;
mod key;
mod limits;
mod metrics;
mod outbound;
#[cfg(feature = "postgres")]
pub mod postgres;
mod problem;
mod random;
#[cfg(feature = "axum")]
mod report;
mod retry;
mod runtime;
#[cfg(feature = "axum")]
mod server;
mod sync;

/// The documents, from `valerix-policy`.
pub use valerix_policy as policy;

pub use backoff::Backoff;
pub use breaker::{CircuitBreaker, Outcome, Permit, Rejected, Snapshot, Ticket, Transition};
pub use bulkhead::{Bulkhead, BulkheadFull, BulkheadPermit};
#[cfg(feature = "reqwest")]
pub use client::{BuildError, ClientBuilder, ClientResponse, RequestBuilder, ResilientClient};
pub use clock::{Clock, CoarseClock, ManualClock, MonotonicClock};
pub use deadline::{Deadline, InvalidTimeout, TIMEOUT_HEADER};
pub use faults::{AbortConnection, Faults, Injection};
pub use key::{IDEMPOTENCY_KEY, InvalidKey, key_from_headers, refusals};
pub use limits::{Decision, MAX_KEYS, Quota, RateLimiter};
#[cfg(feature = "axum")]
pub use limits::{InvalidNetwork, Network};
#[cfg(feature = "redis")]
pub use limits::{InvalidRedisUrl, RedisLimits, SharedLimiter};
pub use outbound::{
    CallError, ChosenAddress, Classify, ClusterResolver, DefaultClassify, Endpoint, Head, Resolve, Resolving,
    SystemResolver, Target, TargetBody, TargetLayer, TargetService,
};
pub use problem::{FAULT_HEADER, PROBLEM_HEADER, PROBLEM_JSON, Problem, RETRY_HEADER};
pub use retry::RetryBudget;
pub use runtime::{Builder, Resilience, StartError};
#[cfg(feature = "axum")]
pub use server::{ServerLayer, ServerService};

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

#[cfg(test)]
#[path = "breaker/tests.rs"]
mod breaker_tests;

/// Who calls: `namespace/service`. For partition faults and metrics, never for authorization.
pub const CLIENT_HEADER: http::HeaderName = http::HeaderName::from_static("valerix-client");
