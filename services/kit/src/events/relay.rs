//! Publishes the outbox: lock rows, publish, mark, commit. A crash in between publishes them again, with the same ids.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_resilience::Backoff;

use super::{EventBus, LastFailure, inbox, outbox};
use crate::metrics::Metrics;

const BATCH: i64 = 200;
const POLL: Duration = Duration::from_millis(200);
/// Rows are locked while they are published, and Postgres ends a transaction that idles for 5 s.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// Publishes one database's outbox; several may run at once. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    pool: PgPool,
    bus: Arc<dyn EventBus>,
    wake: Arc<Notify>,
    metrics: Metrics,
}

/// Why a batch was not published.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Postgres did not do it.
    #[error("failed to read or mark the outbox: {0}")]
    Database(#[source] sqlx::Error),
    /// The bus took none of the rows.
    #[error("failed to publish: {0}")]
    Bus(#[source] super::BusError),
    /// The bus did not answer in time.
    #[error("failed to publish within {} ms", PUBLISH_TIMEOUT.as_millis())]
    Timeout,
}

impl Relay {
    /// A relay from `pool` to `bus`.
    pub fn new(pool: PgPool, bus: Arc<dyn EventBus>, metrics: Metrics) -> Self {
        Self {
            pool,
            bus,
            wake: Arc::new(Notify::new()),
            metrics,
        }
    }

    /// There may be something to publish: call it after a commit, so that the event need not wait for the next look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Publishes what is due, once; returns how many rows were published.
    ///
    /// # Errors
    /// When nothing could be published though something was due, or Postgres did not answer.
    pub async fn publish_batch(&self) -> Result<usize, RelayError> {
        let mut transaction = crate::postgres::begin(&self.pool).await.map_err(RelayError::Database)?;
        let events = outbox::lock_batch(&mut transaction, BATCH)
            .await
            .map_err(RelayError::Database)?;
        if events.is_empty() {
            return Ok(0);
        }
        let outcomes = tokio::time::timeout(PUBLISH_TIMEOUT, self.bus.publish(&events))
            .await
            .map_err(|_| RelayError::Timeout)?;
        let mut published = Vec::with_capacity(events.len());
        let mut away = None;
        for (event, outcome) in events.iter().zip(outcomes) {
            match outcome {
                Ok(()) => published.push(event.id),
                // Not the row's fault: it is tried again as soon as the bus answers.
                Err(error) if error.unavailable => away = Some(error),
                Err(error) => {
                    tracing::warn!(event = %event.id, %error, "an outbox row could not be published");
                    self.metrics.events_published.with_label_values(&["failed"]).inc();
                    outbox::mark_failed(&mut transaction, event.id, &error.to_string())
                        .await
                        .map_err(RelayError::Database)?;
                }
            }
        }
        outbox::mark_published(&mut transaction, &published)
            .await
            .map_err(RelayError::Database)?;
        transaction.commit().await.map_err(RelayError::Database)?;
        self.metrics
            .events_published
            .with_label_values(&["published"])
            .inc_by(published.len() as u64);
        match away {
            Some(error) if published.is_empty() => Err(RelayError::Bus(error)),
            _ => Ok(published.len()),
        }
    }

    /// Publishes until `stop`, then once more, so that what the last requests wrote leaves with them.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut last = LastFailure::default();
        while !stop.is_cancelled() {
            let pause = match self.publish_batch().await {
                Ok(0) => {
                    backoff.reset();
                    last.clear();
                    POLL
                }
                // There may be more, or later versions of the same aggregates.
                Ok(_) => {
                    backoff.reset();
                    last.clear();
                    continue;
                }
                Err(error) => {
                    if last.is_new(&error) {
                        tracing::warn!(%error, "the relay could not publish, trying until it can");
                    }
                    backoff.next_delay()
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.publish_batch().await {
            tracing::info!(%error, "the outbox was left for the next relay");
        }
    }

    /// Measures the outbox, and deletes rows of both tables that are too old, until `stop`. A task beside
    /// [`run`](Self::run): an hour's worth of old rows must not hold up what is to be published now.
    pub async fn keep_up(self, stop: CancellationToken) {
        let mut pruned: Option<Instant> = None;
        while !stop.is_cancelled() {
            if let Ok(backlog) = outbox::backlog(&self.pool).await {
                self.metrics.outbox_unpublished.set(backlog.rows);
                self.metrics.outbox_oldest_seconds.set(backlog.oldest_seconds);
            }
            if pruned.is_none_or(|last| last.elapsed() > PRUNE_INTERVAL) {
                pruned = Some(Instant::now());
                while !stop.is_cancelled() && outbox::prune(&self.pool, outbox::RETENTION).await.is_ok_and(is_full) {}
                while !stop.is_cancelled() && inbox::prune(&self.pool, inbox::RETENTION).await.is_ok_and(is_full) {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(MEASURE_INTERVAL) => {}
            }
        }
    }
}

/// Whether a statement that deletes so many rows at most has left some.
fn is_full(deleted: u64) -> bool {
    deleted == outbox::PRUNE_BATCH
}
