//! Faults that an experiment asks this process to show, each ended by the process's own monotonic clock.
//!
//! `admission` decides once per run whether a fault is obeyed and until when; `Faults` keeps what is active where the
//! server layer and the client look, and `severed` cuts what is under way. When none is active, they pay one relaxed load;
//! where the policy allows that one begins, they also wait for that.

mod admission;
mod effects;
mod inject;
mod marker;
mod severed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;
use valerix_policy::{Admission, FaultReport, FaultState, FaultType, Faults as Document};

pub use self::inject::{AbortConnection, Injection};

use self::admission::{FaultDecision, Known, Pod};
pub(crate) use self::effects::Crash;
use self::effects::Effects;
use self::inject::Active;
pub(crate) use self::marker::Markers;
pub(crate) use self::severed::{BoxError, CUT_OFF, Severed, SeveredBody};
use crate::metrics::Metrics;
use crate::random::Random;

/// Runs that are remembered, so that none is obeyed twice.
const REMEMBERED: usize = 64;

/// The faults of this process.
#[derive(Debug)]
pub struct Faults {
    any: AtomicBool,
    /// Whether the policy in force lets one begin.
    allowed: AtomicBool,
    active: ArcSwap<Vec<Active>>,
    known: Mutex<Vec<Known>>,
    markers: Markers,
    pod: Pod,
    random: Arc<Random>,
    effects: Effects,
    changes: watch::Sender<u64>,
    pub(crate) metrics: Metrics,
}

impl Faults {
    pub(crate) fn new(
        pod_uid: String,
        started: std::time::Instant,
        markers: Markers,
        crash: Crash,
        metrics: Metrics,
        random: Arc<Random>,
    ) -> Self {
        Self {
            any: AtomicBool::new(false),
            allowed: AtomicBool::new(false),
            active: ArcSwap::from_pointee(Vec::new()),
            known: Mutex::new(Vec::new()),
            markers,
            pod: Pod { uid: pod_uid, started },
            random,
            effects: Effects::new(crash),
            changes: watch::Sender::new(0),
            metrics,
        }
    }

    /// Counts every change of what is active: for who must cut what is open when a fault begins.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says what the policy that comes into force allows.
    pub(crate) fn admit(&self, admission: Admission) {
        let allowed = cfg!(feature = "faults") && admission == Admission::Allowed;
        self.allowed.store(allowed, Ordering::Release);
    }

    fn may_begin(&self) -> bool {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Takes a document: new runs are decided on, runs that it no longer names end. Returns the moment at which the
    /// next fault ends by itself.
    pub(crate) fn apply(&self, document: &Document, admission: Admission, now: DateTime<Utc>) -> Option<Instant> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for run in known.iter_mut() {
            run.listed = false;
        }
        for entry in document
            .faults
            .iter()
            .filter(|entry| entry.pod_uids.contains(&self.pod.uid))
        {
            if entry.fault.fault_type() == FaultType::PodKill {
                continue;
            }
            match known.iter_mut().find(|run| run.entry.run == entry.run) {
                Some(run) => run.listed = true,
                None => {
                    let decision = admission::decide(entry, admission, &self.pod, &self.markers, now);
                    if let FaultDecision::Active { .. } = decision {
                        tracing::warn!(run = %entry.run, fault = entry.fault.fault_type().as_str(), "fault begins");
                    }
                    known.push(Known {
                        entry: entry.clone(),
                        decision,
                        listed: true,
                        hits: Arc::default(),
                    });
                }
            }
        }
        for run in known
            .iter_mut()
            .filter(|run| matches!(run.decision, FaultDecision::Active { .. }))
        {
            if !run.listed {
                run.decision = FaultDecision::Ended {
                    reason: Some("the experiment withdrew it".to_owned()),
                };
            } else if admission == Admission::Denied {
                run.decision = FaultDecision::Ended {
                    reason: Some(admission::DENIED.to_owned()),
                };
            }
        }
        while known.len() > REMEMBERED {
            let Some(oldest) = known.iter().position(|run| !run.listed) else {
                break;
            };
            known.remove(oldest);
        }
        self.publish(&known)
    }

