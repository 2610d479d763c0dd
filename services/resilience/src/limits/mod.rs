//! Rate limits: how many requests per time, of all callers or of each.
//!
//! `level` is the arithmetic, `limiter` keeps one level per key in bounded memory, `shared` one that all replicas draw
//! from through Redis, `rules` asks every rule of the policy that a request meets.

#[cfg(feature = "axum")]
pub(crate) mod address;
mod level;
mod limiter;
#[cfg(feature = "axum")]
mod rules;
#[cfg(feature = "redis")]
mod shared;

pub use self::level::{Decision, Quota};
pub use self::limiter::{MAX_KEYS, RateLimiter};

#[cfg(feature = "axum")]
pub use self::address::{InvalidNetwork, Network, client_key};
#[cfg(all(feature = "axum", feature = "redis"))]
pub(crate) use self::rules::SharedLimits;
#[cfg(feature = "axum")]
pub(crate) use self::rules::{Owner, RuleSet, Ruling};
#[cfg(all(feature = "axum", feature = "redis"))]
pub(crate) use self::shared::{DEFAULT_PREFIX, REDIS_TIMEOUT};
#[cfg(feature = "redis")]
pub use self::shared::{InvalidRedisUrl, RedisLimits, SharedLimiter};
