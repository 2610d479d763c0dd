//! Limits that all replicas share through Redis.
//!
//! In: a limit, a key, the number of replicas. Out: whether the request may pass. `lease` is one key's state and pure,
//! `limit.lua` what Redis does in one step, `limiter` the keys and who waits, `store` the connection.
//!
//! A replica draws tokens ahead of need: a **lease** of at most `B = min(64, (burst - 1) / 2N)` tokens (N replicas), none
//! where that is less than 2. It begins with one token, doubles while leases are used up in time and halves when one is
//! not; it is renewed when a quarter is left, so that hardly anyone waits. A lease lives at most a second, what was not
//! used then goes back. A key has one draw under way at a time; who finds no token waits for it. What Redis refused is
//! refused without asking until the moment it named (at most 1.2 s where others may return leases), or, with leases, until about three quarters of a lease for each
//! replica have come together (at most 0.5 s), so that a limit that is used up costs few trips too.
//!
//! # Why a GCRA limit is exact: accepted <= burst + rate * t, from any moment on
//!
//! Redis keeps the level of a bucket (tokens drawn and not yet drained, TAT = now + level * T, at most `burst`) and how
//! many tokens are leased: drawn within 1.5 to 2 s by a draw that was not settled since. A replica uses a token within
//! 0.99 s of asking for it, by its own clock, so every token that can still be used is among the leased ones; each draw
//! settles the replica's former one in the same step. **The level never drains below what is leased.** Take any moment
//! t0 and let h be the tokens that can be used then. The first draw after it, at s, finds a level of at least
//! h - (s - t0) / T, since nothing drains below the leased tokens until they can no longer be used. So what is drawn from
//! t0 to t1 is at most burst - h + (t1 - t0) / T, and what is used at most h more: burst + rate * t. Tokens that come
//! back were in the level all the time. This holds for any number of replicas, also while they believe in different
//! numbers: N only sets the size of a lease. What it costs: tokens that others hold are not available, at most N * B.
//! (The fixed reserve `burst - N * B` is the same thing paid at all times; counted, it is paid only while leased.)
//! Without leases each token is used at once and Redis' moment counts.
//!
//! # Why a Window limit is exact: never more than `requests` in any window
//!
//! A token drawn at d is used in [d, d + L], L = a sixteenth of the window, at least 40 ms and at most 1 s. Redis counts
//! draws in sixteen slots that together cover the window and L: a draw is remembered for at least window + L and at
//! most a fifteenth longer. Take any window [t, t + w) and the last draw z of a token used in it. Every other token used
//! in it was drawn after t - L, at most w + L before z, so Redis still counted it when it granted the last: at most
//! `requests` in all. A token that comes back is taken out of the slot that it was drawn in; it was never used. One that
//! is renewed moves to a later slot, which only makes it count longer.
//!
//! # Without Redis
//!
//! No answer within 20 ms (a place among 1,024 calls under way included) or a failure: the **local share** decides, `requests` and
//! `burst` divided by N, at least 1. After a timeout or a failure nobody asks any more: one task connects again, after
//! 50 ms at first and 0.5 s at last, with jitter. The share counts what passed by Redis too, so the first requests
//! without it get no second burst where load is spread evenly. In all cases accepted <= 2 * (burst + rate * t), half of
//! it by Redis and half by the shares. If Redis forgets the counters (restarted without persistence, emptied, a
//! failover to a replica that lags), the limit begins anew: each such loss may cost one more `burst` and the leased
//! tokens, at most `N * B`; for a Window, `requests` and `N * B`. A Redis clock that is set forward drains by as much;
//! one that is set back drains nothing until it moves on, and nothing waits for it to catch up.
//!
//! # Memory
//!
//! Each replica keeps at most [`MAX_KEYS`](crate::MAX_KEYS) keys of a limit apart; the rest share 64 buckets, the same ones on every replica.
//! Redis forgets a key when its limit is as good as new. Keys are stored as 128 bits of SHA-256.

