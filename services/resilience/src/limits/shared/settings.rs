//! Which Redis the library uses for shared limits: the environment's or the builder's. Reads the environment once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{InvalidRedisUrl, RedisLimits, TIMEOUT};
use crate::metrics::Metrics;
use crate::runtime::{Builder, StartError};

/// The URL and where it was read.
#[derive(Clone)]
pub(crate) struct RedisSettings {
    url: Option<(&'static str, String)>,
    prefix: String,
    timeout: Duration,
}

impl RedisSettings {
    /// `REDIS_LIMITS_URL`, else `REDIS_URL`; `REDIS_PREFIX`.
    pub(crate) fn from_environment() -> Self {
        let text = |name: &'static str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.map(|value| (name, value))
        };
        Self {
            url: text("REDIS_LIMITS_URL").or_else(|| text("REDIS_URL")),
            prefix: text("REDIS_PREFIX").map_or_else(|| "valerix:".to_owned(), |(_, prefix)| prefix),
            timeout: TIMEOUT,
        }
    }

    /// The Redis, if one is named; connected when a rule needs it.
    pub(crate) fn open(
        &self,
        metrics: Metrics,
        revision: watch::Sender<u64>,
    ) -> Result<Option<RedisLimits>, StartError> {
        let Some((from, url)) = &self.url else { return Ok(None) };
        // Whether limits are degraded stands in the report.
        let on_change = Arc::new(move || revision.send_modify(|revision| *revision += 1));
        RedisLimits::open_with(url, from, &self.prefix, self.timeout, metrics, on_change)
            .map(Some)
            .map_err(|source: InvalidRedisUrl| StartError::Redis { source })
    }
}

impl Builder {
    /// The Redis for limits of scope `Distributed`, before `REDIS_LIMITS_URL` and `REDIS_URL`. It is connected when a
    /// rule needs it; one that does not answer is no error, the local share holds meanwhile.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use valerix_resilience::{Resilience, StartError};
    ///
    /// let resilience = Resilience::builder().redis_url("redis://127.0.0.1:6379/").start().await?;
    /// let error = Resilience::builder().redis_url("redis:6379").start().await.unwrap_err();
    /// assert!(matches!(error, StartError::Redis { .. }));
    /// # Ok::<(), StartError>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn redis_url(mut self, url: impl Into<String>) -> Self {
        self.redis.url = Some(("redis_url", url.into()));
        self
    }

    /// What stands before every key in Redis, before `REDIS_PREFIX`. Default `valerix:`.
    #[must_use]
    pub fn redis_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.redis.prefix = prefix.into();
        self
    }

    /// How long a request waits for Redis before the local share decides. Default 20 ms.
    #[must_use]
    pub const fn redis_timeout(mut self, timeout: Duration) -> Self {
        self.redis.timeout = timeout;
        self
    }
}
