//! How many requests a service takes at a time: a fixed number with a short queue, or one found by measuring.
//!
//! The queue is controlled delay (CoDel): a queue that has not been empty for a while stands, so waiting in it helps
//! nobody, and waits shrink to a few milliseconds until it drains.

mod adaptive;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;
use valerix_policy::{Concurrency, ConcurrencyType, LimitKind, LimitReport, Mode};

use self::adaptive::Aimd;
use crate::bulkhead::{Bulkhead, BulkheadPermit};
use crate::clock::{Clock, CoarseClock};

/// A queue that was not empty for this long stands (milliseconds).
const STANDING: u64 = 100;
/// The wait in a standing queue.
const TARGET: Duration = Duration::from_millis(5);

/// The inbound limit of requests at a time.
#[derive(Debug, Default)]
pub(crate) struct Gate(ArcSwapOption<Limit>);

#[derive(Debug)]
struct Limit {
    settings: Concurrency,
    mode: Mode,
    places: Bulkhead,
    queued: AtomicUsize,
    /// When a request last found a place at once (milliseconds).
    flowing_at: AtomicU64,
    adaptive: Option<Mutex<Aimd>>,
    allowed: AtomicU64,
    refused: AtomicU64,
    clock: CoarseClock,
}

/// A place, with what its measuring needs.
#[derive(Debug)]
pub(crate) struct Place {
    limit: Arc<Limit>,
    began: Instant,
    missed: bool,
    _place: BulkheadPermit,
}

impl Gate {
    /// Takes new settings; requests under way keep their places, and a limit found by measuring is kept.
    pub(crate) fn configure(&self, settings: Option<&Concurrency>, mode: Mode) {
        let Some(settings) = settings.filter(|_| mode != Mode::Disabled) else {
            self.0.store(None);
            return;
        };
        let former = self.0.load_full();
        if former
            .as_ref()
            .is_some_and(|former| former.settings == *settings && former.mode == mode)
        {
            return;
        }
        let known = former.as_ref().and_then(|former| former.adaptive.as_ref());
        let known = known.map(|aimd| aimd.lock().unwrap_or_else(PoisonError::into_inner).limit());
        let adaptive = (settings.concurrency_type == ConcurrencyType::Adaptive)
            .then(|| Aimd::new(settings.min, settings.max, known.unwrap_or(settings.initial)));
        let most = adaptive.as_ref().map_or(settings.max, Aimd::limit);
        let places = former.map_or_else(|| Bulkhead::new(0), |former| former.places.clone());
        places.resize(usize::try_from(most).unwrap_or(usize::MAX));
        self.0.store(Some(Arc::new(Limit {
            settings: settings.clone(),
            mode,
            places,
            queued: AtomicUsize::new(0),
            flowing_at: AtomicU64::new(CoarseClock.millis()),
            adaptive: adaptive.map(Mutex::new),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            clock: CoarseClock,
        })));
    }

    /// A place; none where there is no limit.
    ///
    /// # Errors
    /// When there is none in time; the text says so.
    pub(crate) async fn enter(&self) -> Result<Option<Place>, &'static str> {
        let Some(limit) = self.0.load_full() else {
            return Ok(None);
        };
        match limit.place().await {
            Ok(place) => {
                limit.allowed.fetch_add(1, Ordering::Relaxed);
                Ok(Some(Place {
                    limit,
                    began: Instant::now(),
                    missed: false,
                    _place: place,
                }))
            }
            Err(_) if limit.mode == Mode::Shadow => Ok(None),
            Err(reason) => {
                limit.refused.fetch_add(1, Ordering::Relaxed);
                Err(reason)
            }
        }
    }

    pub(crate) fn report(&self) -> impl Iterator<Item = LimitReport> + use<> {
        self.0.load_full().into_iter().map(|limit| LimitReport {
            name: "concurrency".to_owned(),
            kind: LimitKind::Concurrency,
            // A number found by measuring moves all the time and must not wake who waits for a change.
            limit: u64::from(limit.settings.max),
            in_use: limit.places.in_flight() as u64,
            allowed: limit.allowed.load(Ordering::Relaxed),
            refused: limit.refused.load(Ordering::Relaxed),
            degraded: false,
        })
    }
}

