//! The library at run time: what is in force, who is called, and the task that keeps both true to the mounted folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use valerix_policy::{
    Admission, Faults as FaultsDocument, Policy, PolicyReport, PolicySource, Report, Route, Runtime as RuntimeDocument,
};

use crate::clock::WallClock;
use crate::documents::{self, File, Reading, Watch};
use crate::faults::{Crash, Faults, Markers};
use crate::limits::{RedisLimits, RedisSettings};
use crate::metrics::{Gauge, Metrics, Sample, Scraped};
use crate::outbound::Target;
use crate::random::Random;

/// How long a start waits for Redis, where a rule needs it.
#[cfg(feature = "axum")]
const REDIS_PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Failed to start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The registry has metrics of the same names, or the library was started on it twice.
    #[error("failed to register the metrics of resilience: {source}; give each instance its own registry")]
    Metrics {
        /// What prometheus said.
        source: prometheus::Error,
    },
    /// The URL for shared limits is none.
    #[cfg(feature = "redis")]
    #[error("failed to prepare shared limits: {source}")]
    Redis {
        /// Which one, and why.
        source: crate::limits::InvalidRedisUrl,
    },
}

impl StartError {
    /// A short word for logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Metrics { .. } => "Metrics",
            #[cfg(feature = "redis")]
            Self::Redis { .. } => "Redis",
        }
    }
}

/// Where the library runs and what it reads. Begins with what the environment says.
#[derive(Clone)]
pub struct Builder {
    policy_folder: Option<PathBuf>,
    state_folder: Option<PathBuf>,
    service: String,
    namespace: String,
    pod_uid: String,
    registry: Option<Registry>,
    crash: Crash,
    pub(crate) redis: RedisSettings,
    wall_clock: WallClock,
    fault_random: Arc<Random>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Reads `VALERIX_POLICY_DIR`, `VALERIX_STATE_DIR`, `VALERIX_SERVICE`, `VALERIX_NAMESPACE`, `VALERIX_POD_UID`; with
    /// the feature `redis` also `REDIS_LIMITS_URL`, `REDIS_URL` and `REDIS_PREFIX`.
    fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            policy_folder: text("VALERIX_POLICY_DIR").map(PathBuf::from),
            state_folder: text("VALERIX_STATE_DIR").map(PathBuf::from),
            service: text("VALERIX_SERVICE").unwrap_or_default(),
            namespace: text("VALERIX_NAMESPACE").unwrap_or_default(),
            pod_uid: text("VALERIX_POD_UID").unwrap_or_default(),
            registry: None,
            crash: Arc::new(|| std::process::abort()),
            redis: RedisSettings::from_environment(),
            wall_clock: WallClock::new(Utc::now),
            fault_random: Arc::new(Random::from_entropy()),
        }
    }

    /// The folder with `policy.v1.json`, `faults.json` and `runtime.json`. Without one the defaults are in force.
    #[must_use]
    pub fn policy_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.policy_folder = Some(folder.into());
        self
    }

    /// A folder that outlives the process: the last good policy and the marks of faults.
    #[must_use]
    pub fn state_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state_folder = Some(folder.into());
        self
    }

    /// The name of this service.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// The namespace of this service.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = name.into();
        self
    }

    /// The UID of this pod; without one no fault is obeyed.
    #[must_use]
    pub fn pod_uid(mut self, uid: impl Into<String>) -> Self {
        self.pod_uid = uid.into();
        self
    }

    /// Registers the metrics there.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// What a crash fault does instead of aborting the process. For tests.
    #[must_use]
    pub fn on_crash(mut self, crash: impl Fn() + Send + Sync + 'static) -> Self {
        self.crash = Arc::new(crash);
        self
    }

    /// Tells the wall time instead of the system. For tests: what a stepped clock must not change.
    #[must_use]
    pub fn wall_clock(mut self, now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        self.wall_clock = WallClock::new(now);
        self
    }

    /// Makes it repeatable which requests a fault hits. For tests.
    #[must_use]
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.fault_random = Arc::new(Random::seeded(seed));
        self
    }

    /// Reads the documents once, then follows them until the last clone is dropped. A document that is missing or bad
    /// is no error here: it is reported, and the last good one or the defaults are in force.
    ///
    /// # Errors
    /// When the metrics cannot be registered, or the URL of Redis is none.
    pub async fn start(self) -> Result<Resilience, StartError> {
        let metrics = Metrics::new();
        let revision = watch::Sender::new(0);
        let redis = self.redis.open(metrics.clone(), revision.clone())?;
        let cancelled = CancellationToken::new();
        let inner = Arc::new(Inner {
            service: self.service,
            namespace: self.namespace,
            pod_uid: self.pod_uid.clone(),
            state_folder: self.state_folder.clone(),
            in_force: ArcSwap::from_pointee(InForce::defaults()),
            replicas: AtomicU32::new(1),
            #[cfg(feature = "axum")]
            rules: ArcSwap::default(),
            gate: crate::concurrency::Gate::default(),
            targets: RwLock::default(),
            faults: Arc::new(Faults::new(
                self.pod_uid,
                started(),
                Markers::new(self.state_folder),
                self.crash,
                metrics.clone(),
                self.fault_random,
            )),
            read: Mutex::default(),
            revision,
            redis,
            metrics,
            tasks: TaskTracker::new(),
            wall_clock: self.wall_clock,
            _follower: cancelled.clone().drop_guard(),
        });
        if let Some(registry) = &self.registry {
            inner
                .register(registry)
                .map_err(|source| StartError::Metrics { source })?;
        }
        inner.restore_last_good();
        if let Some(folder) = self.policy_folder {
            // Watch first, read then: no change falls between the two.
            let watch = Watch::new(folder.clone());
            let next_end = inner.reload(documents::read(&folder), inner.wall_clock.now());
            tokio::spawn(follow(Arc::downgrade(&inner), watch, folder, next_end, cancelled));
        }
        inner.redis_is_near().await;
        Ok(Resilience(inner))
    }
}

