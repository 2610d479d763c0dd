//! Pauses between attempts that go on for ever: doubling, bounded, with jitter. Pure but for its randomness.

use std::time::Duration;

use crate::random::Random;

/// The pauses of one series of attempts: for loops that must not give up, such as the one that waits for a database.
///
/// Calls are repeated by the client, which has a deadline and a budget; this is for what has neither.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// assert!(backoff.next_delay() <= Duration::from_millis(200));
/// backoff.reset();
/// ```
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
    random: Random,
}

impl Backoff {
    /// Starts at `base`, doubles up to `max`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max,
            attempt: 0,
            random: Random::from_entropy(),
        }
    }

    /// The next pause: between half and the whole of min(base * 2^n, max).
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.base.saturating_mul(1 << self.attempt.min(16)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        let half = whole / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.random.up_to(spread))
    }

    /// The next series begins: an attempt has worked.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay();
            assert!(
                (whole / 2..=whole).contains(&delay.as_millis()),
                "{delay:?} of {whole} ms"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
