//! What stands in for shared limits where the feature `redis` is off: nothing, at no cost. Pure.

use std::convert::Infallible;

use tokio::sync::watch;

use super::level::{Decision, Quota};
use crate::metrics::Metrics;
use crate::runtime::StartError;

#[derive(Clone, Debug)]
pub(crate) struct RedisSettings;

impl RedisSettings {
    pub(crate) const fn from_environment() -> Self {
        Self
    }

    #[allow(
        clippy::unnecessary_wraps,
        clippy::needless_pass_by_value,
        reason = "the same face as with Redis; which of the lints sees it depends on their settings"
    )]
    pub(crate) fn open(&self, _: Metrics, _: watch::Sender<u64>) -> Result<Option<RedisLimits>, StartError> {
        Ok(None)
    }
}

/// Never made.
#[derive(Clone, Debug)]
pub(crate) struct RedisLimits(Infallible);

/// Never made.
#[derive(Clone, Debug)]
pub(crate) struct SharedLimiter(Infallible);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) decision: Decision,
    pub(crate) locally: bool,
}

impl RedisLimits {
    pub(crate) fn limiter(&self, _: &str, _: &str, _: Quota, _: u32) -> SharedLimiter {
        match self.0 {}
    }

    pub(crate) async fn connected(&self, _: std::time::Duration) -> bool {
        match self.0 {}
    }
}

impl SharedLimiter {
    pub(crate) async fn told(&self, _: &str) -> Told {
        match self.0 {}
    }

    pub(crate) fn give_back(&self, _: &str, _: bool) {
        match self.0 {}
    }

    pub(crate) fn quota(&self) -> Quota {
        match self.0 {}
    }

    pub(crate) fn share(&self) -> Quota {
        match self.0 {}
    }

    pub(crate) fn reconfigure(&self, _: Quota, _: u32) {
        match self.0 {}
    }

    pub(crate) fn is_degraded(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn live_keys(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn totals(&self) -> (u64, u64) {
        match self.0 {}
    }

    pub(crate) fn begin_connecting(&self) {
        match self.0 {}
    }
}
