//! Time that only moves forward. The breaker takes its clock as a type, so that a test can turn it by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Tells the time of day, which anyone may set: for reports and for moments that others wrote down, never for durations.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl WallClock {
    pub(crate) fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("WallClock")
    }
}

/// A clock that never goes back and that no one can set.
///
/// ```
/// use valerix_resilience::{CircuitBreaker, Clock, CoarseClock, MonotonicClock, policy};
///
/// let settings = policy::CircuitBreaker::default();
/// let usual: CircuitBreaker<CoarseClock> = CircuitBreaker::new(&settings);
/// let exact = CircuitBreaker::with_clock(&settings, MonotonicClock);
/// assert!(MonotonicClock.nanos() >= CoarseClock.nanos());
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since a fixed moment of this machine or process.
    fn nanos(&self) -> u64;

    /// Milliseconds since the same moment.
    fn millis(&self) -> u64 {
        self.nanos() / 1_000_000
    }

    /// How far a reading may be behind the present, at most.
    fn resolution(&self) -> Duration {
        Duration::ZERO
    }
}

/// The longest step of `CLOCK_MONOTONIC_COARSE`: that of a kernel of 100 Hz.
pub(crate) const COARSE_STEP: Duration = Duration::from_millis(10);

/// On Linux and FreeBSD `CLOCK_MONOTONIC_COARSE`: 4 ms resolution (on most kernels; at most 10 ms) for a fifth of the
/// price of [`MonotonicClock`]. Elsewhere the same as that one. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoarseClock;

impl Clock for CoarseClock {
    #[inline]
    fn nanos(&self) -> u64 {
        system::coarse_nanos()
    }

    #[inline]
    fn millis(&self) -> u64 {
        system::coarse_millis()
    }

    fn resolution(&self) -> Duration {
        COARSE_STEP
    }
}

/// The monotonic clock with full resolution.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    #[inline]
    fn nanos(&self) -> u64 {
        system::nanos()
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
mod system {
    //! Systems with a coarse clock.

    use rustix::time::{ClockId, Timespec, clock_gettime};

    #[inline]
    pub(super) fn nanos() -> u64 {
        nanos_of(clock_gettime(ClockId::Monotonic))
    }

    #[inline]
    pub(super) fn coarse_nanos() -> u64 {
        nanos_of(clock_gettime(ClockId::MonotonicCoarse))
    }

    #[inline]
    pub(super) fn coarse_millis() -> u64 {
        let time = clock_gettime(ClockId::MonotonicCoarse);
        // Multiplying seconds and dividing only the part below one keeps a 64-bit division off the path.
        time.tv_sec.unsigned_abs() * 1_000 + u64::from(below_second(time.tv_nsec) / 1_000_000)
    }

    #[inline]
    fn nanos_of(time: Timespec) -> u64 {
        time.tv_sec.unsigned_abs() * 1_000_000_000 + u64::from(below_second(time.tv_nsec))
    }

    /// The kernel keeps nanoseconds below 10^9, which fits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the kernel keeps it in 0..10^9"
    )]
    const fn below_second(nanos: i64) -> u32 {
        nanos as u32
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
mod system {
    //! All others: the standard library's clock, since a moment of this process.

    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    fn elapsed() -> Duration {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        BEGAN.get_or_init(Instant::now).elapsed()
    }

    pub(super) fn nanos() -> u64 {
        u64::try_from(elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn coarse_nanos() -> u64 {
        nanos()
    }

    pub(super) fn coarse_millis() -> u64 {
        u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that a test turns by hand. Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::{Clock, ManualClock};
///
/// let clock = ManualClock::default();
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.millis(), 1_000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        self.0
            .fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn nanos(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
