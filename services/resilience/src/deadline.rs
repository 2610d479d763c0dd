//! The time by which an answer is of use: it comes with the request, shrinks along the call, and is relative on the
//! wire, so that no two clocks need to agree.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

/// Milliseconds that the caller still waits.
pub const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("valerix-timeout-ms");

/// A moment of this process's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The header is no number of milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header valerix-timeout-ms is {value:?}: send whole milliseconds from 0 to 999999999")]
pub struct InvalidTimeout {
    /// The value, cut to 32 characters.
    pub value: String,
}

tokio::task_local! {
    static CURRENT: Deadline;
}

impl Deadline {
    /// `time` from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        let now = Instant::now();
        // A time that the clock cannot hold is as good as a year.
        Self(now.checked_add(time).unwrap_or(now + Duration::from_secs(31_536_000)))
    }

    /// At a moment.
    #[must_use]
    pub const fn at(moment: Instant) -> Self {
        Self(moment)
    }

    /// The moment.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// The earlier of two, where there are two.
    pub(crate) fn earliest(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The time left; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_past(self) -> bool {
        self.remaining().is_zero()
    }

    /// The deadline of the request that this task serves, if the server layer or [`Deadline::scope`] set one.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// Runs `future` with this as [`Deadline::current`]. A task that it spawns does not inherit it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use valerix_resilience::Deadline;
    ///
    /// let budget = Deadline::after(Duration::from_secs(2));
    /// budget.scope(async { assert_eq!(Deadline::current(), Some(budget)) }).await;
    /// # });
    /// ```
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// As [`scope`](Self::scope), of the future that `call` makes, which has the deadline too.
    pub(crate) fn around_call<F: Future>(self, call: impl FnOnce() -> F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self, CURRENT.sync_scope(self, call))
    }

    /// The header for a call that may take `time`: whole milliseconds, rounded down.
    #[must_use]
    pub fn header(time: Duration) -> HeaderValue {
        HeaderValue::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(999_999_999))
    }

    /// The time that a caller gave.
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::{HeaderMap, HeaderValue};
    /// use valerix_resilience::{Deadline, InvalidTimeout, TIMEOUT_HEADER};
    ///
    /// let mut headers = HeaderMap::new();
    /// assert_eq!(Deadline::from_headers(&headers)?, None);
    /// headers.insert(TIMEOUT_HEADER, Deadline::header(Duration::from_millis(1_500)));
    /// assert_eq!(Deadline::from_headers(&headers)?, Some(Duration::from_millis(1_500)));
    /// headers.insert(TIMEOUT_HEADER, HeaderValue::from_static("soon"));
    /// assert!(Deadline::from_headers(&headers).is_err());
    /// # Ok::<(), InvalidTimeout>(())
    /// ```
    ///
    /// # Errors
    /// When the header is there but is no number of milliseconds.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Duration>, InvalidTimeout> {
        let Some(value) = headers.get(TIMEOUT_HEADER) else {
            return Ok(None);
        };
        let bytes = value.as_bytes();
        if bytes.is_empty() || bytes.len() > 9 || !bytes.iter().all(u8::is_ascii_digit) {
            let value = String::from_utf8_lossy(bytes).chars().take(32).collect();
            return Err(InvalidTimeout { value });
        }
        let millis = bytes.iter().fold(0_u64, |sum, byte| sum * 10 + u64::from(byte - b'0'));
        Ok(Some(Duration::from_millis(millis)))
    }
}
