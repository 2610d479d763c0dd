//! The one connection to Redis that all shared limits of a process use: who asks has an answer within the time given
//! or knows that there is none; who lost it is connected again by one task with growing pauses. Does network IO.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::lease::{Draw, Reply, Terms};
use super::script;
use crate::metrics::Metrics;
use crate::random::Random;

/// How long a connection and the loading of the script may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Pauses between two attempts, doubled from the first to the last, each with up to half as much on top.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// A connection that lived so long was a good one: the next attempt comes soon again.
const GOOD_AFTER: Duration = Duration::from_secs(2);
/// The pause where Redis is a cluster: its keys are not where they are looked for, and waiting changes little.
const CLUSTER_PAUSE: Duration = Duration::from_secs(60);
/// Calls under way at a time; one more waits for a place, as long as it may wait at all.
const MAX_CALLS: usize = 1_024;

const IDLE: u8 = 0;
const FIRST_ATTEMPT: u8 = 1;
const UP: u8 = 2;
const DOWN: u8 = 3;

/// Told of every change between connected and not.
pub(super) type OnChange = Arc<dyn Fn() + Send + Sync>;

pub(super) struct Store {
    client: Client,
    /// What stands before every key.
    pub(super) prefix: String,
    timeout: Duration,
    digest: String,
    state: AtomicU8,
    connection: watch::Sender<Current>,
    places: Semaphore,
    metrics: Metrics,
    on_change: OnChange,
    started: AtomicBool,
    /// A key was found to be on another node of a cluster.
    is_cluster: AtomicBool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's URL may hold a password.
        formatter
            .debug_struct("Store")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The connection in use and its number; none while there was none yet, or after it was lost.
#[derive(Clone, Default)]
struct Current {
    number: u64,
    connection: Option<MultiplexedConnection>,
    lost: bool,
}

/// No answer in time, or none that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer;

impl Store {
    pub(super) fn new(
        client: Client,
        prefix: String,
        timeout: Duration,
        metrics: Metrics,
        on_change: OnChange,
    ) -> Self {
        Self {
            client,
            prefix,
            timeout,
            digest: script::digest(),
            state: AtomicU8::new(IDLE),
            connection: watch::Sender::default(),
            places: Semaphore::new(MAX_CALLS),
            metrics,
            on_change,
            started: AtomicBool::new(false),
            is_cluster: AtomicBool::new(false),
        }
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether asking makes sense.
    pub(super) fn is_usable(&self) -> bool {
        self.state.load(Ordering::Relaxed) != DOWN
    }

    /// Whether Redis was lost or never found.
    pub(super) fn is_down(&self) -> bool {
        !self.is_usable()
    }

    /// Begins to connect, if nobody did before and there is a runtime to do it in.
    pub(super) fn begin(self: &Arc<Self>) {
        if self.started.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.started.swap(true, Ordering::SeqCst) {
            let _ = self
                .state
                .compare_exchange(IDLE, FIRST_ATTEMPT, Ordering::SeqCst, Ordering::Relaxed);
            runtime.spawn(connect(Arc::downgrade(self), self.connection.subscribe()));
        }
    }

    /// Waits until the first attempt to connect came to an end, at most `within`.
    pub(super) async fn connected(&self, within: Duration) -> bool {
        let mut current = self.connection.subscribe();
        let connected = current.wait_for(|current| current.connection.is_some());
        matches!(tokio::time::timeout(within, connected).await, Ok(Ok(_)))
    }

    /// Runs the script, within `budget` or not at all. Redis counts as lost when most of the whole time was not enough.
    pub(super) async fn call(
        &self,
        name: &str,
        terms: &Terms,
        draw: &Draw,
        budget: Duration,
    ) -> Result<Reply, NoAnswer> {
        let began = Instant::now();
        let Ok(Ok(_place)) = tokio::time::timeout(budget, self.places.acquire()).await else {
            self.metrics.limit_call("busy");
            return Err(NoAnswer);
        };
        let left = budget.saturating_sub(began.elapsed());
        // Which connection was used, so that a late failure never gives up a newer one.
        let used = AtomicU64::new(self.number());
        let answer = within(left, std::pin::pin!(self.run(name, terms, draw, &used))).await;
        let (result, reason) = match answer {
            Some(Ok(reply)) => {
                self.metrics.limit_call("answered");
                return Ok(reply);
            }
            Some(Err(error)) if is_elsewhere(&error) => {
                self.is_cluster.store(true, Ordering::Relaxed);
                let remedy = "name one node, or a proxy before the cluster, by REDIS_LIMITS_URL";
                (
                    "failed",
                    format!("it is a cluster and the key is on another node: {remedy} ({error})"),
                )
            }
            Some(Err(error)) => ("failed", error.to_string()),
            None => ("timed_out", "no answer in time".to_owned()),
        };
        self.metrics.limit_call(result);
        if result == "failed" || left >= self.timeout / 4 * 3 {
            self.lose(used.into_inner(), &reason);
        }
        Err(NoAnswer)
    }

    async fn run(&self, name: &str, terms: &Terms, draw: &Draw, used: &AtomicU64) -> RedisResult<Reply> {
        let mut connection = self.current(used).await?;
        let by_digest = script::command("EVALSHA", &self.digest, name, terms, draw);
        let mut answer: RedisResult<Value> = by_digest.query_async(&mut connection).await;
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            // Restarted, emptied of scripts, or another one after a failover. Nothing ran: it may be sent again.
            let by_text = script::command("EVAL", script::TEXT, name, terms, draw);
            answer = by_text.query_async(&mut connection).await;
        }
        answer.and_then(script::reply)
    }

