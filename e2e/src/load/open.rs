//! Load in an open model: requests begin when they are due, whether or not earlier ones have been answered, and their time
//! runs from that moment. A shop that stands still is then seen standing still, instead of being asked less often.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::measured::{Ended, Measured};

/// One stretch of a load: the rate goes evenly from one figure to the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Unit: requests per second.
    pub from: f64,
    /// Unit: requests per second.
    pub to: f64,
    /// How long it takes.
    pub lasts: Duration,
}

impl Stretch {
    /// The same rate all the time.
    #[must_use]
    pub fn steady(rate: f64, lasts: Duration) -> Self {
        Self {
            from: rate,
            to: rate,
            lasts,
        }
    }

    /// How many requests are due within the first part of it. Unit: requests.
    fn due_after(&self, time: f64) -> f64 {
        let slope = (self.to - self.from) / self.lasts.as_secs_f64();
        self.from * time + slope * time * time / 2.0
    }
}

/// When each request of a load is due, counted from its beginning.
#[must_use]
pub fn due(stretches: &[Stretch]) -> Vec<Duration> {
    let (mut moments, mut begun) = (Vec::new(), 0.0);
    for stretch in stretches {
        let lasts = stretch.lasts.as_secs_f64();
        let all = stretch.due_after(lasts).round();
        let mut number = 0.0;
        let mut time = 0.0;
        while number < all {
            // The rate is never negative, so what is due only grows: a step by the rate of the moment never overshoots
            // by more than the change of the rate within it, which the next one makes good.
            while stretch.due_after(time) < number {
                let rate = stretch.from + (stretch.to - stretch.from) * time / lasts;
                time += ((number - stretch.due_after(time)) / rate.max(0.1)).clamp(0.000_01, 0.1);
            }
            moments.push(Duration::from_secs_f64(begun + time.min(lasts)));
            number += 1.0;
        }
        begun += lasts;
    }
    moments
}

/// Sends a load. `most`: so many may be under way; what is due beyond that is not sent, and counted as such.
pub async fn send<Asked>(stretches: &[Stretch], most: usize, ask: impl Fn(usize) -> Asked) -> Measured
where
    Asked: Future<Output = Ended> + Send + 'static,
{
    let under_way = Arc::new(AtomicUsize::new(0));
    let (mut tasks, mut measured) = (JoinSet::new(), Measured::default());
    let begun = Instant::now();
    for (number, due) in due(stretches).into_iter().enumerate() {
        let at = begun + due;
        sleep_until(at).await;
        while let Some(ended) = tasks.try_join_next() {
            measured.take(ended);
        }
        if under_way.load(Ordering::Relaxed) >= most {
            measured.not_sent += 1;
            continue;
        }
        under_way.fetch_add(1, Ordering::Relaxed);
        let (under_way, asked) = (under_way.clone(), ask(number));
        tasks.spawn(async move {
            let answer = asked.await;
            under_way.fetch_sub(1, Ordering::Relaxed);
            (due, at.elapsed(), answer)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        measured.take(ended);
    }
    measured.lasted = begun.elapsed();
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_that_was_asked_for() {
        let second = Duration::from_secs(1);
        let even = due(&[Stretch::steady(4.0, second * 2)]);
        assert_eq!(even.len(), 8);
        assert!(even[4].abs_diff(second) < Duration::from_millis(1), "{even:?}");
        let rising = Stretch {
            from: 0.0,
            to: 10.0,
            lasts: second * 10,
        };
        let moments = due(&[rising, Stretch::steady(1.0, second)]);
        assert_eq!(moments.len(), 51);
        assert!(moments.is_sorted());
        // Half of the area under a slope lies in its last 29 %.
        assert!(
            moments[25].abs_diff(Duration::from_millis(7_071)) < Duration::from_millis(20),
            "{moments:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stands_still_is_seen_standing_still() {
        let stretch = [Stretch::steady(10.0, Duration::from_secs(2))];
        let begun = Instant::now();
        // Nothing is answered in the first second.
        let measured = send(&stretch, 1_000, |_| async move {
            sleep_until(begun + Duration::from_secs(1)).await;
            Ended::status(200)
        })
        .await;
        assert_eq!((measured.answers(), measured.not_sent), (20, 0));
        assert_eq!(
            measured.percentile(100.0),
            Duration::from_secs(1),
            "the first one waited a second"
        );
        let bounded = send(&stretch, 4, |_| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ended::status(200)
        })
        .await;
        assert_eq!((bounded.answers(), bounded.not_sent), (4, 16));
    }
}
