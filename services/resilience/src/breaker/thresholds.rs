//! A breaker's thresholds as atomics: a reload writes them while calls read them, and no call waits.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

use valerix_policy::{CircuitBreaker as Policy, WindowType};

/// One number each; a call may see old and new ones mixed for a moment, each of which is valid by itself.
#[derive(Debug)]
pub(crate) struct Thresholds {
    /// 0 turns the rule off.
    consecutive_failures: AtomicU32,
    minimum_requests: AtomicU32,
    failure_rate_percent: AtomicU32,
    slow_call_rate_percent: AtomicU32,
    half_open_permits: AtomicU32,
    slow_call_millis: AtomicU64,
    open_millis: AtomicU64,
    max_open_millis: AtomicU64,
    half_open_timeout_millis: AtomicU64,
    /// 0 for a time window.
    window_calls: AtomicU32,
}

macro_rules! readers {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(#[inline]
        pub(crate) fn $name(&self) -> $type {
            self.$name.load(Ordering::Relaxed)
        })*
    };
}

impl Thresholds {
    pub(crate) fn new(policy: &Policy) -> Self {
        let thresholds = Self {
            consecutive_failures: AtomicU32::new(0),
            minimum_requests: AtomicU32::new(0),
            failure_rate_percent: AtomicU32::new(0),
            slow_call_rate_percent: AtomicU32::new(0),
            half_open_permits: AtomicU32::new(0),
            slow_call_millis: AtomicU64::new(0),
            open_millis: AtomicU64::new(0),
            max_open_millis: AtomicU64::new(0),
            half_open_timeout_millis: AtomicU64::new(0),
            window_calls: AtomicU32::new(0),
        };
        thresholds.store(policy);
        thresholds
    }

    pub(crate) fn store(&self, policy: &Policy) {
        let set = |atomic: &AtomicU32, value: u32| atomic.store(value, Ordering::Relaxed);
        set(&self.consecutive_failures, policy.consecutive_failures.unwrap_or(0));
        set(&self.minimum_requests, policy.minimum_requests.max(1));
        set(&self.failure_rate_percent, policy.failure_rate_percent.clamp(1, 100));
        set(
            &self.slow_call_rate_percent,
            policy.slow_call_rate_percent.clamp(1, 100),
        );
        set(&self.half_open_permits, policy.half_open_permits.max(1));
        let set = |atomic: &AtomicU64, value: u64| atomic.store(value, Ordering::Relaxed);
        set(&self.slow_call_millis, policy.slow_call_duration.as_millis());
        set(&self.open_millis, policy.open_duration.as_millis().max(1));
        set(&self.max_open_millis, policy.max_open_duration.as_millis().max(1));
        set(
            &self.half_open_timeout_millis,
            policy.half_open_timeout.as_millis().max(1),
        );
        let calls = if policy.window.window_type == WindowType::Count {
            policy.window.calls().max(1)
        } else {
            0
        };
        self.window_calls.store(calls, Ordering::Relaxed);
    }

    readers! {
        consecutive_failures: u32,
        minimum_requests: u32,
        failure_rate_percent: u32,
        slow_call_rate_percent: u32,
        half_open_permits: u32,
        slow_call_millis: u64,
        half_open_timeout_millis: u64,
        window_calls: u32,
    }

    /// How long the `openings`-th opening in a row lasts, before jitter: min(open * 2^(n-1), most).
    pub(crate) fn open_millis(&self, openings: u32) -> u64 {
        let most = self.max_open_millis.load(Ordering::Relaxed);
        let base = self.open_millis.load(Ordering::Relaxed);
        let doublings = openings.saturating_sub(1).min(32);
        base.saturating_mul(1 << doublings).min(most)
    }
}