impl Limit {
    async fn place(&self) -> Result<BulkheadPermit, &'static str> {
        if self.queued.load(Ordering::Relaxed) == 0
            && let Ok(place) = self.places.try_acquire()
        {
            self.flowing_at.store(self.clock.millis(), Ordering::Relaxed);
            return Ok(place);
        }
        let Some(_queued) = Queued::enter(&self.queued, self.settings.max_queue) else {
            return Err("this service handles as many requests as it can");
        };
        let stands = self
            .clock
            .millis()
            .saturating_sub(self.flowing_at.load(Ordering::Relaxed))
            > STANDING;
        let longest = self.settings.queue_timeout.get();
        let wait = if stands { longest.min(TARGET) } else { longest };
        self.places
            .acquire(wait)
            .await
            .map_err(|_| "this service was not free in time")
    }
}

/// A place in the queue.
struct Queued<'gate>(&'gate AtomicUsize);

impl<'gate> Queued<'gate> {
    fn enter(queued: &'gate AtomicUsize, most: u32) -> Option<Self> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let join = |count: usize| (count < most).then_some(count + 1);
        queued
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, join)
            .ok()
            .map(|_| Self(queued))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Place {
    /// Notes whether the answer missed its deadline.
    pub(crate) const fn answered(mut self, missed: bool) -> Self {
        self.missed = missed;
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(adaptive) = &self.limit.adaptive else { return };
        let in_flight = u32::try_from(self.limit.places.in_flight()).unwrap_or(u32::MAX);
        let mut adaptive = adaptive.lock().unwrap_or_else(PoisonError::into_inner);
        let before = adaptive.limit();
        let now = self.limit.clock.millis();
        let latency = (!self.missed).then(|| self.began.elapsed());
        adaptive.answered(latency, in_flight, now);
        if adaptive.limit() != before {
            self.limit
                .places
                .resize(usize::try_from(adaptive.limit()).unwrap_or(usize::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(settings: &Concurrency) -> Gate {
        let gate = Gate::default();
        gate.configure(Some(settings), Mode::Enforce);
        gate
    }

    #[tokio::test]
    async fn no_more_than_the_limit_and_a_place_comes_back() {
        let gate = gate(&Concurrency {
            max: 2,
            ..Concurrency::default()
        });
        let first = gate.enter().await.unwrap();
        let _second = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_err());
        drop(first);
        gate.enter().await.unwrap();
        assert!(gate.enter().await.is_ok(), "the third was dropped at once");
    }

    #[tokio::test]
    async fn who_queues_waits_and_a_full_queue_refuses_at_once() {
        let queue_timeout = valerix_policy::Duration::from_millis(500);
        let gate = Arc::new(gate(&Concurrency {
            max: 1,
            max_queue: 1,
            queue_timeout,
            ..Concurrency::default()
        }));
        let place = gate.enter().await.unwrap();
        let waiting = gate.clone();
        let queued = tokio::spawn(async move { waiting.enter().await.is_ok() });
        tokio::task::yield_now().await;
        assert!(gate.enter().await.is_err(), "the queue has one place");
        drop(place);
        assert!(queued.await.unwrap());
    }

    #[tokio::test]
    async fn shadow_and_disabled_let_all_pass() {
        let settings = Concurrency {
            max: 1,
            ..Concurrency::default()
        };
        for mode in [Mode::Shadow, Mode::Disabled] {
            let gate = Gate::default();
            gate.configure(Some(&settings), mode);
            let _first = gate.enter().await.unwrap();
            assert!(gate.enter().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_reload_keeps_places_that_are_taken() {
        let gate = gate(&Concurrency {
            max: 2,
            ..Concurrency::default()
        });
        let _held = [gate.enter().await.unwrap(), gate.enter().await.unwrap()];
        gate.configure(
            Some(&Concurrency {
                max: 3,
                ..Concurrency::default()
            }),
            Mode::Enforce,
        );
        let _third = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_err());
    }
}
