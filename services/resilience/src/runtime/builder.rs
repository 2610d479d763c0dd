//! Where the library runs and what it reads; how it starts.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, RwLock};

use arc_swap::ArcSwap;
use chrono::Utc;
#[cfg(feature = "metrics")]
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use valerix_policy::{Parsed, Policy, PolicyError, PolicySource};

#[cfg(all(feature = "axum", feature = "redis"))]
use super::redis::{Redis, RedisOptions};
use super::reload::follow;
use super::{InForce, Inner, Resilience};
use crate::clock::WallClock;
use crate::documents::{self, Watch};
use crate::faults::{Crash, Faults, Markers};
use crate::metrics::Metrics;
use crate::random::Random;

/// Failed to start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The policy that was given is not a good one.
    #[error("failed to put the given policy in force: {source}")]
    Policy {
        /// What is wrong with it.
        source: PolicyError,
    },
    /// The registry has metrics of the same names, or the library was started on it twice.
    #[cfg(feature = "metrics")]
    #[error("failed to register the metrics of resilience: {source}; give each instance its own registry")]
    Metrics {
        /// What prometheus said.
        source: prometheus::Error,
    },
    /// The URL for shared limits is none.
    #[cfg(all(feature = "axum", feature = "redis"))]
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
            Self::Policy { .. } => "Policy",
            #[cfg(feature = "metrics")]
            Self::Metrics { .. } => "Metrics",
            #[cfg(all(feature = "axum", feature = "redis"))]
            Self::Redis { .. } => "Redis",
        }
    }
}

/// Where the library runs and what it reads. Begins with what the environment says.
#[derive(Clone)]
pub struct Builder {
    policy: Option<Policy>,
    policy_folder: Option<PathBuf>,
    state_folder: Option<PathBuf>,
    service: String,
    namespace: String,
    pod_uid: String,
    #[cfg(feature = "metrics")]
    registry: Option<Registry>,
    crash: Crash,
    #[cfg(all(feature = "axum", feature = "redis"))]
    pub(super) redis: RedisOptions,
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
    pub(super) fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            policy: None,
            policy_folder: text("VALERIX_POLICY_DIR").map(PathBuf::from),
            state_folder: text("VALERIX_STATE_DIR").map(PathBuf::from),
            service: text("VALERIX_SERVICE").unwrap_or_default(),
            namespace: text("VALERIX_NAMESPACE").unwrap_or_default(),
            pod_uid: text("VALERIX_POD_UID").unwrap_or_default(),
            #[cfg(feature = "metrics")]
            registry: None,
            crash: Arc::new(|| std::process::abort()),
            #[cfg(all(feature = "axum", feature = "redis"))]
            redis: RedisOptions::from_environment(),
            wall_clock: WallClock::new(Utc::now),
            fault_random: Arc::new(Random::from_entropy()),
        }
    }

    /// The policy to begin with, made in code: in force until the folder, if there is one, has another.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use valerix_resilience::Resilience;
    /// use valerix_resilience::policy::{Policy, Target};
    ///
    /// let mut inventory = Target::named("inventory");
    /// inventory.circuit_breaker.consecutive_failures = Some(3);
    /// let policy = Policy { targets: vec![inventory], ..Policy::default() };
    /// let resilience = Resilience::builder().policy(policy).start().await?;
    /// assert_eq!(resilience.policy().targets[0].name, "inventory");
    /// # Ok::<(), valerix_resilience::StartError>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
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
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// What a crash fault does instead of aborting the process.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn on_crash(mut self, crash: impl Fn() + Send + Sync + 'static) -> Self {
        self.crash = Arc::new(crash);
        self
    }

    /// Tells the wall time instead of the system: what a stepped clock must not change.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn wall_clock(mut self, now: impl Fn() -> chrono::DateTime<Utc> + Send + Sync + 'static) -> Self {
        self.wall_clock = WallClock::new(now);
        self
    }

    /// Makes it repeatable which requests a fault hits.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.fault_random = Arc::new(Random::seeded(seed));
        self
    }

    /// Reads the documents once, then follows them until the last clone is dropped. A document that is missing or bad
    /// is no error here: it is reported, and the last good one or the defaults are in force.
    ///
    /// # Errors
    /// When the given policy is not good, the metrics cannot be registered, or the URL of Redis is none.
    pub async fn start(self) -> Result<Resilience, StartError> {
        let metrics = Metrics::new();
        let revision = watch::Sender::new(0);
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
            faults_hash: arc_swap::ArcSwapOption::empty(),
            #[cfg(all(feature = "axum", feature = "redis"))]
            redis: Redis::new(self.redis, metrics.clone(), revision.clone())
                .map_err(|source| StartError::Redis { source })?,
            revision,
            metrics,
            tasks: TaskTracker::new(),
            wall_clock: self.wall_clock,
            _follower: cancelled.clone().drop_guard(),
        });
        #[cfg(feature = "metrics")]
        if let Some(registry) = &self.registry {
            inner
                .register(registry)
                .map_err(|source| StartError::Metrics { source })?;
        }
        if let Some(policy) = self.policy {
            let parsed: Parsed<Policy> =
                Policy::parse(policy.render().as_bytes()).map_err(|source| StartError::Policy { source })?;
            inner.put_in_force(parsed, PolicySource::Document, None);
        }
        inner.restore_last_good();
        if let Some(folder) = self.policy_folder {
            // Watch first, read then: no change falls between the two.
            let watch = Watch::new(folder.clone());
            let next_end = inner.reload(documents::read(&folder), inner.wall_clock.now());
            tokio::spawn(follow(Arc::downgrade(&inner), watch, folder, next_end, cancelled));
        }
        #[cfg(all(feature = "axum", feature = "redis"))]
        inner.redis_is_near().await;
        Ok(Resilience(inner))
    }
}

/// When this process began, by a clock that nobody sets.
fn started() -> std::time::Instant {
    static STARTED: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    *STARTED.get_or_init(std::time::Instant::now)
}

#[cfg(all(feature = "axum", feature = "redis"))]
impl Builder {
    /// The Redis for limits of scope `Distributed`, before `REDIS_LIMITS_URL` and `REDIS_URL`. It is connected when a
    /// rule needs it; one that does not answer is no error, the local share holds meanwhile.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use valerix_resilience::{Resilience, StartError};
    ///
    /// let resilience = Resilience::builder().redis_url("redis://127.0.0.1:6379/").start().await?;
    /// let error = Resilience::builder().redis_url("redis:6379").start().await.unwrap_err();
    /// assert!(matches!(error, StartError::Redis { .. }));
    /// # Ok::<(), StartError>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn redis_url(mut self, url: impl Into<String>) -> Self {
        self.redis.given = Some(url.into());
        self
    }

    /// What stands before every key in Redis, before `REDIS_PREFIX`. Default `valerix:`.
    #[must_use]
    pub fn redis_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.redis.prefix = prefix.into();
        self
    }

    /// How long a request waits for Redis before the local share decides. Default 20 ms.
    #[must_use]
    pub const fn redis_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.redis.timeout = timeout;
        self
    }
}
