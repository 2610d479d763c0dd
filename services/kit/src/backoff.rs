//! Pauses between attempts that go on for ever: doubling, bounded, with jitter.

use std::time::Duration;

/// The pauses of one series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// Starts at `base`, doubles up to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, attempt: 0 }
    }

    /// The next pause: between half and the whole of min(base * 2^n, max).
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.base.saturating_mul(1 << self.attempt.min(16)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        delay.mul_f64(0.5 + rand::random::<f64>() / 2.0)
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
