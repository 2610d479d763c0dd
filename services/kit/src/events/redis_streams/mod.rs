//! The [`EventBus`] on Redis Streams. The only folder that speaks Redis, beside the lock; the wire format is in the crate's README.
//!
//! Short commands share one connection that reconnects by itself. Each reader has a connection of its own without a
//! response timeout (the default of 500 ms would cut every blocking read) under a timeout of ours.

mod dead;
mod entry;
mod epoch;
mod gone;
mod lost;
mod mark;
mod silent;
mod source;
mod upkeep;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use redis::aio::ConnectionManager;
use redis::streams::{StreamInfoGroupsReply, StreamMaxlen};
use redis::{AsyncCommands, AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use tokio::sync::OnceCell;
use uuid::Uuid;
use valerix_resilience::redis_client;

use self::entry::encode;
use self::source::Source;
use super::{BusError, DeadLetter, Delivery, Epoch, Event, EventBus, EventSource, Held, LEASE, Lost, Subscription};
use crate::args::BusArgs;
use crate::health::Check;

/// A dead-letter stream is cut to about this many entries.
const MAX_DEAD_LETTERS: usize = 10_000;

/// Events on Redis Streams; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct RedisStreams {
    /// Or why REDIS_URL can not be used.
    client: Result<redis::Client, BusError>,
    prefix: String,
    max_entries: usize,
    keep: Duration,
    /// For a connection, and for each answer.
    timeout: Duration,
    shared: std::sync::Arc<OnceCell<ConnectionManager>>,
}

impl RedisStreams {
    /// Describes the bus; nothing is connected yet. A URL that can not be used is said here once and by the deep check:
    /// a service that carries on without events must not fail to start for it.
    pub fn open(args: &BusArgs) -> Self {
        let client = redis_client::open(args.redis_url.expose()).map_err(|error| BusError {
            unavailable: true,
            ..failed("read REDIS_URL", &error)
        });
        if let Err(error) = &client {
            tracing::error!(%error, "REDIS_URL can not be used: events wait in the outbox until it is corrected");
        }
        Self {
            client,
            prefix: args.redis_prefix.clone(),
            max_entries: args.redis_stream_max_entries,
            keep: args.redis_stream_keep,
            timeout: args.redis_timeout,
            shared: std::sync::Arc::default(),
        }
    }