/// When this process began, by a clock that nobody sets.
fn started() -> std::time::Instant {
    static STARTED: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    *STARTED.get_or_init(std::time::Instant::now)
}

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
    revision: watch::Sender<u64>,
    redis: Option<RedisLimits>,
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
    key_routes: Vec<Route>,
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
        // Validated with the document.
        let routes = &policy.inbound.idempotency.required_routes;
        let key_routes = routes.iter().filter_map(|route| route.parse().ok()).collect();
        Self {
            policy,
            report,
            key_routes,
        }
    }

    /// Whether a request must have an idempotency key.
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
    /// The hash of the faults document in force.
    faults_hash: Option<String>,
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

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.0.in_force.load().policy.clone()
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
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

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
    async fn redis_is_near(&self) {
        #[cfg(feature = "axum")]
        if let Some(redis) = &self.redis
            && self.rules.load().is_shared()
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

    fn restore_last_good(&self) {
        let Some(bytes) = self.state_folder.as_deref().and_then(documents::last_good) else {
            return;
        };
        match Policy::parse(&bytes) {
            Ok(parsed) => self.put_in_force(parsed, PolicySource::LastGood, None),
            Err(error) => tracing::warn!(%error, "the policy kept by an earlier process is not good"),
        }
    }

    /// Takes what was read of the folder; only what changed is parsed. Returns when the next fault ends by itself.
    fn reload(&self, files: Reading, now: DateTime<Utc>) -> Option<Instant> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading {
            policy,
            faults,
            runtime,
        } = files;
        let replicas_changed = self
            .readable("runtime", runtime)
            .is_some_and(|bytes| self.reload_runtime(&mut read, bytes.as_deref()));
        let policy_changed = match policy {
            Ok(bytes) => self.reload_policy(&mut read, bytes.as_deref(), now),
            Err(error) => {
                // Forgotten, so that the same bytes take the error back once they can be read again.
                read.policy = None;
                self.reject(error.to_string());
                self.readable("policy", Err(error)).is_some()
            }
        };
        if replicas_changed && !policy_changed {
            self.configure(&self.in_force.load().policy, now);
        }
        let faults_changed = self
            .readable("faults", faults)
            .is_some_and(|bytes| self.reload_faults(&mut read, bytes.as_deref()));
        let admission = self.in_force.load().policy.chaos.admission;
        if !faults_changed && !policy_changed {
            return self.faults.expire();
        }
        self.faults.apply(&read.faults_document, admission, now);
        drop(read);
        self.changed();
        self.faults.expire()
    }

    /// What a file holds; one that cannot be read changes nothing, least of all does it look like one that is not there.
    fn readable(&self, document: &str, file: File) -> Option<Option<Vec<u8>>> {
        file.inspect_err(|error| {
            self.metrics.reload(document, "rejected");
            tracing::warn!(%error, "a document cannot be read");
        })
        .ok()
    }

    fn reload_runtime(&self, read: &mut Read, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes else { return false };
        let hash = valerix_policy::hash(bytes);
        if read.runtime.as_ref() == Some(&hash) {
            return false;
        }
        read.runtime = Some(hash);
        match RuntimeDocument::parse(bytes) {
            Ok(parsed) => {
                self.metrics.reload("runtime", "applied");
                let replicas = parsed.document.ready_replicas.max(1);
                self.replicas.swap(replicas, Ordering::Relaxed) != replicas
            }
            Err(error) => {
                self.metrics.reload("runtime", "rejected");
                tracing::warn!(%error, "runtime.json was not accepted");
                false
            }
        }
    }

    /// Whether a new policy came into force.
    fn reload_policy(&self, read: &mut Read, bytes: Option<&[u8]>, now: DateTime<Utc>) -> bool {
        let Some(bytes) = bytes else {
            if read.policy.take().is_some() || self.in_force.load().report.source != PolicySource::Document {
                self.reject("the folder holds no policy.v1.json: the last good policy stays in force".to_owned());
            }
            return false;
        };
        let hash = valerix_policy::hash(bytes);
        if read.policy.as_ref() == Some(&hash) {
            return false;
        }
        read.policy = Some(hash);
        match Policy::parse(bytes) {
            Ok(parsed) => {
                if let Some(folder) = &self.state_folder
                    && let Err(error) = documents::keep_last_good(folder, bytes)
                {
                    tracing::warn!(%error, folder = %folder.display(), "failed to keep the policy for a restart");
                }
                tracing::info!(hash = %parsed.hash, "policy in force");
                self.metrics.reload("policy", "applied");
                self.put_in_force(parsed, PolicySource::Document, Some(now));
                true
            }
            Err(error) => {
                tracing::warn!(category = error.category(), %error, "policy was not accepted");
                self.metrics.reload("policy", "rejected");
                self.reject(error.to_string());
                false
            }
        }
    }

    /// Whether a new faults document was taken.
    fn reload_faults(&self, read: &mut Read, bytes: Option<&[u8]>) -> bool {
        let hash = bytes.map(valerix_policy::hash);
        if read.faults == hash {
            return false;
        }
        read.faults.clone_from(&hash);
        match bytes.map_or_else(
            || Ok(FaultsDocument::default()),
            |bytes| FaultsDocument::parse(bytes).map(|parsed| parsed.document),
        ) {
            Ok(document) => {
                self.metrics.reload("faults", "applied");
                read.faults_document = document;
                read.faults_hash = hash;
                true
            }
            Err(error) => {
                // What runs goes on to its own end; the report's faultsHash shows that this one was not taken.
                self.metrics.reload("faults", "rejected");
                tracing::warn!(category = error.category(), %error, "faults.json was not accepted");
                false
            }
        }
    }

    /// Puts a policy in force in one step, with all that was learned about the targets.
    fn put_in_force(&self, parsed: valerix_policy::Parsed<Policy>, source: PolicySource, at: Option<DateTime<Utc>>) {
        let report = PolicyReport {
            versions: vec![valerix_policy::POLICY_VERSION],
            hash: Some(parsed.hash),
            source,
            loaded_at: at.or_else(|| Some(self.wall_clock.now())),
            error: None,
            ignored_fields: parsed.ignored_fields,
        };
        let now = self.wall_clock.now();
        self.in_force.store(Arc::new(InForce::new(parsed.document, report)));
        let in_force = self.in_force.load();
        for target in &in_force.policy.targets {
            self.target(&target.name);
        }
        self.configure(&in_force.policy, now);
    }

    fn configure(&self, policy: &Policy, now: DateTime<Utc>) {
        let replicas = self.replicas.load(Ordering::Relaxed);
        #[cfg(feature = "axum")]
        {
            let inbound = &policy.inbound;
            let former = self.rules.load();
            let owner = crate::limits::Owner {
                name: &self.identity(),
                replicas,
                redis: self.redis.as_ref(),
            };
            let rules = crate::limits::RuleSet::new(&inbound.rate_limit.rules, policy.mode, owner, &former);
            self.rules.store(Arc::new(rules));
        }
        self.gate.configure(policy.inbound.concurrency.as_ref(), policy.mode);
        for (name, target) in self.targets.read().unwrap_or_else(PoisonError::into_inner).iter() {
            match policy.target(name) {
                Some(settings) => target.reconfigure(settings, policy.mode, replicas, now),
                None => target.reconfigure(
                    &valerix_policy::Target::named(name.as_str()),
                    policy.mode,
                    replicas,
                    now,
                ),
            }
        }
    }

    /// Shows why a document was not taken; what is in force stays.
    fn reject(&self, error: String) {
        let error = error.chars().take(1_024).collect::<String>();
        let in_force = self.in_force.load();
        if in_force.report.error.as_ref() == Some(&error) {
            return;
        }
        let mut rejected = InForce::clone(&in_force);
        rejected.report.error = Some(error);
        self.in_force.store(Arc::new(rejected));
        self.changed();
    }

    fn report(&self, now: DateTime<Utc>) -> Report {
        let in_force = self.in_force.load();
        // One lock at a time: a reload holds the first when it asks for the second.
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let faults_hash = read.faults_hash.clone();
        drop(read);
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let mut limits: Vec<_> = targets.values().map(|target| target.limit_report()).collect();
        #[cfg(feature = "axum")]
        limits.extend(self.rules.load().report());
        limits.extend(self.gate.report());
        Report {
            pod_uid: self.pod_uid.clone(),
            service: self.service.clone(),
            now,
            policy: in_force.report.clone(),
            faults_hash,
            circuit_breakers: targets
                .values()
                .flat_map(|target| target.breaker_reports(now, targets.len()))
                .collect(),
            limits,
            faults: self.faults.report(),
        }
    }

    fn register(self: &Arc<Self>, registry: &Registry) -> Result<(), prometheus::Error> {
        self.metrics.register(registry)?;
        let inner = Arc::downgrade(self);
        registry.register(Box::new(Scraped::new(move || gauges(inner.upgrade().as_deref()))))
    }

    /// What the report says of rate limits.
    fn rate_limits(&self) -> Vec<valerix_policy::LimitReport> {
        #[cfg(feature = "axum")]
        return self.rules.load().report().collect();
        #[cfg(not(feature = "axum"))]
        Vec::new()
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// The state as gauges; without a library (it was dropped) only their names.
fn gauges(inner: Option<&Inner>) -> Vec<Gauge> {
    let targets: Vec<Arc<Target>> = inner.map_or_else(Vec::new, |inner| {
        inner
            .targets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    });
    let sample = |labels: &[&str], value: f64| Sample {
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        value,
    };
    let per_target = |value: fn(&Target) -> f64| {
        targets
            .iter()
            .map(|target| sample(&[target.name()], value(target)))
            .collect::<Vec<_>>()
    };
    let states = [
        valerix_policy::CircuitState::Closed,
        valerix_policy::CircuitState::Open,
        valerix_policy::CircuitState::HalfOpen,
    ];
    let circuit = targets.iter().flat_map(|target| {
        let current = target.state();
        states.map(|state| sample(&[target.name(), state.as_str()], f64::from(u8::from(state == current))))
    });
    let faults = inner.map_or_else(Vec::new, |inner| inner.faults.report());
    let active = faults
        .iter()
        .filter(|fault| fault.state == valerix_policy::FaultState::Active);
    let limits = inner.map_or_else(Vec::new, Inner::rate_limits);
    let degraded = limits
        .iter()
        .map(|limit| sample(&[&limit.name], f64::from(u8::from(limit.degraded))))
        .collect();
    let config = inner.map(|inner| {
        let in_force = inner.in_force.load();
        let error = if in_force.report.error.is_some() {
            "true"
        } else {
            "false"
        };
        sample(&[in_force.report.hash.as_deref().unwrap_or_default(), error], 1.0)
    });
    [
        Gauge {
            name: "resilience_circuit_state",
            help: "1 for the state of a target's circuit.",
            labels: &["target", "state"],
            samples: circuit.collect(),
        },
        Gauge {
            name: "resilience_bulkhead_inflight",
            help: "Calls under way.",
            labels: &["target"],
            samples: per_target(|target| target.bulkhead.in_flight() as f64),
        },
        Gauge {
            name: "resilience_bulkhead_limit",
            help: "Calls allowed at a time.",
            labels: &["target"],
            samples: per_target(|target| target.bulkhead.limit() as f64),
        },
        Gauge {
            name: "resilience_retry_budget_remaining",
            help: "Repetitions left.",
            labels: &["target"],
            samples: per_target(|target| target.budget.remaining() as f64),
        },
        Gauge {
            name: "resilience_fault_active",
            help: "1 while a fault is in force.",
            labels: &["run", "type"],
            samples: active
                .map(|fault| sample(&[&fault.run, fault.fault_type.as_str()], 1.0))
                .collect(),
        },
        Gauge {
            name: "resilience_ratelimit_degraded",
            help: "1 while the local share decides for a shared limit, because Redis does not answer.",
            labels: &["rule"],
            samples: degraded,
        },
        Gauge {
            name: "resilience_config_info",
            help: "1 for the hash of the policy in force.",
            labels: &["hash", "error"],
            samples: config.into_iter().collect(),
        },
    ]
    .into_iter()
    .chain(crate::concurrency::gauges(inner.and_then(|inner| inner.gate.levels())))
    .collect()
}

/// Keeps the library true to the folder until its last clone is dropped.
async fn follow(
    inner: Weak<Inner>,
    mut watch: Watch,
    folder: PathBuf,
    mut next_end: Option<Instant>,
    cancelled: CancellationToken,
) {
    loop {
        let end = async {
            match next_end {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        let fault_ended = tokio::select! {
            () = cancelled.cancelled() => return,
            () = end => true,
            () = watch.changed() => false,
        };
        let Some(inner) = inner.upgrade() else { return };
        next_end = if fault_ended {
            let next = inner.faults.expire();
            inner.changed();
            next
        } else {
            let folder = folder.clone();
            // Short, but it reads, and it writes to disk what must outlive the process: neither may hold up the runtime.
            let reload = move || inner.reload(documents::read(&folder), inner.wall_clock.now());
            let Ok(next_end) = tokio::task::spawn_blocking(reload).await else {
                return;
            };
            next_end
        };
    }
}

/// For tests and for who has no folder: puts documents in force directly.
impl Resilience {
    /// Puts a policy in force as if it had been read from the folder.
    ///
    /// # Errors
    /// When the bytes are not a good policy; what was in force stays.
    pub fn apply_policy(&self, bytes: &[u8]) -> Result<(), valerix_policy::PolicyError> {
        let parsed = Policy::parse(bytes)?;
        let admission = parsed.document.chaos.admission;
        self.0
            .put_in_force(parsed, PolicySource::Document, Some(self.0.wall_clock.now()));
        self.reapply_faults(admission);
        Ok(())
    }

    fn reapply_faults(&self, admission: Admission) {
        let read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.0
            .faults
            .apply(&read.faults_document, admission, self.0.wall_clock.now());
        drop(read);
        self.0.changed();
    }
}
