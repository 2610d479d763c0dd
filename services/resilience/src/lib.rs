//! Resilience for Rust services: circuit breaker, retries with a budget, deadlines, bulkheads and faults, driven by one
//! hot-reloaded document.
//!
//! [`Resilience`] is the whole of it: `builder().start()` reads and follows the documents, `client(name)` gives an HTTP
//! client of a target, `server_layer()` protects an axum router, `report_router()` proves what is in force. Each part
//! ([`layers`], [`CircuitBreaker`], [`RetryBudget`], [`Bulkhead`], [`Deadline`]) also works alone.
//!
//! Headers of the protocol between services, all of them optional:
//!
//! ```
//! use valerix_resilience::{
//!     CLIENT_HEADER, FAULT_HEADER, IDEMPOTENCY_KEY, PRIORITY_HEADER, PROBLEM_HEADER, RETRY_HEADER, TIMEOUT_HEADER,
//! };
//!
//! let of_requests = [CLIENT_HEADER, IDEMPOTENCY_KEY, PRIORITY_HEADER, TIMEOUT_HEADER];
//! let of_answers = [FAULT_HEADER, PROBLEM_HEADER, RETRY_HEADER];
//! assert!(of_requests.iter().chain(&of_answers).all(|name| name != "retry-after"));
//! ```
//!
#![cfg_attr(
    all(feature = "axum", feature = "postgres", feature = "reqwest"),
    doc = include_str!("../README.md")
)]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod backoff;
mod breaker;
mod bulkhead;
mod client;
mod clock;
mod concurrency;
mod deadline;
mod documents;
mod faults;
mod fingerprint;
mod held;
#[cfg(feature = "postgres")]
pub mod idempotency;
mod key;
pub mod layers;
mod limits;
mod metrics;
#[cfg_attr(
    not(feature = "reqwest"),
    allow(
        dead_code,
        reason = "the engine of calls has what only the client over reqwest asks of it"
    )
)]
mod outbound;
#[cfg(feature = "postgres")]
pub mod postgres;
mod priority;
mod problem;
mod random;
#[cfg(feature = "redis")]
pub mod redis_client;
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
pub use breaker::{CircuitBreaker, Outcome, OwnedPermit, Permit, Rejected, Snapshot, Ticket, Transition};
pub use bulkhead::{Bulkhead, BulkheadFull, BulkheadPermit};
#[cfg(feature = "reqwest")]
pub use client::{BuildError, ClientBuilder, ClientResponse, RequestBuilder, ResilientClient};
pub use client::{
    ChosenAddress, ConnectError, MayRepeat, RequestBodyError, SentOnce, TargetBody, TargetLayer, TargetService,
};
pub use clock::{Clock, CoarseClock, ManualClock, MonotonicClock};
pub use deadline::{Deadline, InvalidTimeout, TIMEOUT_HEADER};
pub use documents::DocumentFile;
pub use faults::{AbortConnection, Faults, Injection};
pub use fingerprint::comparable_body;
pub use key::{IDEMPOTENCY_KEY, InvalidKey, key_from_headers, refusals};
pub use limits::{Decision, MAX_KEYS, Quota, RateLimiter};
#[cfg(feature = "axum")]
pub use limits::{InvalidNetwork, Network, client_key};
#[cfg(feature = "redis")]
pub use limits::{InvalidRedisUrl, RedisLimits, SharedLimiter};
pub use outbound::{
    CallError, Classify, ClusterResolver, DefaultClassify, Endpoint, Head, Occupied, OperationError, Pipeline, Resolve,
    Resolving, Sent, SystemResolver, Target, TrailersBeforeMessages,
};
pub use priority::CurrentPriority;
pub use problem::{
    FAULT_HEADER, FieldError, PRIORITY_HEADER, PROBLEM_HEADER, PROBLEM_JSON, PROBLEM_TYPE_BASE, Problem, RETRY_HEADER,
};
pub use retry::RetryBudget;
pub use runtime::{Builder, Resilience, StartError};
#[cfg(feature = "axum")]
pub use server::{ServerLayer, ServerService};

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

/// Who calls: `namespace/service`. For partition faults and metrics, never for authorization.
pub const CLIENT_HEADER: http::HeaderName = http::HeaderName::from_static("valerix-client");
