//! Which Redis shared limits use: the builder's, else the environment's, which is looked at when a rule needs it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::limits::{DEFAULT_PREFIX, InvalidRedisUrl, REDIS_TIMEOUT, RedisLimits};
use crate::metrics::Metrics;

/// What the builder and the environment say of Redis.
#[derive(Clone)]
pub(super) struct RedisOptions {
    /// From the builder: one that is none is an error of the start.
    pub(super) given: Option<String>,
    /// The variable's name and its value, which may be meant for another library.
    found: Option<(&'static str, String)>,
    pub(super) prefix: String,
    pub(super) timeout: Duration,
}

impl RedisOptions {
    /// `REDIS_LIMITS_URL`, else `REDIS_URL`; `REDIS_PREFIX`.
    pub(super) fn from_environment() -> Self {
        let text = |name: &'static str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.map(|value| (name, value))
        };
        Self {
            given: None,
            found: text("REDIS_LIMITS_URL").or_else(|| text("REDIS_URL")),
            prefix: text("REDIS_PREFIX").map_or_else(|| DEFAULT_PREFIX.to_owned(), |(_, prefix)| prefix),
            timeout: REDIS_TIMEOUT,
        }
    }
}

/// The Redis of a process, opened when a rule needs it.
pub(super) struct Redis {
    options: RedisOptions,
    opened: OnceLock<Option<RedisLimits>>,
    metrics: Metrics,
    revision: watch::Sender<u64>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        formatter.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    /// Opens what the builder was given.
    pub(super) fn new(
        options: RedisOptions,
        metrics: Metrics,
        revision: watch::Sender<u64>,
    ) -> Result<Self, InvalidRedisUrl> {
        let redis = Self {
            options,
            opened: OnceLock::new(),
            metrics,
            revision,
        };
        if let Some(url) = &redis.options.given {
            let opened = redis.open(url, "redis_url")?;
            let _ = redis.opened.set(Some(opened));
        }
        Ok(redis)
    }

    /// The Redis, where one is named that can be used. Where it cannot, the log says so once, and limits of scope
    /// `Distributed` are degraded: each replica's share holds.
    pub(super) fn get(&self) -> Option<&RedisLimits> {
        let find = || {
            let (from, url) = self.options.found.as_ref()?;
            self.open(url, from)
                .inspect_err(|error| {
                    tracing::error!(%error, "failed to prepare shared limits: each replica's share holds instead");
                })
                .ok()
        };
        self.opened.get_or_init(find).as_ref()
    }

    fn open(&self, url: &str, from: &'static str) -> Result<RedisLimits, InvalidRedisUrl> {
        let revision = self.revision.clone();
        // Whether limits are degraded stands in the report.
        let on_change = Arc::new(move || revision.send_modify(|revision| *revision += 1));
        let RedisOptions { prefix, timeout, .. } = &self.options;
        RedisLimits::open_with(url, from, prefix, *timeout, self.metrics.clone(), on_change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str) -> Result<Redis, InvalidRedisUrl> {
        let options = RedisOptions {
            given: None,
            found: Some(("REDIS_URL", url.to_owned())),
            prefix: DEFAULT_PREFIX.to_owned(),
            timeout: REDIS_TIMEOUT,
        };
        Redis::new(options, Metrics::new(), watch::Sender::new(0))
    }

    #[test]
    fn a_variable_that_is_meant_for_another_library_fails_no_start() {
        for url in ["cache:6379", "https://cache/", "redis://:secret@cache:port/"] {
            let redis = found(url).unwrap();
            assert!(redis.get().is_none(), "{url}");
        }
        assert!(found("redis://cache/").unwrap().get().is_some());
    }

    #[test]
    fn what_the_builder_is_given_is_refused_at_once() {
        let options = RedisOptions {
            given: Some("cache:6379".to_owned()),
            ..RedisOptions::from_environment()
        };
        let error = Redis::new(options, Metrics::new(), watch::Sender::new(0)).unwrap_err();
        assert!(error.to_string().contains("redis_url"), "{error}");
    }
}
