//! Publishes again what Redis has lost: everything in the outbox that was not yet published by the last note, or all that
//! it keeps where the note is gone. Consumers find what they have handled in their inboxes. One relay of a service does it at
//! a time; the others go on publishing what is new.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BusError, EventBus, LastFailure, Loss, outbox};
use crate::metrics::Metrics;

/// How often the bus is asked, and what is published noted.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one relay may be silent before another publishes again in its place.
const TURN: Duration = Duration::from_secs(10);
/// So much more than what is lost is published again: an event bears the time at which its transaction began, and nobody saw
/// it before it ended.
const MARGIN: TimeDelta = TimeDelta::minutes(1);
const PAGE: i64 = 500;

/// Watches over what one outbox has published.
#[derive(Clone)]
pub struct Republisher {
    pool: PgPool,
    bus: Arc<dyn EventBus>,
    /// Whose outbox it is: the service's name.
    outbox: String,
    /// This one of several that watch over it.
    holder: String,
    metrics: Metrics,
}

/// Why nothing could be published again.
#[derive(Debug, thiserror::Error)]
pub enum RepublishError {
    /// Postgres did not do it.
    #[error("failed to read the outbox: {0}")]
    Database(#[source] sqlx::Error),
    /// The bus did not do it.
    #[error("failed to publish again: {0}")]
    Bus(#[source] BusError),
}

impl Republisher {
    /// Watches over what the outbox of the service `outbox` in `pool` has published to `bus`.
    pub fn new(pool: PgPool, bus: Arc<dyn EventBus>, outbox: &str, metrics: Metrics) -> Self {
        Self {
            pool,
            bus,
            outbox: outbox.to_owned(),
            holder: Uuid::new_v4().to_string(),
            metrics,
        }
    }

    /// Looks every second, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut last = LastFailure::default();
        while !stop.is_cancelled() {
            match self.look(&stop).await {
                Ok(_) => last.clear(),
                Err(error) if last.is_new(&error) => {
                    tracing::warn!(%error, "it is not known whether the event bus has lost events");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Finds out whether something is lost, and publishes it again; returns how many events that were.
    ///
    /// # Errors
    /// When Postgres or the bus did not answer; what was begun is begun again by the next look.
    pub async fn look(&self, stop: &CancellationToken) -> Result<u64, RepublishError> {
        // Asked first: what is published after it is not covered by the note.
        let progress = outbox::progress(&self.pool).await;
        let outbox::Progress { complete, now } = progress.map_err(RepublishError::Database)?;
        let epoch = self.bus.epoch(&self.outbox).await.map_err(RepublishError::Bus)?;
        let since = match epoch.loss {
            Loss::Nothing => {
                self.bus
                    .note(&self.outbox, &epoch, complete)
                    .await
                    .map_err(RepublishError::Bus)?;
                return Ok(0);
            }
            Loss::Since(at) => Some(at - MARGIN),
            Loss::Everything => None,
        };
        let Some(count) = self.publish_again(since, now, stop).await? else {
            return Ok(0);
        };
        // Another loss in the meantime may have taken what was just published.
        let after = self.bus.epoch(&self.outbox).await.map_err(RepublishError::Bus)?;
        if (&after.run, &after.note) == (&epoch.run, &epoch.note) {
            self.bus
                .note(&self.outbox, &epoch, complete)
                .await
                .map_err(RepublishError::Bus)?;
        }
        if count > 0 {
            tracing::warn!(events = count, since = ?since, "the event bus had lost events, they were published again");
        }
        Ok(count)
    }

    /// Publishes what is published already and was written from `since` until `now`. `None`: it is another relay's turn, or the end.
    async fn publish_again(
        &self,
        since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<Option<u64>, RepublishError> {
        let (mut after, mut count) = (None, 0);
        loop {
            let turn = self.bus.turn(&self.outbox, &self.holder, TURN);
            if stop.is_cancelled() || !turn.await.map_err(RepublishError::Bus)? {
                return Ok(None);
            }
            let page = outbox::published(&self.pool, since, now, after, PAGE)
                .await
                .map_err(RepublishError::Database)?;
            let Some(last) = page.last() else {
                return Ok(Some(count));
            };
            after = Some((last.occurred_at, last.id));
            for outcome in self.bus.publish(&page).await {
                match outcome {
                    Ok(()) => count += 1,
                    Err(error) if error.unavailable => return Err(RepublishError::Bus(error)),
                    Err(error) => tracing::warn!(%error, "an event could not be published again"),
                }
            }
            let published = u64::try_from(page.len()).unwrap_or_default();
            self.metrics
                .events_published
                .with_label_values(&["republished"])
                .inc_by(published);
        }
    }
}