mod lease;
mod limiter;
mod script;
mod shard;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::limiter::Shared;
use self::store::{OnChange, Store};
use super::level::{Decision, Quota};
use crate::metrics::Metrics;

/// How long a call waits for Redis.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_millis(20);
/// What stands before every key.
pub(crate) const DEFAULT_PREFIX: &str = "valerix:";

/// The text is not the URL of a Redis.
///
/// ```
/// use valerix_resilience::RedisLimits;
///
/// let error = RedisLimits::open("http://:secret@redis/").unwrap_err();
/// assert!(error.to_string().contains("write redis://"));
/// assert!(!error.to_string().contains("secret"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid Redis URL in {from}: {problem}; write redis://[:password@]host:port/ (the value may hold a password and is not shown)"
)]
pub struct InvalidRedisUrl {
    /// Where it stands: the variable's name or the setter.
    pub from: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// The Redis that shared limits use. It is connected when first needed, and again whenever it is lost. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::policy::LimitAlgorithm;
/// use valerix_resilience::{Quota, RedisLimits};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let redis = RedisLimits::open("redis://127.0.0.1:1/")?;
/// let quota = Quota { requests: 2, window: Duration::from_secs(1), burst: 1, algorithm: LimitAlgorithm::Window };
/// // One replica of one; the service's name keeps its limits apart from those of others.
/// let limiter = redis.limiter("shop/order", "logins", quota, 1);
/// assert!(limiter.take("alice").await.allowed);
/// assert!(limiter.take("alice").await.allowed);
/// assert!(!limiter.take("alice").await.allowed, "without Redis too: by the local share");
/// assert!(limiter.is_degraded());
/// # Ok::<(), valerix_resilience::InvalidRedisUrl>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct RedisLimits(Arc<Store>);

impl RedisLimits {
    /// Names a Redis; does not connect yet.
    ///
    /// # Errors
    /// When the text is no URL of Redis.
    pub fn open(url: &str) -> Result<Self, InvalidRedisUrl> {
        Self::open_with_timeout(url, REDIS_TIMEOUT)
    }

    /// As [`open`](Self::open), with another time to wait for an answer than 20 ms, for a Redis that is further away.
    /// Tokens of a limit without leases must be there within 30 ms to be used; later ones are asked for again.
    ///
    /// # Errors
    /// When the text is no URL of Redis.
    pub fn open_with_timeout(url: &str, timeout: Duration) -> Result<Self, InvalidRedisUrl> {
        Self::open_with(
            url,
            "the argument",
            DEFAULT_PREFIX,
            timeout,
            Metrics::new(),
            Arc::new(|| ()),
        )
    }

    pub(crate) fn open_with(
        url: &str,
        from: &'static str,
        prefix: &str,
        timeout: Duration,
        metrics: Metrics,
        on_change: OnChange,
    ) -> Result<Self, InvalidRedisUrl> {
        let client = crate::redis_client::open(url).map_err(|error| InvalidRedisUrl {
            from,
            problem: error.to_string(),
        })?;
        let store = Store::new(client, prefix.to_owned(), timeout, metrics, on_change);
        Ok(Self(Arc::new(store)))
    }

    /// A limit of `owner` (its namespace and name) that `replicas` share. `rule` tells its limits apart.
    #[must_use]
    pub fn limiter(&self, owner: &str, rule: &str, quota: Quota, replicas: u32) -> SharedLimiter {
        let name = format!("{}limit:{owner}:{rule}:", self.0.prefix);
        SharedLimiter(Arc::new(Shared::new(Arc::clone(&self.0), name, quota, replicas)))
    }

    /// Connects if nobody did yet, and waits at most `within` until that succeeded. Returns whether it did.
    pub async fn connected(&self, within: Duration) -> bool {
        self.0.begin();
        self.0.connected(within).await
    }

    /// Whether Redis was lost, or never found.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.0.is_down()
    }
}

