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

mod duration;
mod error;
mod faults;
mod inbound;
mod parse;
mod policy;
mod report;
mod route;
mod runtime;
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
pub use parse::{MAX_DOCUMENT_BYTES, Parsed, hash};
pub use policy::{Admission, Chaos, Mode, POLICY_VERSION, Policy};
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
pub const POLICY_FILE: &str = "policy.v1.json";
/// File name of the faults document in the mounted folder.
pub const FAULTS_FILE: &str = "faults.json";
/// File name of the runtime document in the mounted folder.
pub const RUNTIME_FILE: &str = "runtime.json";
