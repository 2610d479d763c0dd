//! How many requests a service takes at a time: a fixed number with a short queue, or one found by measuring.
//!
//! The queue is controlled delay (CoDel): a queue that has not been empty for a while stands, so waiting in it helps
//! nobody, and waits shrink to a few milliseconds until it drains.

mod adaptive;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use valerix_policy::{Concurrency, ConcurrencyType, LimitKind, LimitReport, Mode, Priorities, Priority};

use self::adaptive::Aimd;
use crate::bulkhead::{Bulkhead, BulkheadPermit, Line};
use crate::clock::{Clock, MonotonicClock};
#[cfg(feature = "metrics")]
use crate::metrics::{Gauge, Sample};

/// A queue that was not empty for this long stands (milliseconds).
const STANDING: u64 = 100;
/// The wait in a standing queue.
const TARGET: Duration = Duration::from_millis(5);

/// The inbound limit of requests at a time.
#[derive(Debug, Default)]
pub(crate) struct Gate<C: Clock = MonotonicClock> {
    limit: ArcSwapOption<Limit<C>>,
    /// With full resolution: latencies are measured by it.
    clock: C,
}

#[derive(Debug)]
struct Limit<C> {
    settings: Concurrency,
    /// The routes of `settings.priorities`.
    #[cfg(feature = "axum")]
    routes: Vec<(valerix_policy::Route, Priority)>,
    mode: Mode,
    places: Bulkhead,
    /// Each line by itself: requests that pass a queue by say nothing about whether it stands.
    queues: [Queue; 2],
    adaptive: Option<Mutex<Aimd>>,
    allowed: AtomicU64,
    refused: AtomicU64,
    clock: C,
}

#[derive(Debug)]
struct Queue {
    length: AtomicUsize,
    /// When a request last found a place without waiting (milliseconds).
    flowing_at: AtomicU64,
}

/// What the gate says to a request.
#[derive(Debug)]
pub(crate) enum Entry<C: Clock = MonotonicClock> {
    /// There is no limit.
    Unlimited,
    Admitted(Place<C>),
    /// Refused in earnest; it passes because the mode is `Shadow`.
    Shadow,
    /// The text says why.
    Refused(&'static str),
}

/// A place. It is given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<C: Clock = MonotonicClock> {
    limit: Arc<Limit<C>>,
    /// Nanoseconds of the limit's clock.
    began: u64,
    permit: BulkheadPermit,
}

/// How a request ended, as far as its latency tells something about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was answered.
    Answered,
    /// Its time ran out: a drop, never a sample.
    Missed,
}

