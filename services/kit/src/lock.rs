//! A lock that many processes share through Redis, and the fencing token that makes it safe.
//!
//! A lock that ends by itself cannot stop a holder who stood still and does not know that it has ended. So each holder
//! gets a [`Fence`], a number that only grows, and writes it with whatever the lock guards: the row refuses a write whose
//! number is smaller than the one that it has seen. The lock saves work; the row keeps the truth.
//!
//! In: the lock's name, and the highest number that the row has seen. Out: a [`HeldLock`]. Redis may lose everything: the
//! next number is greater than the clock of Redis, than its counter and than what the row has seen.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};
use redis::aio::ConnectionManager;
use redis::{RedisError, Script};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use valerix_resilience::redis_client;

use crate::args::BusArgs;
use crate::metrics::Metrics;

/// Grants the lock to `ARGV[1]` for `ARGV[2]` ms and answers its number, or answers how long it is still held, negative.
/// Numbers are microseconds since 1970 and stay exact in Lua for two centuries more.
const GRANT: &str = "\
    if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
        return {'held', tostring(redis.call('PTTL', KEYS[1]))} \
    end \
    local time = redis.call('TIME') \
    local now = tonumber(time[1]) * 1000000 + tonumber(time[2]) \
    local counter = tonumber(redis.call('GET', KEYS[2]) or '0') \
    local token = string.format('%.0f', math.max(now, counter + 1, tonumber(ARGV[3]) + 1)) \
    redis.call('SET', KEYS[2], token) \
    return {'granted', token}";

/// Holds the lock for `ARGV[2]` ms more if `ARGV[1]` still has it.
const RENEW: &str = "\
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Gives the lock up if `ARGV[1]` still has it.
const RELEASE: &str = "\
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    return redis.call('DEL', KEYS[1])";

/// What a row remembers of the last one who wrote to it under the lock.
///
/// ```
/// use valerix_kit::lock::Fence;
///
/// let (first, second) = (Fence::new(7, "a"), Fence::new(8, "b"));
/// assert!(second.passes(&first) && !first.passes(&second));
/// // A holder may write more than once.
/// assert!(first.passes(&first) && !Fence::new(7, "b").passes(&first));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Greater than that of every holder before, microseconds since 1970 unless Redis' clock went back.
    pub token: i64,
    /// Who holds the lock: another one each time that it is acquired.
    pub holder: String,
}

impl Fence {
    /// The fence of `holder`.
    pub fn new(token: i64, holder: impl Into<String>) -> Self {
        let holder = holder.into();
        Self { token, holder }
    }

    /// Whether a row that has seen `last` takes a write of this holder. A statement says the same:
    /// `UPDATE .. SET token = $1, holder = $2 WHERE token < $1 OR (token = $1 AND holder = $2)`.
    pub fn passes(&self, last: &Self) -> bool {
        self.token > last.token || self == last
    }
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("failed to acquire the lock {name}: it is held")]
    Held {
        /// The lock.
        name: &'static str,
        /// It ends by then unless its holder renews it.
        retry_after: Duration,
    },
    /// Redis did not answer, or not as expected.
    #[error("failed to {action} the lock {name}")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// The lock.
        name: &'static str,
        /// What Redis or the connection said.
        #[source]
        source: RedisError,
    },
}

impl LockError {
    /// Label of the error in metrics and logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// One lock, by name; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct DistributedLock(Arc<Inner>);

struct Inner {
    name: &'static str,
    /// The holder, and the last number. In a cluster both are on one node if the prefix has a hash tag.
    keys: [String; 2],
    time_to_live: Duration,
    url: String,
    /// How long Redis is waited for. It is near, and whoever asks for a lock waits.
    patience: Duration,
    shared: OnceCell<ConnectionManager>,
    contentions: IntCounterVec,
    acquisition: Histogram,
}

impl DistributedLock {
    /// The lock `name` of everyone with this Redis and prefix. Whoever has it and does not renew it has it for
    /// `time_to_live`. Nothing is connected yet.
    ///
    /// # Errors
    /// When the metrics are defined already: there is one lock of a service.
    pub fn new(
        args: &BusArgs,
        name: &'static str,
        time_to_live: Duration,
        metrics: &Metrics,
    ) -> Result<Self, prometheus::Error> {
        let contentions = IntCounterVec::new(
            Opts::new(
                "lock_contentions_total",
                "Times that a lock was held when somebody wanted it",
            ),
            &["lock"],
        )?;
        contentions.with_label_values(&[name]).reset();
        let acquisition = Histogram::with_opts(
            HistogramOpts::new(
                "lock_acquisition_seconds",
                "Time until Redis has granted a lock that was free",
            )
            .buckets(vec![0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5]),
        )?;
        metrics.register(contentions.clone())?;
        metrics.register(acquisition.clone())?;
        let prefix = &args.redis_prefix;
        Ok(Self(Arc::new(Inner {
            name,
            keys: [format!("{prefix}lock:{name}"), format!("{prefix}lock:{name}:token")],
            time_to_live,
            url: args.redis_url.expose().to_owned(),
            patience: args.redis_timeout / 2,
            shared: OnceCell::new(),
            contentions,
            acquisition,
        })))
    }