/// A limit that all replicas share: exact while Redis answers, the replica's share while it does not. Clones share it.
///
/// A Window never lets more than `requests` pass in any window, GCRA never more than `burst` + rate * time, over all
/// replicas; at most 100,000 keys are kept apart on each. Without Redis accepted <= 2 * (`burst` + rate * time) still
/// holds, and each time that Redis loses its counters may cost one more `burst`.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::policy::LimitAlgorithm;
/// use valerix_resilience::{Quota, RedisLimits};
///
/// let redis = RedisLimits::open("redis://127.0.0.1:6379/")?;
/// let quota = Quota { requests: 90, window: Duration::from_secs(1), burst: 90, algorithm: LimitAlgorithm::GCRA };
/// let limiter = redis.limiter("shop/order", "orders", quota, 3);
/// assert_eq!(limiter.share().requests, 30);
/// // A replica more.
/// limiter.reconfigure(quota, 4);
/// assert_eq!((limiter.share().requests, limiter.quota().requests), (22, 90));
/// assert_eq!((limiter.totals(), limiter.local_decisions(), limiter.live_keys()), ((0, 0), 0, 0));
/// # Ok::<(), valerix_resilience::InvalidRedisUrl>(())
/// ```
#[derive(Clone)]
pub struct SharedLimiter(Arc<Shared>);

impl std::fmt::Debug for SharedLimiter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SharedLimiter")
            .field("quota", &self.quota())
            .finish_non_exhaustive()
    }
}

impl SharedLimiter {
    /// Takes one for `key`, if it may pass. Waits for Redis at most 20 ms, and most calls not at all. Must be called
    /// within a tokio runtime.
    pub async fn take(&self, key: &str) -> Decision {
        self.0.take(key).await.decision
    }

    /// The limit of all replicas together.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.0.quota()
    }

    /// What this replica lets pass while Redis does not answer.
    #[must_use]
    pub fn share(&self) -> Quota {
        self.0.share()
    }

    /// Takes new numbers, of the limit or of replicas. What was used stays used.
    pub fn reconfigure(&self, quota: Quota, replicas: u32) {
        self.0.reconfigure(quota, replicas);
    }

    /// Whether the local share decides, because Redis does not answer.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.0.is_degraded()
    }

    /// Keys that are kept apart at the moment.
    #[must_use]
    pub fn live_keys(&self) -> usize {
        self.0.live_keys()
    }

    /// Requests let pass and refused since the start.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (
            self.0.allowed.load(Ordering::Relaxed),
            self.0.refused.load(Ordering::Relaxed),
        )
    }

    /// Requests that the local share decided since the start.
    #[must_use]
    pub fn local_decisions(&self) -> u64 {
        self.0.local.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "axum")]
mod of_rules {
    //! The limit as one of the policy's rules.

    use std::pin::Pin;
    use std::sync::Arc;

    use super::{Quota, RedisLimits, SharedLimiter};
    use crate::limits::rules::{SharedLimit, SharedLimits, Taking};

    impl SharedLimits for RedisLimits {
        fn limit(&self, owner: &str, rule: &str, quota: Quota, replicas: u32) -> Arc<dyn SharedLimit> {
            Arc::new(self.limiter(owner, rule, quota, replicas))
        }
    }

    impl SharedLimit for SharedLimiter {
        fn take<'a>(&'a self, key: &'a str) -> Pin<Box<dyn Future<Output = Taking> + Send + 'a>> {
            Box::pin(async move {
                let told = self.0.take(key).await;
                Taking {
                    decision: told.decision,
                    locally: told.locally,
                }
            })
        }

        fn give_back(&self, key: &str, locally: bool) {
            self.0.give_back(key, locally);
        }

        fn reconfigure(&self, quota: Quota, replicas: u32) {
            self.0.reconfigure(quota, replicas);
        }

        fn begin(&self) {
            self.0.begin_connecting();
        }

        fn is_degraded(&self) -> bool {
            self.0.is_degraded()
        }

        fn quotas(&self) -> (Quota, Quota) {
            (self.0.quota(), self.0.share())
        }

        fn live_keys(&self) -> usize {
            self.0.live_keys()
        }

        fn totals(&self) -> (u64, u64) {
            Self::totals(self)
        }
    }
}
