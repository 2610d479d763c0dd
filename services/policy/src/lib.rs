//! The documents that the Valerix operator writes and every service reads, as plain types.
//!
//! What goes in: bytes of `policy.v1.json`, `faults.json` or `runtime.json`. What comes out: a validated value, the
//! hash of exactly those bytes, and the fields of a newer writer that this reader does not know. Everything here is
//! pure: no file, no clock, no randomness.
//!
//! ```
//! let bytes = br#"{"version": 1, "targets": [{"name": "inventory", "timeout": {"request": "1s"}}]}"#;
//! let parsed = valerix_policy::Policy::parse(bytes)?;
//! assert_eq!(parsed.document.targets[0].timeout.request.as_millis(), 1_000);
//! assert_eq!(parsed.hash, valerix_policy::hash(bytes));
//! # Ok::<(), valerix_policy::PolicyError>(())
//! ```
//!
//! What a target may say:
//!
//! ```
//! use valerix_policy::{
//!     Backoff, Balancing, BalancingType, BreakerOverride, BreakerScope, Bulkhead, CircuitBreaker, Hedge, HedgeType,
//!     OverrideState, Policy, Retry, RetryBudget, Target, Timeouts, Window, WindowType,
//! };
//!
//! let text = br#"{"version": 1, "targets": [{
//!     "name": "inventory",
//!     "timeout": {"request": "1s", "attempt": "500ms"},
//!     "retry": {"maxAttempts": 2, "backoff": {"base": "50ms"}, "budget": {"percent": 10}},
//!     "circuitBreaker": {"consecutiveFailures": 3, "window": {"type": "Count", "calls": 50}, "scope": "Target"},
//!     "bulkhead": {"maxConcurrent": 20},
//!     "hedge": {"delay": "100ms"},
//!     "balancing": {"type": "P2C"},
//!     "override": {"circuitBreaker": "ForcedOpen", "until": "2027-01-01T00:00:00Z"}}]}"#;
//! let policy = Policy::parse(text)?.document;
//! let Target { timeout: Timeouts { attempt, .. }, retry, circuit_breaker, bulkhead, .. } = &policy.targets[0];
//! let Retry { backoff: Backoff { max, .. }, budget: RetryBudget { min_per_second, .. }, .. } = retry;
//! assert_eq!((attempt.as_millis(), max.as_millis(), *min_per_second), (500, 2_000, 1));
//! let CircuitBreaker { window: Window { window_type, .. }, scope, .. } = circuit_breaker;
//! assert_eq!((*window_type, *scope), (WindowType::Count, BreakerScope::Target));
//! assert_eq!(Bulkhead { max_concurrent: 20, ..Bulkhead::default() }, *bulkhead);
//! let Some(Hedge { delay, hedge_type, .. }) = policy.targets[0].hedge else { panic!() };
//! assert_eq!(hedge_type, HedgeType::Fixed);
//! let Some(Balancing { balancing_type, .. }) = policy.targets[0].balancing else { panic!() };
//! assert_eq!((delay.as_millis(), balancing_type), (100, BalancingType::P2C));
//! let Some(BreakerOverride { circuit_breaker: state, .. }) = policy.targets[0].breaker_override else { panic!() };
//! assert_eq!(state, OverrideState::ForcedOpen);
//! # Ok::<(), valerix_policy::PolicyError>(())
//! ```
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

// Its examples are run as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod duration;
mod error;
mod faults;
pub mod guard;
mod inbound;
mod parse;
mod policy;
mod priority;
mod report;
mod route;
mod runtime;
#[cfg(feature = "schema")]
pub mod schema;
mod target;
mod validate;

pub use duration::{Duration, InvalidDuration};
pub use error::{PolicyError, Violation};
pub use faults::{
    AbortFault, CpuStressFault, CrashFault, ErrorsFault, Fault, FaultEntry, FaultType, Faults, LatencyFault,
    MemoryStressFault, PartitionDirection, PartitionFault, PodKillFault, RefuseFault,
};
pub use inbound::{
    Concurrency, ConcurrencyType, Idempotency, Inbound, LimitAlgorithm, LimitKey, LimitKeyType, LimitScope, RateLimit,
    RateLimitRule,
};
pub use parse::{MAX_DOCUMENT_BYTES, Parsed, hash, parse};
pub use policy::{Admission, Chaos, Mode, POLICY_VERSION, Policy};
pub use priority::{Priorities, Priority, PriorityHeader, RoutePriority};
pub use report::{
    CircuitBreakerReport, CircuitState, FaultReport, FaultState, LimitKind, LimitReport, PolicyReport, PolicySource,
    Report,
};
pub use route::{InvalidRoute, Route};
pub use runtime::Runtime;
pub use target::{
    Backoff, Balancing, BalancingType, BreakerOverride, BreakerScope, Bulkhead, CircuitBreaker, Hedge, HedgeType,
    OverrideState, Retry, RetryBudget, Target, Timeouts, Window, WindowType,
};

/// File name of the policy document in the mounted folder.
///
/// ```
/// use valerix_policy::{FAULTS_FILE, POLICY_FILE, RUNTIME_FILE, hash};
///
/// let folder = std::path::Path::new("/etc/valerix/policy");
/// let files = [POLICY_FILE, FAULTS_FILE, RUNTIME_FILE].map(|file| folder.join(file));
/// assert!(files[0].ends_with("policy.v1.json") && hash(b"bytes of one of them").len() == 64);
/// ```
pub const POLICY_FILE: &str = "policy.v1.json";
/// File name of the faults document in the mounted folder.
pub const FAULTS_FILE: &str = "faults.json";
/// File name of the runtime document in the mounted folder.
pub const RUNTIME_FILE: &str = "runtime.json";
/// Header of the requests by which a chaos experiment asks whether the system is well; its value names the run as
/// `namespace/experiment/run`. Anybody can send it, so whoever obeys it makes a request worth less and never more.
///
/// ```
/// use valerix_policy::PROBE_HEADER;
///
/// let headers = [("accept", "*/*"), (PROBE_HEADER, "shop/inventory-slow/1")];
/// assert!(headers.iter().any(|(name, _)| *name == "valerix-probe"));
/// ```
pub const PROBE_HEADER: &str = "valerix-probe";
