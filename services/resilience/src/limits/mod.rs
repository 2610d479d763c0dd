//! Rate limits: how many requests per time, of all callers or of each.
//!
//! `level` is the arithmetic, `limiter` keeps one level per key in bounded memory, `rules` asks every rule of the
//! policy that a request meets.

#[cfg(feature = "axum")]
pub(crate) mod address;
mod level;
mod limiter;
#[cfg(feature = "axum")]
mod rules;

pub use self::level::{Decision, Quota};
pub use self::limiter::{MAX_KEYS, RateLimiter};

#[cfg(feature = "axum")]
pub use self::address::{InvalidNetwork, Network};
#[cfg(feature = "axum")]
pub(crate) use self::rules::{RuleSet, Verdict};
