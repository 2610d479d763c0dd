//! The library at run time: what is in force, who is called, and the task that keeps both true to the mounted folder.

mod builder;
#[cfg(feature = "metrics")]
mod gauges;
#[cfg(all(feature = "axum", feature = "redis"))]
mod redis;
mod reload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use valerix_policy::{Faults as FaultsDocument, Policy, PolicyReport, PolicySource, Report};

pub use self::builder::{Builder, StartError};
use crate::clock::WallClock;
use crate::faults::Faults;
use crate::metrics::Metrics;
use crate::outbound::Target;

/// How long a start waits for Redis, where a rule needs it.
#[cfg(all(feature = "axum", feature = "redis"))]
const REDIS_PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Everything of the library that a service holds. Clones share it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use valerix_resilience::Resilience;
///
/// let resilience = Resilience::builder().service("order").start().await?;
/// assert_eq!(resilience.report().service, "order");
/// # Ok::<(), valerix_resilience::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Resilience(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    service: String,
    namespace: String,
    pod_uid: String,
    state_folder: Option<PathBuf>,
    pub(crate) in_force: ArcSwap<InForce>,
    replicas: AtomicU32,
    #[cfg(feature = "axum")]
    pub(crate) rules: ArcSwap<crate::limits::RuleSet>,
    pub(crate) gate: crate::concurrency::Gate,
    targets: RwLock<BTreeMap<String, Arc<Target>>>,
    pub(crate) faults: Arc<Faults>,
    read: Mutex<Read>,
    /// The hash of the faults document in force.
    faults_hash: ArcSwapOption<String>,
    revision: watch::Sender<u64>,
    #[cfg(all(feature = "axum", feature = "redis"))]
    redis: self::redis::Redis,
    metrics: Metrics,
    tasks: TaskTracker,
    wall_clock: WallClock,
    _follower: DropGuard,
}

/// The policy in force and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    report: PolicyReport,
    #[cfg(feature = "axum")]
    key_routes: Vec<valerix_policy::Route>,
}

impl InForce {
    fn defaults() -> Self {
        let report = PolicyReport {
            versions: vec![valerix_policy::POLICY_VERSION],
            hash: None,
            source: PolicySource::Defaults,
            loaded_at: None,
            error: None,
            ignored_fields: Vec::new(),
        };
        Self::new(Policy::default(), report)
    }

    fn new(policy: Policy, report: PolicyReport) -> Self {
        Self {
            // Validated with the document.
            #[cfg(feature = "axum")]
            key_routes: {
                let routes = &policy.inbound.idempotency.required_routes;
                routes.iter().filter_map(|route| route.parse().ok()).collect()
            },
            policy,
            report,
        }
    }

    /// Whether a request must have an idempotency key.
    #[cfg(feature = "axum")]
    pub(crate) fn requires_key(&self, method: &str, path: &str) -> bool {
        self.key_routes.iter().any(|route| route.matches(method, path))
    }
}

/// What was last read, so that unchanged bytes are not parsed again.
#[derive(Debug, Default)]
struct Read {
    policy: Option<String>,
    faults: Option<String>,
    runtime: Option<String>,
    faults_document: FaultsDocument,
}

impl Resilience {
    /// Begins with what the environment says; see [`Builder`].
    #[must_use]
    pub fn builder() -> Builder {
        Builder::from_environment()
    }

    /// What this process would answer on `GET /resilience`.
    #[must_use]
    pub fn report(&self) -> Report {
        self.0.report(self.0.wall_clock.now())
    }

    /// The faults that this process shows, for who owns listeners and connections.
    #[must_use]
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.0.faults)
    }

    /// The called service of that name; made with the defaults where the document does not name it.
    #[must_use]
    pub fn target(&self, name: &str) -> Arc<Target> {
        self.0.target(name)
    }

    /// The times of idempotency keys in the policy in force; ask anew for each request.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn idempotency(&self) -> crate::idempotency::Idempotency {
        let settings = &self.0.in_force.load().policy.inbound.idempotency;
        crate::idempotency::Idempotency::new(settings.ttl.get(), settings.lock_timeout.get())
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.0.in_force.load().policy.clone()
    }

    /// The name of the first of the policy's targets that `wanted` takes by its URL.
    #[must_use]
    pub fn target_at(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let in_force = self.0.in_force.load();
        let mut targets = in_force.policy.targets.iter();
        let found = targets.find(|target| target.url.as_deref().is_some_and(&wanted));
        found.map(|target| target.name.clone())
    }

    /// Pods of this service that are ready, at least 1.
    #[must_use]
    pub fn ready_replicas(&self) -> u32 {
        self.0.replicas.load(Ordering::Relaxed)
    }

    /// The handlers that still run, those whose callers have gone included. Close it and wait for it to drain.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// `namespace/service`, what calls say of themselves.
    #[must_use]
    pub fn identity(&self) -> String {
        self.0.identity()
    }

    /// Counts every change that the report's entity tag shows.
    #[cfg(feature = "axum")]
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    #[cfg(feature = "axum")]
    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    fn identity(&self) -> String {
        if self.namespace.is_empty() {
            self.service.clone()
        } else {
            format!("{}/{}", self.namespace, self.service)
        }
    }

    /// Where a rule needs Redis and Redis is there, the first request shall find it connected.
    #[cfg(all(feature = "axum", feature = "redis"))]
    async fn redis_is_near(&self) {
        if self.rules.load().is_shared()
            && let Some(redis) = self.redis.get()
        {
            redis.connected(REDIS_PATIENCE).await;
        }
    }

    fn target(&self, name: &str) -> Arc<Target> {
        if let Some(target) = self.targets.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(target);
        }
        let in_force = self.in_force.load();
        let settings = in_force
            .policy
            .target(name)
            .cloned()
            .unwrap_or_else(|| valerix_policy::Target::named(name));
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        let target = targets.entry(name.to_owned()).or_insert_with(|| {
            let target = Target::new(&settings, in_force.policy.mode, self.metrics.clone());
            let revision = self.revision.clone();
            let name = name.to_owned();
            target.on_transition(move |host, transition| {
                tracing::warn!(target_name = %name, ?host, from = transition.from.as_str(), to = transition.to.as_str(), "circuit");
                revision.send_modify(|revision| *revision += 1);
            });
            Arc::new(target)
        });
        Arc::clone(target)
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn report(&self, now: DateTime<Utc>) -> Report {
        let in_force = self.in_force.load();
        let targets = self.known_targets();
        let mut limits: Vec<_> = targets.iter().map(|target| target.limit_report()).collect();
        #[cfg(feature = "axum")]
        limits.extend(self.rules.load().report());
        limits.extend(self.gate.report());
        Report {
            pod_uid: self.pod_uid.clone(),
            service: self.service.clone(),
            now,
            policy: in_force.report.clone(),
            faults_hash: self.faults_hash.load().as_deref().cloned(),
            circuit_breakers: targets
                .iter()
                .flat_map(|target| target.breaker_reports(now, targets.len()))
                .collect(),
            limits,
            faults: self.faults.report(),
        }
    }

    #[cfg(feature = "axum")]
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    #[cfg(feature = "axum")]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