impl<C: Clock + Clone> Gate<C> {
    /// Takes new settings; requests under way keep their places, and what was found by measuring is kept.
    pub(crate) fn configure(&self, settings: Option<&Concurrency>, mode: Mode) {
        let Some(settings) = settings.filter(|_| mode != Mode::Disabled) else {
            self.limit.store(None);
            return;
        };
        let former = self.limit.load_full();
        if former
            .as_ref()
            .is_some_and(|former| former.settings == *settings && former.mode == mode)
        {
            return;
        }
        let known = former.as_ref().and_then(|former| former.adaptive.as_ref());
        let adaptive = (settings.concurrency_type == ConcurrencyType::Adaptive).then(|| match known {
            Some(known) => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.within(settings.min, settings.max)
            }
            None => Aimd::new(settings.min, settings.max, settings.initial),
        });
        let most = adaptive.as_ref().map_or(settings.max, Aimd::limit);
        let places = former.map_or_else(|| Bulkhead::new(0), |former| former.places.clone());
        places.resize(size(most));
        let queue = || Queue {
            length: AtomicUsize::new(0),
            flowing_at: AtomicU64::new(self.clock.millis()),
        };
        self.limit.store(Some(Arc::new(Limit {
            settings: settings.clone(),
            #[cfg(feature = "axum")]
            routes: routes(settings),
            mode,
            places,
            queues: [queue(), queue()],
            adaptive: adaptive.map(Mutex::new),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            clock: self.clock.clone(),
        })));
    }

    /// The priority of a request of `method` for `path` that claims `claimed` in its header.
    #[cfg(feature = "axum")]
    pub(crate) fn priority(&self, method: &str, path: &str, claimed: Option<&str>) -> Priority {
        let limit = self.limit.load();
        let Some((limit, priorities)) = limit
            .as_ref()
            .and_then(|limit| Some((limit, limit.settings.priorities.as_ref()?)))
        else {
            return Priority::default();
        };
        let route = limit.routes.iter().find(|(route, _)| route.matches(method, path));
        let route = route.map_or(Priority::default(), |(_, priority)| *priority);
        priorities.header.decide(route, claimed.and_then(Priority::from_name))
    }

    /// A place for a request of `priority`. Cancel-safe.
    pub(crate) async fn enter(&self, priority: Priority) -> Entry<C> {
        let Some(limit) = self.limit.load_full() else {
            return Entry::Unlimited;
        };
        match limit.place(priority).await {
            Ok(permit) => {
                limit.allowed.fetch_add(1, Ordering::Relaxed);
                Entry::Admitted(Place {
                    began: limit.clock.nanos(),
                    limit,
                    permit,
                })
            }
            Err(_) if limit.mode == Mode::Shadow => Entry::Shadow,
            Err(reason) => {
                limit.refused.fetch_add(1, Ordering::Relaxed);
                Entry::Refused(reason)
            }
        }
    }

    pub(crate) fn report(&self) -> Option<LimitReport> {
        self.limit.load().as_ref().map(|limit| LimitReport {
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

    /// Places there are, taken and waited for; nothing where there is no limit.
    pub(crate) fn levels(&self) -> Option<[usize; 3]> {
        let limit = self.limit.load();
        let limit = limit.as_ref()?;
        let waiting = limit
            .queues
            .iter()
            .map(|queue| queue.length.load(Ordering::Relaxed))
            .sum();
        Some([limit.places.limit(), limit.places.in_flight(), waiting])
    }
}

/// The levels as gauges; without any, only their names.
#[cfg(feature = "metrics")]
pub(crate) fn gauges(levels: Option<[usize; 3]>) -> impl Iterator<Item = Gauge> {
    let names = [
        ("resilience_concurrency_limit", "Requests handled at a time, at most."),
        ("resilience_concurrency_inflight", "Requests being handled."),
        ("resilience_concurrency_queued", "Requests waiting for a place."),
    ];
    names.into_iter().enumerate().map(move |(index, (name, help))| {
        let sample = |levels: [usize; 3]| Sample {
            labels: Vec::new(),
            value: levels[index] as f64,
        };
        Gauge {
            name,
            help,
            labels: &[],
            samples: levels.map(sample).into_iter().collect(),
        }
    })
}

/// The routes that have a priority of their own.
#[cfg(feature = "axum")]
fn routes(settings: &Concurrency) -> Vec<(valerix_policy::Route, Priority)> {
    let items = settings.priorities.iter().flat_map(|priorities| &priorities.routes);
    // Validated with the document.
    items
        .filter_map(|item| Some((item.route.parse().ok()?, item.priority)))
        .collect()
}

impl<C: Clock> Limit<C> {
    async fn place(&self, priority: Priority) -> Result<BulkheadPermit, &'static str> {
        let priorities = self.settings.priorities.as_ref();
        let percent = priorities.map_or(100, |priorities: &Priorities| priorities.percent(priority));
        let percent = size(percent);
        let line = match priorities {
            Some(_) if priority != Priority::Critical => Line::Second,
            _ => Line::First,
        };
        let queue = &self.queues[line as usize];
        // Nobody passes those who wait in the same line or in one before it.
        let ahead = self.queues[..=line as usize]
            .iter()
            .any(|queue| queue.length.load(Ordering::Relaxed) > 0);
        if !ahead && let Ok(place) = self.places.try_acquire_below(percent) {
            queue.flowing_at.store(self.clock.millis(), Ordering::Relaxed);
            return Ok(place);
        }
        if priorities.is_some() && !priority.may_wait() {
            return Err("this service keeps its remaining capacity for more important requests");
        }
        let Some(_queued) = Queued::enter(&self.queues, line, size(self.settings.max_queue)) else {
            return Err("this service handles as many requests as it can");
        };
        let flowing_at = queue.flowing_at.load(Ordering::Relaxed);
        let stands = self.clock.millis().saturating_sub(flowing_at) > STANDING;
        let longest = self.settings.queue_timeout.get();
        let wait = if stands { longest.min(TARGET) } else { longest };
        self.places
            .wait_below(percent, line, wait)
            .await
            .map_err(|_| "this service was not free in time")
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A place in the queue.
struct Queued<'gate>(&'gate AtomicUsize);

impl<'gate> Queued<'gate> {
    /// Joins a line unless `most` wait in all.
    fn enter(queues: &'gate [Queue; 2], line: Line, most: usize) -> Option<Self> {
        let other = queues[1 - line as usize].length.load(Ordering::Relaxed);
        let length = &queues[line as usize].length;
        let join = |count: usize| (count.saturating_add(other) < most).then_some(count + 1);
        length
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, join)
            .ok()
            .map(|_| Self(length))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<C: Clock> Place<C> {
    /// Learns from the end of the request and keeps the place until what is returned is dropped: a body that is sent
    /// slowly takes it as long, but its reader's slowness is no latency of this service.
    pub(crate) fn ended(self, how: Ended) -> BulkheadPermit {
        self.learn(how);
        self.permit
    }

    /// Learns from the end of the request; a place that is dropped without it (a caller that went away) teaches nothing.
    pub(crate) fn learn(&self, how: Ended) {
        if let Some(adaptive) = &self.limit.adaptive {
            let in_flight = u32::try_from(self.limit.places.in_flight()).unwrap_or(u32::MAX);
            let mut adaptive = adaptive.lock().unwrap_or_else(PoisonError::into_inner);
            let before = adaptive.limit();
            let now = self.limit.clock.nanos();
            let took = Duration::from_nanos(now.saturating_sub(self.began));
            adaptive.ended(how, took, in_flight, now / 1_000_000);
            if adaptive.limit() != before {
                self.limit.places.resize(size(adaptive.limit()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
