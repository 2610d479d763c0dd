//! Publishes again what Redis has lost: everything in the outbox that was not yet published by the last note, or all that
//! it keeps where the note is gone. Consumers find what they have handled in their inboxes. One relay of a service does it at
//! a time, and no faster than the streams have room; the others go on publishing what is new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BusError, Epoch, Event, EventBus, LastFailure, Loss, outbox};
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

/// A loss that is being made good.
#[derive(Debug)]
pub struct Begun {
    epoch: Epoch,
    /// What the note will say.
    complete: DateTime<Utc>,
    /// What is written later goes to a bus that has lost nothing since.
    until: DateTime<Utc>,
    /// Each by itself: one whose stream has no room holds up no other.
    topics: BTreeMap<String, Way>,
}

/// How far a topic is published again.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// The last event.
    pub(super) after: Option<outbox::Place>,
    pub(super) published: u64,
    pub(super) done: bool,
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
        let (mut begun, mut last) = (None, LastFailure::default());
        while !stop.is_cancelled() {
            match self.look(&mut begun, &stop).await {
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

    /// Finds out whether something is lost, and publishes it again, going on with what was `begun`; returns how many events
    /// that were once all of it is done.
    ///
    /// # Errors
    /// When Postgres or the bus did not answer. A bus that is full, or a stream without room, takes the rest later.
    pub async fn look(&self, begun: &mut Option<Begun>, stop: &CancellationToken) -> Result<u64, RepublishError> {
        // Asked first: what is written after it is not covered by the note.
        let progress = outbox::progress(&self.pool).await;
        let outbox::Progress { complete, now } = progress.map_err(RepublishError::Database)?;
        let epoch = self.bus.epoch(&self.outbox).await.map_err(RepublishError::Bus)?;
        if epoch.loss == Loss::Nothing {
            *begun = None;
            self.note(&epoch, complete).await?;
            return Ok(0);
        }
        // After another loss what was published again may be lost, too.
        let work = match begun.take().filter(|begun| begun.epoch == epoch) {
            Some(work) => work,
            None => {
                let topics = outbox::topics(&self.pool).await.map_err(RepublishError::Database)?;
                Begun {
                    epoch,
                    complete,
                    until: now,
                    topics: topics.into_iter().map(|topic| (topic, Way::default())).collect(),
                }
            }
        };
        // Kept until all of it is done, whatever goes wrong on the way.
        let work = begun.insert(work);
        let since = match work.epoch.loss {
            Loss::Since(at) => Some(at - MARGIN),
            Loss::Nothing | Loss::Everything => None,
        };
        for (topic, way) in &mut work.topics {
            while !way.done {
                let turn = self.bus.turn(&self.outbox, &self.holder, TURN);
                if stop.is_cancelled() || !turn.await.map_err(RepublishError::Bus)? {
                    return Ok(0);
                }
                let page = outbox::published(&self.pool, topic, since, work.until, way.after, PAGE)
                    .await
                    .map_err(RepublishError::Database)?;
                if !way.publish(&self.pool, &*self.bus, &self.metrics, topic, page).await? {
                    break;
                }
            }
        }
        if !work.topics.values().all(|way| way.done) {
            return Ok(0);
        }
        if self.bus.epoch(&self.outbox).await.map_err(RepublishError::Bus)? == work.epoch {
            self.note(&work.epoch, work.complete).await?;
        }
        let (count, loss) = (work.topics.values().map(|way| way.published).sum(), work.epoch.loss);
        *begun = None;
        if count > 0 {
            tracing::warn!(
                events = count,
                ?loss,
                "the event bus may have lost events, they were published again"
            );
        }
        Ok(count)
    }

    async fn note(&self, seen: &Epoch, complete: DateTime<Utc>) -> Result<(), RepublishError> {
        let noted = self.bus.note(&self.outbox, seen, complete).await;
        // Another relay's note says the same; after a loss the next look sees it.
        noted.map(|_| ()).map_err(RepublishError::Bus)
    }
}

impl Way {
    /// Publishes the next page of a topic again, as much of it as its stream has room for; `false`: it was the last, or there
    /// is no room for now.
    pub(super) async fn publish(
        &mut self,
        pool: &PgPool,
        bus: &dyn EventBus,
        metrics: &Metrics,
        topic: &str,
        mut page: Vec<Event>,
    ) -> Result<bool, RepublishError> {
        if page.is_empty() {
            self.done = true;
            return Ok(false);
        }
        page.truncate(bus.room(topic).await.map_err(RepublishError::Bus)?);
        let Some(last) = page.last() else {
            return Ok(false);
        };
        publish_again(pool, bus, metrics, &page).await?;
        self.after = Some((last.occurred_at, last.id));
        self.published += page.len() as u64;
        Ok(true)
    }
}

/// Publishes what was published before, and marks it with the time: by that it is known what is cut off a stream later.
async fn publish_again(
    pool: &PgPool,
    bus: &dyn EventBus,
    metrics: &Metrics,
    events: &[Event],
) -> Result<(), RepublishError> {
    let mut published = Vec::with_capacity(events.len());
    for (event, outcome) in events.iter().zip(bus.publish(events).await) {
        match outcome {
            Err(error) if error.unavailable => return Err(RepublishError::Bus(error)),
            Err(error) => tracing::warn!(event = %event.id, %error, "an event could not be published again"),
            Ok(()) => published.push(event.id),
        }
    }
    let mut connection = pool.acquire().await.map_err(RepublishError::Database)?;
    outbox::mark_published(&mut connection, &published)
        .await
        .map_err(RepublishError::Database)?;
    metrics
        .events_published
        .with_label_values(&["republished"])
        .inc_by(published.len() as u64);
    Ok(())
}