    /// Marks what is over as ended. Returns the moment of the next end.
    pub(crate) fn expire(&self) -> Option<Instant> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for run in known.iter_mut() {
            if matches!(run.decision, FaultDecision::Active { until } if until <= Instant::now()) {
                run.decision = FaultDecision::Ended { reason: None };
                tracing::warn!(run = %run.entry.run, "fault ended on time");
            }
        }
        self.publish(&known)
    }

    fn publish(&self, known: &[Known]) -> Option<Instant> {
        let active: Vec<Active> = known.iter().filter_map(Active::new).collect();
        let next = active.iter().map(|fault| fault.until).min();
        self.any.store(!active.is_empty(), Ordering::Release);
        self.effects.follow(&active);
        self.active.store(Arc::new(active));
        self.changes.send_modify(|changes| *changes += 1);
        next
    }

    /// What the report shows: every fault of the document that names this pod.
    #[must_use]
    pub fn report(&self) -> Vec<FaultReport> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let listed = known.iter().filter(|run| run.listed);
        listed
            .map(|run| {
                let (state, reason, remaining_ms) = match &run.decision {
                    FaultDecision::Active { until } => {
                        let left = until.saturating_duration_since(now);
                        if left.is_zero() {
                            (FaultState::Ended, None, 0)
                        } else {
                            (
                                FaultState::Active,
                                None,
                                u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
                            )
                        }
                    }
                    FaultDecision::Ended { reason } => (FaultState::Ended, reason.clone(), 0),
                    FaultDecision::Refused { reason } => (FaultState::Refused, Some(reason.clone()), 0),
                };
                let fault_type = run.entry.fault.fault_type();
                FaultReport {
                    run: run.entry.run.clone(),
                    fault_type,
                    state,
                    reason,
                    remaining_ms,
                    hits: Some(run.hits.load(Ordering::Relaxed)),
                }
            })
            .collect()
    }

    /// What to do to a request, decided anew for each. Costs one relaxed load while no fault is active.
    #[must_use]
    #[inline]
    pub fn inbound(&self, method: &str, path: &str) -> Option<Injection> {
        if self.any.load(Ordering::Relaxed) {
            self.inbound_active(method, path)
        } else {
            None
        }
    }

    #[cold]
    fn inbound_active(&self, method: &str, path: &str) -> Option<Injection> {
        let now = Instant::now();
        let active = self.active.load();
        let injection = active.iter().filter(|fault| fault.until > now).find_map(|fault| {
            let injection = fault.inbound(method, path, &self.random)?;
            Some((injection.until(fault.until - now), fault.fault_type))
        });
        injection.map(|(injection, fault_type)| {
            self.metrics.injected(fault_type.as_str());
            injection
        })
    }
}

impl Faults {
    /// Waits out an injected delay, or less: a fault that is withdrawn meanwhile holds nobody any longer.
    pub async fn hold(&self, delay: std::time::Duration) {
        let mut changes = self.changes();
        let delays = || {
            let active = self.active.load();
            active.iter().any(|fault| fault.fault_type == FaultType::Latency)
        };
        let withdrawn = async { while delays() && changes.changed().await.is_ok() {} };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = withdrawn => {}
        }
    }

    /// Whether calls to `peer` (a service's name) must fail as if it could not be reached.
    #[must_use]
    #[inline]
    pub fn cuts_calls_to(&self, peer: &str) -> bool {
        self.any.load(Ordering::Relaxed) && self.cut(peer, valerix_policy::PartitionDirection::Egress)
    }

    /// Whether requests of `client` (the value of `Valerix-Client`, `namespace/service`) must be reset.
    #[must_use]
    #[inline]
    pub fn cuts_requests_of(&self, client: &str) -> bool {
        self.any.load(Ordering::Relaxed) && self.cut(client, valerix_policy::PartitionDirection::Ingress)
    }

    #[cold]
    fn cut(&self, peer: &str, direction: valerix_policy::PartitionDirection) -> bool {
        let now = Instant::now();
        let active = self.active.load();
        let cut = active
            .iter()
            .find(|fault| fault.until > now && fault.cuts(peer, direction));
        if let Some(fault) = cut {
            fault.hit();
            self.metrics.injected(FaultType::Partition.as_str());
        }
        cut.is_some()
    }

    /// Whether the main port must reset every connection: open ones too.
    #[must_use]
    pub fn refuses_connections(&self) -> bool {
        self.refuses(|_| true)
    }

    /// Whether a request for `path` that is under way must be reset.
    #[cfg(feature = "axum")]
    pub(crate) fn severs(&self, path: &str) -> bool {
        self.refuses(|fault| !fault.spares(path))
    }

    fn refuses(&self, is_meant: impl Fn(&Active) -> bool) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        let active = self.active.load();
        let mut refusing = active.iter().filter(|fault| fault.fault_type == FaultType::Refuse);
        refusing.any(|fault| fault.until > now && is_meant(fault))
    }
}