    /// The key of a topic's stream.
    pub fn stream(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The key of a topic's dead-letter stream.
    pub fn dead_stream(&self, topic: &str) -> String {
        format!("{}{topic}:dead", self.prefix)
    }

    /// The key by which a consumer says that it lives.
    fn lease_key(&self, group: &str, consumer: &str) -> String {
        format!("{}consumer:{group}:{consumer}", self.prefix)
    }

    fn errors_key(&self, delivery: &Delivery) -> String {
        format!("{}{}:errors:{}", self.prefix, delivery.topic, delivery.group)
    }

    async fn connection(&self) -> Result<ConnectionManager, BusError> {
        let client = self.client.clone()?;
        self.shared
            .get_or_try_init(|| redis_client::manager(client, self.timeout, self.timeout))
            .await
            .cloned()
            .map_err(|error| failed("connect to Redis", &error))
    }
}

#[async_trait]
impl EventBus for RedisStreams {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), BusError>> {
        let all = |error: &BusError| events.iter().map(|_| Err(error.clone())).collect();
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return all(&error),
        };
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for event in events {
            pipeline.xadd(self.stream(&event.topic), "*", &encode(event));
        }
        let topics: BTreeSet<&str> = events.iter().map(|event| event.topic.as_str()).collect();
        for topic in &topics {
            pipeline.xlen(self.stream(topic));
        }
        let answers: RedisResult<Vec<RedisResult<Value>>> = pipeline.query_async(&mut connection).await;
        match answers {
            Ok(mut answers) if answers.len() == events.len() + topics.len() => {
                let lengths = answers.split_off(events.len());
                for (topic, length) in topics.into_iter().zip(lengths) {
                    let length = length.and_then(|length| Ok(usize::from_redis_value(length)?));
                    if length.is_ok_and(|length| length > self.max_entries)
                        && let Err(error) = self.cut_to_cap(&mut connection, topic).await
                    {
                        tracing::debug!(topic, %error, "the stream was not cut");
                    }
                }
                answers
                    .into_iter()
                    .map(|answer| {
                        answer
                            .map(|_| ())
                            .map_err(|error| failed("append to the stream", &error))
                    })
                    .collect()
            }
            Ok(_) => all(&BusError {
                action: "append to the stream",
                reason: "Redis answered another number of commands".into(),
                unavailable: true,
            }),
            Err(error) => all(&failed("append to the stream", &error)),
        }
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn EventSource>, BusError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        let connection = self
            .client
            .clone()?
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| failed("connect to Redis", &error))?;
        let mut source = Source {
            connection,
            streams: subscription
                .topics
                .iter()
                .map(|topic| (self.stream(topic), topic.clone()))
                .collect(),
            leases: self.lease_key(&subscription.group, ""),
            notes: self.notes(),
            subscription: subscription.clone(),
        };
        source.create_groups().await?;
        Ok(Box::new(source))
    }

    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        pipeline
            .xack(self.stream(&delivery.topic), &delivery.group, &[&delivery.entry])
            .ignore()
            .hdel(self.errors_key(delivery), &delivery.entry)
            .ignore();
        pipeline
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("acknowledge an event", &error))
    }

    async fn count_error(&self, delivery: &Delivery) -> Result<u32, BusError> {
        let mut connection = self.connection().await?;
        connection
            .hincr(self.errors_key(delivery), &delivery.entry, 1)
            .await
            .map_err(|error| failed("count a handler's error", &error))
    }

    async fn dead_letter(&self, delivery: &Delivery, errors: u32, reason: &str) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        let mut fields = match &delivery.event {
            Ok(event) => encode(event).map(|(name, value)| (name.to_owned(), value)).to_vec(),
            Err(malformed) => malformed.fields.clone(),
        };
        fields.extend([
            ("dead_group".to_owned(), delivery.group.clone()),
            ("dead_entry".to_owned(), delivery.entry.clone()),
            ("dead_errors".to_owned(), errors.to_string()),
            ("dead_reason".to_owned(), reason.chars().take(1000).collect()),
            ("dead_at".to_owned(), Utc::now().to_rfc3339()),
        ]);
        let mut pipeline = redis::pipe();
        pipeline
            .atomic()
            .xadd_maxlen(
                self.dead_stream(&delivery.topic),
                StreamMaxlen::Approx(MAX_DEAD_LETTERS),
                "*",
                &fields,
            )
            .ignore()
            .xack(self.stream(&delivery.topic), &delivery.group, &[&delivery.entry])
            .ignore()
            .hdel(self.errors_key(delivery), &delivery.entry)
            .ignore();
        pipeline
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("write a dead letter", &error))
    }

    async fn lag(&self, subscription: &Subscription) -> Result<Vec<(String, i64)>, BusError> {
        let mut connection = self.connection().await?;
        let mut lags = Vec::with_capacity(subscription.topics.len());
        for topic in &subscription.topics {
            let groups: StreamInfoGroupsReply = connection
                .xinfo_groups(self.stream(topic))
                .await
                .map_err(|error| failed("read a stream's groups", &error))?;
            let group = groups.groups.iter().find(|group| group.name == subscription.group);
            let lag = match group.and_then(|group| Some(group.pending + group.lag?)) {
                Some(lag) => lag,
                // Nobody of the group has ever come, or Redis can not tell: rather too much than too little.
                None => connection
                    .xlen(self.stream(topic))
                    .await
                    .map_err(|error| failed("read a stream's length", &error))?,
            };
            lags.push((topic.clone(), i64::try_from(lag).unwrap_or(i64::MAX)));
        }
        Ok(lags)
    }

    async fn tidy(&self, topics: &[String]) -> Result<Vec<Held>, BusError> {
        let mut connection = self.connection().await?;
        let mut held = Vec::with_capacity(topics.len());
        for topic in topics {
            let topic = self.tidy_topic(&mut connection, topic).await;
            held.push(topic.map_err(|error| failed("trim a stream", &error))?);
        }
        Ok(held)
    }

    async fn ping(&self) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        connection.ping().await.map_err(|error| failed("ping Redis", &error))
    }

    async fn epoch(&self, outbox: &str) -> Result<Epoch, BusError> {
        self.read_epoch(outbox).await
    }

    async fn note(&self, outbox: &str, seen: &Epoch, at: DateTime<Utc>) -> Result<bool, BusError> {
        self.write_epoch(outbox, seen, at).await
    }

    async fn turn(&self, outbox: &str, holder: &str, time: Duration) -> Result<bool, BusError> {
        self.take_turn(outbox, holder, milliseconds(time)).await
    }

    async fn losses(&self, outbox: &str) -> Result<Vec<Lost>, BusError> {
        self.read_losses(outbox).await
    }

    async fn made_good(&self, outbox: &str, last: &Lost, run: &str) -> Result<bool, BusError> {
        self.note_made_good(outbox, last, run).await
    }

    async fn mark(&self, group: &str) -> Result<Option<Uuid>, BusError> {
        self.read_mark(group).await
    }

    async fn set_mark(&self, group: &str, seen: Option<Uuid>, mark: Uuid) -> Result<bool, BusError> {
        self.write_mark(group, seen, mark).await
    }

    async fn forgotten(&self, subscription: &Subscription, seen: Uuid, mark: Uuid) -> Result<bool, BusError> {
        self.note_forgotten(subscription, seen, mark).await
    }

    async fn room(&self, topic: &str) -> Result<usize, BusError> {
        self.room_of(topic).await
    }

    async fn hold(&self, subscription: &Subscription) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        connection
            .pset_ex(
                self.lease_key(&subscription.group, &subscription.consumer),
                "",
                milliseconds(LEASE),
            )
            .await
            .map_err(|error| failed("hold a consumer's lease", &error))
    }

    async fn release(&self, subscription: &Subscription) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        connection
            .del(self.lease_key(&subscription.group, &subscription.consumer))
            .await
            .map_err(|error| failed("release a consumer's lease", &error))
    }

    async fn dead_letters(
        &self,
        topic: &str,
        group: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, BusError> {
        self.read_dead(topic, group, after, limit).await
    }

    async fn revive(&self, letter: &DeadLetter) -> Result<bool, BusError> {
        self.revive_dead(letter).await
    }
}