    /// The connection; waits for the first one.
    async fn current(&self, used: &AtomicU64) -> RedisResult<MultiplexedConnection> {
        let mut receiver = self.connection.subscribe();
        let found = receiver
            .wait_for(|current| current.connection.is_some() || current.lost)
            .await;
        let (number, connection) = found.map_or((0, None), |current| (current.number, current.connection.clone()));
        used.store(number, Ordering::Relaxed);
        connection.ok_or_else(|| RedisError::from((ErrorKind::Io, "no connection")))
    }

    /// Gives a connection up, unless another one is in use already.
    fn lose(&self, number: u64, reason: &str) {
        let lost = self.connection.send_if_modified(|current| {
            let lost = current.number == number && self.state.load(Ordering::Relaxed) != DOWN;
            if lost {
                current.connection = None;
                current.lost = true;
                self.state.store(DOWN, Ordering::Relaxed);
            }
            lost
        });
        if lost {
            tracing::warn!(
                reason,
                "shared limits fall back to the local share: Redis does not answer as it should"
            );
            (self.on_change)();
        }
    }

    fn number(&self) -> u64 {
        self.connection.borrow().number
    }

    fn found(&self, connection: MultiplexedConnection) {
        self.connection.send_modify(|current| {
            current.number += 1;
            current.connection = Some(connection);
            current.lost = false;
            self.state.store(UP, Ordering::Relaxed);
        });
        tracing::info!("shared limits are connected to Redis");
        (self.on_change)();
    }
}

/// Whether the key of a script is on another node: one connection to one node cannot follow it.
fn is_elsewhere(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, CrossSlot, Moved};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | ClusterDown | CrossSlot))
}

/// The future's result, if it comes in time. A result that is there is taken even if this task itself came late.
async fn within<F: Future + Unpin>(budget: Duration, mut future: F) -> Option<F::Output> {
    let answered = tokio::time::timeout(budget, &mut future).await;
    if let Ok(output) = answered {
        return Some(output);
    }
    // Where this process stood still, the answer may lie in the socket: the connection's task reads it now.
    for _ in 0..2 {
        tokio::task::yield_now().await;
        if let Some(output) = (&mut future).now_or_never() {
            return Some(output);
        }
    }
    None
}

/// Connects, and again whenever the connection is lost, until the store is dropped.
async fn connect(store: Weak<Store>, mut current: watch::Receiver<Current>) {
    let random = Random::from_entropy();
    let mut pause = FIRST_PAUSE;
    loop {
        let Some((client, is_cluster)) = store
            .upgrade()
            .map(|store| (store.client.clone(), store.is_cluster.swap(false, Ordering::Relaxed)))
        else {
            return;
        };
        if is_cluster {
            tokio::time::sleep(CLUSTER_PAUSE).await;
        }
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, open(&client)).await;
        let Some(found) = store.upgrade() else { return };
        match opened {
            Ok(Ok(connection)) => {
                let since = Instant::now();
                found.found(connection);
                drop(found);
                if current.wait_for(|current| current.connection.is_none()).await.is_err() {
                    return;
                }
                if since.elapsed() >= GOOD_AFTER {
                    pause = FIRST_PAUSE;
                }
            }
            Ok(Err(error)) => found.lose(found.number(), &error.to_string()),
            Err(_) => found.lose(found.number(), "no connection in time"),
        }
        let jitter = random.up_to(u64::try_from(pause.as_millis()).unwrap_or_default() / 2);
        tokio::time::sleep(pause + Duration::from_millis(jitter)).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn open(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(script::TEXT)
        .query_async::<String>(&mut connection)
        .await?;
    Ok(connection)
}
