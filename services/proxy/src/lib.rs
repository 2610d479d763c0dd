//! Passes HTTP requests on to another service: bodies stream both ways, and what a call may do is decided by the target's
//! policy (breaker, retry, bulkhead, timeouts) in `valerix-resilience`. It knows no routes and nobody's identity.
//!
//! [`Upstream`] is a service that requests are passed on to. What whoever is at the edge asks of a request before: that its
//! path means the same to everybody ([`check_path`]), that it names one host ([`host`]), that its length is told in one way
//! ([`check_framing`]), and that nobody speaks in the name of others ([`drop_internal`], [`drop_named_by_connection`], [`Forwarding`]).

// Its example is compiled as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod body;
mod connector;
mod error;
mod forwarded;
mod gathered;
mod grpc;
mod headers;
mod local;
mod multiplexed;
mod outgoing;
mod path;
mod pool;
mod relay;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod upgrade;
mod upstream;
mod wire;

pub use self::body::{IdleBody, REPLAYED_BYTES};
pub use self::connector::first_of;
pub use self::forwarded::{Forwarding, host};
pub use self::grpc::{deadline_of_grpc, grpc_timeout, is_grpc, refusal_of_grpc};
pub use self::headers::{check_expectation, check_framing, drop_internal, drop_named_by_connection};
pub use self::local::{Local, LocalAnswer, LocalError};
pub use self::outgoing::Sending;
pub use self::path::check_path;
pub use self::pool::PooledBody;
pub use self::relay::{Relayed, relay};
pub use self::tls::{Tls, TlsError};
pub use self::upstream::{Answer, SendingError, Upstream};
pub use self::wire::Speaks;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

/// Whatever a body of somebody else's may fail of.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
