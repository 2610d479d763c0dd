//! Who may be sent requests, and what is wrong when something is.
//!
//! `/ready` is 503 only before the service's own start is complete (its gates), while it drains, or when the runtime's
//! watchdog missed three beats: never for a dependency lost later, because every replica shares those.
//! `/health` touches nothing. The deep check asks every dependency and is served on the report port alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Serialize;

const BEAT: Duration = Duration::from_secs(1);
const MISSED_BEATS: u32 = 3;
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// One dependency that the deep check asks.
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// Asks the dependency; the error says why it is not well.
    async fn check(&self) -> Result<(), String>;
}

/// The service's health; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    gates: Mutex<BTreeMap<&'static str, bool>>,
    checks: Mutex<BTreeMap<&'static str, Arc<dyn Check>>>,
    draining: AtomicBool,
    origin: Instant,
    last_beat: AtomicU64,
}

/// Something that must have happened before the service is ready.
#[derive(Clone)]
pub struct Gate {
    health: Health,
    name: &'static str,
}

impl Gate {
    /// It has happened.
    pub fn open(&self) {
        lock(&self.health.inner.gates).insert(self.name, true);
    }
}

/// Why the service is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The named gate has not opened yet.
    Starting(&'static str),
    /// The service is about to end.
    Draining,
    /// The runtime did not run its tasks for this long.
    Stalled(Duration),
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting(gate) => write!(formatter, "starting: {gate} is not done"),
            Self::Draining => formatter.write_str("draining"),
            Self::Stalled(time) => write!(formatter, "the runtime has been stalled for {} ms", time.as_millis()),
        }
    }
}

/// The answer of the deep check.
#[derive(Clone, Debug, Serialize)]
pub struct DeepHealth {
    /// `up` when every dependency is, else `degraded`.
    pub status: &'static str,
    /// Why the service is not ready; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// One entry per dependency.
    pub checks: Vec<CheckResult>,
}

/// What one dependency answered.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Name of the dependency.
    pub name: &'static str,
    /// `up` or `down`.
    pub status: &'static str,
    /// How long it took to answer.
    pub latency_ms: u64,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                gates: Mutex::default(),
                checks: Mutex::default(),
                draining: AtomicBool::new(false),
                origin: Instant::now(),
                last_beat: AtomicU64::new(0),
            }),
        }
    }
}

impl Health {
    /// Adds a gate, closed. The service is not ready until [`Gate::open`].
    pub fn gate(&self, name: &'static str) -> Gate {
        lock(&self.inner.gates).insert(name, false);
        Gate {
            health: self.clone(),
            name,
        }
    }

    /// Adds a dependency to the deep check.
    pub fn register(&self, name: &'static str, check: Arc<dyn Check>) {
        lock(&self.inner.checks).insert(name, check);
    }

    /// From now on `/ready` is 503.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
    }

    /// Whether the service is about to end.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// Whether every gate is open: requests can be handled at all.
    pub fn started(&self) -> Result<(), NotReady> {
        match lock(&self.inner.gates).iter().find(|(_, open)| !**open) {
            Some((name, _)) => Err(NotReady::Starting(name)),
            None => Ok(()),
        }
    }

    /// Whether new requests should be sent here.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.ready_at(self.inner.origin.elapsed())
    }

    fn ready_at(&self, now: Duration) -> Result<(), NotReady> {
        self.started()?;
        if self.is_draining() {
            return Err(NotReady::Draining);
        }
        let beat = Duration::from_millis(self.inner.last_beat.load(Ordering::Acquire));
        let silence = now.saturating_sub(beat);
        if silence > BEAT * MISSED_BEATS {
            Err(NotReady::Stalled(silence))
        } else {
            Ok(())
        }
    }

    /// Beats as long as the runtime runs its tasks. Never returns.
    pub async fn watchdog(&self) {
        let mut interval = tokio::time::interval(BEAT);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = u64::try_from(self.inner.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.inner.last_beat.store(now, Ordering::Release);
        }
    }

    /// Asks every dependency at once, each for at most two seconds.
    pub async fn deep(&self) -> DeepHealth {
        let checks: Vec<_> = lock(&self.inner.checks)
            .iter()
            .map(|(name, check)| (*name, Arc::clone(check)))
            .collect();
        let checks = futures::future::join_all(checks.into_iter().map(|(name, check)| async move {
            let begun = Instant::now();
            let outcome = tokio::time::timeout(CHECK_TIMEOUT, check.check())
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())));
            CheckResult {
                name,
                status: if outcome.is_ok() { "up" } else { "down" },
                latency_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                reason: outcome.err(),
            }
        }))
        .await;
        let up = checks.iter().all(|check| check.status == "up");
        DeepHealth {
            status: if up { "up" } else { "degraded" },
            not_ready: self.ready().err().map(|reason| reason.to_string()),
            checks,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Down;

    #[async_trait]
    impl Check for Down {
        async fn check(&self) -> Result<(), String> {
            Err("connection refused".into())
        }
    }

    #[tokio::test]
    async fn ready_follows_gates_drain_and_watchdog_but_no_dependency() {
        let health = Health::default();
        let (first, second) = (health.gate("database"), health.gate("seed"));
        assert_eq!(health.ready(), Err(NotReady::Starting("database")));
        first.open();
        assert_eq!(health.ready(), Err(NotReady::Starting("seed")));
        second.open();
        health.register("redis", Arc::new(Down));
        assert_eq!(health.ready(), Ok(()));
        assert_eq!(health.ready_at(Duration::from_secs(3)), Ok(()));
        assert_eq!(
            health.ready_at(Duration::from_millis(3001)),
            Err(NotReady::Stalled(Duration::from_millis(3001)))
        );
        let deep = health.deep().await;
        assert_eq!(
            (deep.status, deep.checks[0].reason.as_deref()),
            ("degraded", Some("connection refused"))
        );
        health.drain();
        assert_eq!(health.ready(), Err(NotReady::Draining));
    }
}
