//! Publishes again what a group has lost of a topic that this service publishes: what was cut off before the group had handled
//! it, and everything that the outbox keeps for a group that was made anew. Consumers find what they have handled in their
//! inboxes. One replica of a service does it at a time, and no faster than the stream has room: what is published again must
//! not cut off what comes behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::republish::{RepublishError, Way};
use super::{EventBus, LastFailure, Lost, outbox};
use crate::metrics::Metrics;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long one replica may be silent before another goes on in its place.
const TURN: Duration = Duration::from_secs(10);
/// By so much the clocks of Redis and Postgres may differ, and an event be marked earlier than it was added.
const MARGIN: TimeDelta = TimeDelta::minutes(1);
const PAGE: i64 = 500;

/// Makes good what groups have lost of what one outbox has published.
#[derive(Clone)]
pub struct Refiller {
    pool: PgPool,
    bus: Arc<dyn EventBus>,
    outbox: String,
    holder: String,
    metrics: Metrics,
}

/// Losses that are being made good.
#[derive(Debug)]
pub struct Refilling {
    losses: Vec<Lost>,
    /// To which run of the bus it is published.
    run: String,
    /// Each by itself: one whose stream has no room holds up no other.
    topics: BTreeMap<String, Topic>,
    until: DateTime<Utc>,
}

/// What was lost of one topic.
#[derive(Debug, Default)]
struct Topic {
    /// Since when it is to be published again. `None`: from the first event on.
    since: Option<DateTime<Utc>>,
    way: Way,
}

impl Refilling {
    fn new(losses: Vec<Lost>, run: String, until: DateTime<Utc>) -> Self {
        let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
        for lost in &losses {
            let since = lost.since.map(|since| since - MARGIN);
            let first = || Topic {
                since,
                ..Topic::default()
            };
            let topic = topics.entry(lost.topic.clone()).or_insert_with(first);
            // None comes before every moment.
            topic.since = topic.since.min(since);
        }
        Self {
            losses,
            run,
            topics,
            until,
        }
    }
}

impl Refiller {
    /// Makes good what groups lose of what the outbox of the service `outbox` in `pool` publishes to `bus`.
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
                    tracing::warn!(%error, "what groups have lost can not be made good for now");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Finds out what groups have lost, and publishes it again, going on with what was `begun`; returns how many events that
    /// were once all of it is done. A stream without room takes the rest later.
    ///
    /// # Errors
    /// When Postgres or the bus did not answer.
    pub async fn look(&self, begun: &mut Option<Refilling>, stop: &CancellationToken) -> Result<u64, RepublishError> {
        if begun.is_none() {
            let losses = async || self.bus.losses(&self.outbox).await.map_err(RepublishError::Bus);
            if losses().await?.is_empty() {
                return Ok(0);
            }
            let run = self.bus.epoch(&self.outbox).await.map_err(RepublishError::Bus)?.run;
            // Once more: those of this run.
            let losses = losses().await?;
            let progress = outbox::progress(&self.pool).await;
            let until = progress.map_err(RepublishError::Database)?.now;
            *begun = Some(Refilling::new(losses, run, until));
        }
        let Some(work) = begun.as_mut() else { return Ok(0) };
        for (name, topic) in &mut work.topics {
            loop {
                let turn = format!("{}:refill", self.outbox);
                let turn = self.bus.turn(&turn, &self.holder, TURN).await;
                if stop.is_cancelled() || !turn.map_err(RepublishError::Bus)? {
                    // Another makes it good, and says so when it is done.
                    *begun = None;
                    return Ok(0);
                }
                let Topic { since, way } = topic;
                if way.done {
                    break;
                }
                let page = outbox::published_to(&self.pool, name, *since, work.until, way.after, PAGE)
                    .await
                    .map_err(RepublishError::Database)?;
                if !way.publish(&self.pool, &*self.bus, &self.metrics, name, page).await? {
                    break;
                }
            }
        }
        if !work.topics.values().all(|topic| topic.way.done) {
            return Ok(0);
        }
        if let Some(last) = work.losses.last() {
            let noted = self.bus.made_good(&self.outbox, last, &work.run).await;
            if !noted.map_err(RepublishError::Bus)? {
                // A bus that went back may have lost what it got again: what is old is published by nobody else.
                tracing::warn!(
                    outbox = self.outbox,
                    "the bus is another run than that which was filled again: from the start"
                );
                *begun = None;
                return Ok(0);
            }
        }
        let count = work.topics.values().map(|topic| topic.way.published).sum();
        self.tell(work);
        *begun = None;
        Ok(count)
    }

    /// Says who has lost what, but of topics that others publish.
    fn tell(&self, work: &Refilling) {
        for lost in &work.losses {
            let events = work.topics.get(&lost.topic).map_or(0, |topic| topic.way.published);
            if events == 0 {
                continue;
            }
            let labels = [lost.topic.as_str(), lost.group.as_str(), lost.reason.as_str()];
            self.metrics.stream_group_lost.with_label_values(&labels).inc();
            tracing::warn!(
                stream = lost.topic,
                group = lost.group,
                reason = lost.reason,
                since = ?lost.since,
                events,
                "a group may have lost events of a stream, they were published again"
            );
        }
    }
}
