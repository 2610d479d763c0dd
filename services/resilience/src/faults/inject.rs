//! What an active fault does to one request. In: the request's route and a random sequence. Out: an injection. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use valerix_policy::{Fault, FaultType, PartitionDirection, Route};

use super::admission::{FaultDecision, Known};
use crate::random::Random;

/// What to do to a request instead of, or before, handling it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
/// use valerix_resilience::{AbortConnection, Faults, Injection};
///
/// let faults: &Faults = &resilience.faults();
/// match faults.inbound("GET", "/items") {
///     Some(Injection::Delay(time)) => tokio::time::sleep(time).await,
///     Some(Injection::Status(status)) => println!("answer with {status}"),
///     Some(Injection::Abort) => println!("close the connection: {AbortConnection:?}"),
///     None => {}
/// }
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// Wait, then handle it.
    Delay(Duration),
    /// Answer with this status.
    Status(StatusCode),
    /// Close the connection without an answer.
    Abort,
}

impl Injection {
    /// The same, but over after `left`: what a fault began ends with it.
    pub(super) fn until(self, left: Duration) -> Self {
        match self {
            Self::Delay(delay) => Self::Delay(delay.min(left)),
            other => other,
        }
    }
}

/// Extension of an answer that must not be sent: who owns the connection closes it instead.
#[derive(Clone, Copy, Debug)]
pub struct AbortConnection;

/// A fault in force, ready to be asked.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) run: String,
    pub(super) until: Instant,
    pub(super) fault_type: FaultType,
    pub(super) fault: Fault,
    routes: Vec<Route>,
    spared: Vec<String>,
    hits: Arc<AtomicU64>,
}

impl Active {
    pub(super) fn new(run: &Known) -> Option<Self> {
        let FaultDecision::Active { until } = run.decision else {
            return None;
        };
        let fault = run.entry.fault.clone();
        let routes = match &fault {
            Fault {
                latency: Some(latency), ..
            } => &latency.routes[..],
            Fault {
                errors: Some(errors), ..
            } => &errors.routes[..],
            Fault { abort: Some(abort), .. } => &abort.routes[..],
            _ => &[],
        };
        // Validated with the document.
        let routes = routes.iter().filter_map(|route| route.parse().ok()).collect();
        Some(Self {
            run: run.entry.run.clone(),
            until,
            fault_type: fault.fault_type(),
            fault,
            routes,
            spared: run.entry.spared_paths.clone(),
            hits: run.hits.clone(),
        })
    }

    /// What to do to this request; counts it if something is.
    pub(super) fn inbound(&self, method: &str, path: &str, random: &Random) -> Option<Injection> {
        let injection = self.draw(method, path, random)?;
        self.hit();
        Some(injection)
    }

    /// Whether requests for `path` are none of its business: those of probes.
    pub(super) fn spares(&self, path: &str) -> bool {
        self.spared.iter().any(|spared| spared == path)
    }

    /// Counts a request that met the fault.
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    fn draw(&self, method: &str, path: &str, random: &Random) -> Option<Injection> {
        if self.spares(path) {
            return None;
        }
        if !self.routes.is_empty() && !self.routes.iter().any(|route| route.matches(method, path)) {
            return None;
        }
        if let Some(latency) = &self.fault.latency {
            return random.percent(latency.percent).then(|| {
                let jitter = latency.jitter.as_millis();
                let millis = latency.delay.as_millis().saturating_sub(jitter) + random.up_to(jitter * 2);
                Injection::Delay(Duration::from_millis(millis))
            });
        }
        if let Some(errors) = &self.fault.errors {
            let status = StatusCode::from_u16(errors.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            return random.percent(errors.percent).then_some(Injection::Status(status));
        }
        if self.fault.refuse.is_some() {
            return Some(Injection::Abort);
        }
        if let Some(abort) = &self.fault.abort {
            return random.percent(abort.percent).then_some(Injection::Abort);
        }
        None
    }
}

impl Active {
    /// Whether a partition cuts this pod from `peer`, named with or without its namespace on either side.
    pub(super) fn cuts(&self, peer: &str, direction: PartitionDirection) -> bool {
        let Some(partition) = &self.fault.partition else {
            return false;
        };
        let same_direction = partition.direction == PartitionDirection::Both || partition.direction == direction;
        let both_qualified = partition.peer.contains('/') && peer.contains('/');
        let service = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        same_direction
            && if both_qualified {
                partition.peer == peer
            } else {
                service(&partition.peer) == service(peer)
            }
    }
}