    /// Acquires the lock; `mark` is the highest token that the guarded row has seen, read before this is called.
    /// It is renewed until the [`HeldLock`] is released or dropped.
    ///
    /// # Errors
    /// See [`LockError`]. It does not wait for a holder.
    pub async fn acquire(&self, mark: i64) -> Result<HeldLock, LockError> {
        let (fence, lost) = (self.grant(mark).await?, CancellationToken::new());
        let renewing = CancellationToken::new();
        tokio::spawn(self.clone().renew(fence.holder.clone(), lost.clone(), renewing.clone()));
        Ok(HeldLock {
            fence,
            lost,
            _renewing: Some(renewing.drop_guard()),
        })
    }

    /// As [`acquire`](Self::acquire), for a holder who may stand still: nobody renews the lock for it, and it is held until
    /// it is released or its time is over.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn acquire_once(&self, mark: i64) -> Result<HeldLock, LockError> {
        Ok(HeldLock {
            fence: self.grant(mark).await?,
            lost: CancellationToken::new(),
            _renewing: None,
        })
    }

    /// Gives `held` up at once, if it still holds the lock. A renewed one that is dropped is given up in the background.
    ///
    /// # Errors
    /// When Redis does not answer. The lock then ends by itself.
    pub async fn release(&self, held: HeldLock) -> Result<(), LockError> {
        let holder = held.fence.holder.clone();
        drop(held);
        self.call("release", RELEASE, &holder, &[]).await.map(|_: i64| ())
    }

    async fn grant(&self, mark: i64) -> Result<Fence, LockError> {
        let name = self.0.name;
        let holder = Uuid::new_v4().to_string();
        let begun = std::time::Instant::now();
        let arguments = [self.milliseconds(), mark.to_string()];
        let (outcome, number): (String, String) = self.call("acquire", GRANT, &holder, &arguments).await?;
        let number: i64 = number.parse().map_err(|_| LockError::Unavailable {
            action: "read the token of",
            name,
            source: (redis::ErrorKind::UnexpectedReturnType, "not a number").into(),
        })?;
        if outcome == "granted" {
            self.0.acquisition.observe(begun.elapsed().as_secs_f64());
            return Ok(Fence::new(number, holder));
        }
        self.0.contentions.with_label_values(&[name]).inc();
        Err(LockError::Held {
            name,
            retry_after: Duration::from_millis(u64::try_from(number).unwrap_or_default()),
        })
    }

    /// Renews the lock of `holder` until `done`. It is `lost` when somebody else may have it.
    async fn renew(self, holder: String, lost: CancellationToken, done: CancellationToken) {
        let mut safe_until = tokio::time::Instant::now() + self.0.time_to_live;
        loop {
            tokio::select! {
                () = done.cancelled() => break,
                () = tokio::time::sleep(self.0.time_to_live / 3) => {}
            }
            let asked = tokio::time::Instant::now();
            match self.call::<i64>("renew", RENEW, &holder, &[self.milliseconds()]).await {
                Ok(1..) => safe_until = asked + self.0.time_to_live,
                Ok(_) => return lost.cancel(),
                Err(error) if tokio::time::Instant::now() >= safe_until => {
                    tracing::warn!(lock = self.0.name, %error, "a lock was lost, Redis does not answer");
                    return lost.cancel();
                }
                Err(_) => {}
            }
        }
        // Released already where that was waited for; then this finds another holder, or none.
        if let Err(error) = self.call::<i64>("release", RELEASE, &holder, &[]).await {
            tracing::info!(lock = self.0.name, %error, "a lock is left to end by itself");
        }
    }

    fn milliseconds(&self) -> String {
        self.0.time_to_live.as_millis().max(1).to_string()
    }

    async fn call<T: redis::FromRedisValue>(
        &self,
        action: &'static str,
        script: &str,
        holder: &str,
        arguments: &[String],
    ) -> Result<T, LockError> {
        let Inner { name, keys, .. } = &*self.0;
        let asked = async {
            let mut connection = self.connection().await?;
            let script = Script::new(script);
            let mut call = script.key(&keys[0]);
            call.key(&keys[1]).arg(holder);
            for argument in arguments {
                call.arg(argument);
            }
            call.invoke_async(&mut connection).await
        };
        asked
            .await
            .map_err(|source| LockError::Unavailable { action, name, source })
    }

    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        let connect = || async {
            let client = redis_client::open(&self.0.url)?;
            redis_client::manager(client, self.0.patience, self.0.patience).await
        };
        self.0.shared.get_or_try_init(connect).await.cloned()
    }
}

/// A lock that was acquired. Dropped, it is no longer renewed.
#[derive(Debug)]
pub struct HeldLock {
    fence: Fence,
    lost: CancellationToken,
    _renewing: Option<DropGuard>,
}

impl HeldLock {
    /// What is written with everything that the lock guards.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Returns when somebody else may have the lock: what is still to be done will be refused.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}