#[async_trait]
impl Check for RedisStreams {
    async fn check(&self) -> Result<(), String> {
        self.rehearse().await.map_err(|error| error.reason)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A dead connection is an IO error, as it would be without the timeout but later.
async fn timed<T>(limit: Duration, command: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(limit, command).await.unwrap_or_else(|_| {
        Err(RedisError::from(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "Redis did not answer in time",
        )))
    })
}

/// Milliseconds and sequence: how ids of entries compare.
type EntryId = (u64, u64);

/// What is not an id comes before all others.
fn parse(id: &str) -> EntryId {
    id.split_once('-')
        .and_then(|(milliseconds, sequence)| Some((milliseconds.parse().ok()?, sequence.parse().ok()?)))
        .unwrap_or_default()
}

fn is_no_group(error: &RedisError) -> bool {
    error.code() == Some("NOGROUP")
}

fn failed(action: &'static str, error: &RedisError) -> BusError {
    // Neither passes by waiting, but no event is to blame for it.
    let cluster = matches!(error.code(), Some("CROSSSLOT" | "MOVED" | "ASK"));
    let busy = matches!(
        error.code(),
        Some("LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY" | "OOM" | "MISCONF" | "TRYAGAIN")
    );
    let hint = if cluster {
        "; this Redis is a cluster: give REDIS_PREFIX a hash tag, such as {valerix}:"
    } else {
        ""
    };
    BusError {
        action,
        reason: format!("{error}{hint}"),
        unavailable: busy
            || cluster
            || matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS"))
            || error.kind() == ErrorKind::Io
            || error.is_timeout()
            || error.is_unrecoverable_error(),
    }
}
