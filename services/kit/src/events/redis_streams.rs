//! The [`EventBus`] on Redis Streams. The only file that speaks Redis; the wire format is in the crate's README.
//!
//! Short commands share one connection that reconnects by itself. Each reader has a connection of its own without a
//! response timeout (the default of 500 ms would cut every blocking read) under a timeout of ours.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamInfoGroupsReply, StreamMaxlen,
    StreamPendingCountReply, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands, AsyncConnectionConfig, ErrorKind, RedisError, RedisResult};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{BusError, Delivery, Event, EventBus, EventSource, Malformed, Subscription};
use crate::args::BusArgs;
use crate::health::Check;

/// A stream is cut to about this many entries, read or not: Postgres can always say everything again.
const MAX_ENTRIES: usize = 1_000_000;
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer than asked a blocking read may take before the connection counts as dead.
const READ_MARGIN: Duration = Duration::from_secs(3);
/// The own pending list is read in pages of this size.
const PAGE: usize = 100;

/// Events on Redis Streams; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct RedisStreams {
    client: redis::Client,
    prefix: String,
    shared: std::sync::Arc<OnceCell<ConnectionManager>>,
}

impl RedisStreams {
    /// Describes the bus; nothing is connected yet.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn open(args: &BusArgs) -> Result<Self, BusError> {
        let client = redis::Client::open(args.redis_url.expose()).map_err(|error| failed("read REDIS_URL", &error))?;
        Ok(Self {
            client,
            prefix: args.redis_prefix.clone(),
            shared: std::sync::Arc::default(),
        })
    }

    /// The key of a topic's stream.
    pub fn stream(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The key of a topic's dead-letter stream.
    pub fn dead_stream(&self, topic: &str) -> String {
        format!("{}{topic}:dead", self.prefix)
    }

    fn errors_key(&self, delivery: &Delivery) -> String {
        format!("{}{}:errors:{}", self.prefix, delivery.topic, delivery.group)
    }

    async fn connection(&self) -> Result<ConnectionManager, BusError> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(RESPONSE_TIMEOUT))
                .set_number_of_retries(1);
            ConnectionManager::new_with_config(self.client.clone(), config).await
        };
        self.shared
            .get_or_try_init(connect)
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
            pipeline.xadd_maxlen(
                self.stream(&event.topic),
                StreamMaxlen::Approx(MAX_ENTRIES),
                "*",
                &encode(event),
            );
        }
        let answers: RedisResult<Vec<RedisResult<String>>> = pipeline.query_async(&mut connection).await;
        match answers {
            Ok(answers) if answers.len() == events.len() => answers
                .into_iter()
                .map(|answer| {
                    answer
                        .map(|_| ())
                        .map_err(|error| failed("append to the stream", &error))
                })
                .collect(),
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
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let connection = self
            .client
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

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        let errors: Option<u32> = connection
            .hget(self.errors_key(delivery), &delivery.entry)
            .await
            .map_err(|error| failed("read a handler's errors", &error))?;
        let mut fields = match &delivery.event {
            Ok(event) => encode(event).map(|(name, value)| (name.to_owned(), value)).to_vec(),
            Err(malformed) => malformed.fields.clone(),
        };
        fields.extend([
            ("dead_group".to_owned(), delivery.group.clone()),
            ("dead_entry".to_owned(), delivery.entry.clone()),
            ("dead_errors".to_owned(), errors.unwrap_or_default().to_string()),
            ("dead_reason".to_owned(), reason.chars().take(1000).collect()),
            ("dead_at".to_owned(), Utc::now().to_rfc3339()),
        ]);
        let mut pipeline = redis::pipe();
        pipeline
            .atomic()
            .xadd(self.dead_stream(&delivery.topic), "*", &fields)
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
            let lag = match groups.groups.iter().find(|group| group.name == subscription.group) {
                Some(group) => group.pending + group.lag.unwrap_or(0),
                // Nobody of the group has ever come: everything is left to do.
                None => connection
                    .xlen(self.stream(topic))
                    .await
                    .map_err(|error| failed("read a stream's length", &error))?,
            };
            lags.push((topic.clone(), i64::try_from(lag).unwrap_or(i64::MAX)));
        }
        Ok(lags)
    }

    async fn ping(&self) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        connection.ping().await.map_err(|error| failed("ping Redis", &error))
    }
}

#[async_trait]
impl Check for RedisStreams {
    async fn check(&self) -> Result<(), String> {
        self.ping().await.map_err(|error| error.reason)
    }
}

struct Source {
    connection: MultiplexedConnection,
    /// Key of the stream, topic.
    streams: Vec<(String, String)>,
    subscription: Subscription,
}

#[async_trait]
impl EventSource for Source {
    async fn pending(&mut self) -> Result<Vec<Delivery>, BusError> {
        let mut deliveries = Vec::new();
        for (stream, topic) in self.streams.clone() {
            let mut after = "0".to_owned();
            loop {
                let options = StreamReadOptions::default()
                    .group(&self.subscription.group, &self.subscription.consumer)
                    .count(PAGE);
                let reply = self
                    .read(&[stream.as_str()], &[after.as_str()], &options, Duration::ZERO)
                    .await?;
                let ids: Vec<StreamId> = reply.keys.into_iter().flat_map(|key| key.ids).collect();
                let Some(last) = ids.last() else { break };
                after.clone_from(&last.id);
                deliveries.extend(self.with_counts(&stream, &topic, ids).await?);
            }
        }
        Ok(deliveries)
    }

    async fn next(&mut self, count: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let mut options = StreamReadOptions::default()
            .group(&self.subscription.group, &self.subscription.consumer)
            .count(count);
        let milliseconds = usize::try_from(wait.as_millis()).unwrap_or(usize::MAX);
        if milliseconds > 0 {
            // BLOCK 0 would wait for ever.
            options = options.block(milliseconds);
        }
        let streams = self.streams.clone();
        let keys: Vec<&str> = streams.iter().map(|(stream, _)| stream.as_str()).collect();
        let new = vec![">"; keys.len()];
        let reply = self.read(&keys, &new, &options, wait).await?;
        let topics: HashMap<&str, &str> = streams
            .iter()
            .map(|(stream, topic)| (stream.as_str(), topic.as_str()))
            .collect();
        Ok(reply
            .keys
            .into_iter()
            .flat_map(|key| {
                let topic = topics
                    .get(key.key.as_str())
                    .map(|topic| (*topic).to_owned())
                    .unwrap_or_default();
                key.ids.into_iter().map(move |id| (topic.clone(), id))
            })
            .map(|(topic, id)| self.delivery(&topic, id, 1))
            .collect())
    }

    async fn claim_stale(&mut self, idle: Duration, count: usize) -> Result<Vec<Delivery>, BusError> {
        let mut deliveries = Vec::new();
        for (stream, topic) in self.streams.clone() {
            let mut cursor = "0-0".to_owned();
            // A call may find nothing though there is more to look through: the cursor says when all was seen.
            loop {
                let command = redis::Cmd::xautoclaim_options(
                    &stream,
                    &self.subscription.group,
                    &self.subscription.consumer,
                    u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
                    &cursor,
                    StreamAutoClaimOptions::default().count(count),
                );
                let answer = timed(READ_MARGIN, command.query_async(&mut self.connection)).await;
                let reply: StreamAutoClaimReply = match answer {
                    Err(error) if is_no_group(&error) => {
                        self.create_groups().await?;
                        break;
                    }
                    other => other.map_err(|error| failed("claim stale events", &error))?,
                };
                deliveries.extend(self.with_counts(&stream, &topic, reply.claimed).await?);
                cursor = reply.next_stream_id;
                if cursor == "0-0" || deliveries.len() >= count {
                    break;
                }
            }
        }
        Ok(deliveries)
    }
}

impl Source {
    /// Creates the groups that do not exist, from the beginning of their streams: a stream that Redis lost and that is
    /// being filled again must not be skipped.
    async fn create_groups(&mut self) -> Result<(), BusError> {
        for (stream, _) in &self.streams {
            let command = redis::Cmd::xgroup_create_mkstream(stream, &self.subscription.group, "0");
            match timed(READ_MARGIN, command.query_async::<()>(&mut self.connection)).await {
                Err(error) if error.code() != Some("BUSYGROUP") => {
                    return Err(failed("create a consumer group", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        keys: &[&str],
        ids: &[&str],
        options: &StreamReadOptions,
        wait: Duration,
    ) -> Result<StreamReadReply, BusError> {
        let command = redis::Cmd::xread_options(keys, ids, options);
        let answer: RedisResult<Option<StreamReadReply>> =
            timed(wait + READ_MARGIN, command.query_async(&mut self.connection)).await;
        match answer {
            Ok(reply) => Ok(reply.unwrap_or_default()),
            Err(error) if is_no_group(&error) => {
                self.create_groups().await?;
                Ok(StreamReadReply::default())
            }
            Err(error) => Err(failed("read events", &error)),
        }
    }

    /// Adds how often each entry has been delivered, which a read does not tell.
    async fn with_counts(&mut self, stream: &str, topic: &str, ids: Vec<StreamId>) -> Result<Vec<Delivery>, BusError> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(Vec::new());
        };
        let command = redis::Cmd::xpending_consumer_count(
            stream,
            &self.subscription.group,
            &first.id,
            &last.id,
            PAGE.max(ids.len()),
            &self.subscription.consumer,
        );
        let counts: StreamPendingCountReply = timed(READ_MARGIN, command.query_async(&mut self.connection))
            .await
            .map_err(|error| failed("read delivery counts", &error))?;
        let counts: HashMap<String, usize> = counts.ids.into_iter().map(|id| (id.id, id.times_delivered)).collect();
        Ok(ids
            .into_iter()
            .map(|id| {
                let deliveries = counts.get(&id.id).copied().unwrap_or(1) as u64;
                self.delivery(topic, id, deliveries)
            })
            .collect())
    }

    fn delivery(&self, topic: &str, id: StreamId, deliveries: u64) -> Delivery {
        Delivery {
            topic: topic.to_owned(),
            group: self.subscription.group.clone(),
            event: decode(topic, &id),
            entry: id.id,
            deliveries,
        }
    }
}

fn encode(event: &Event) -> [(&'static str, String); 7] {
    [
        ("id", event.id.to_string()),
        ("type", event.event_type.clone()),
        ("aggregate", event.aggregate.clone()),
        ("version", event.version.to_string()),
        ("occurred_at", event.occurred_at.to_rfc3339()),
        ("payload", event.payload.to_string()),
        ("traceparent", event.traceparent.clone()),
    ]
}

fn decode(topic: &str, id: &StreamId) -> Result<Event, Malformed> {
    let read = || -> Result<Event, String> {
        let text = |name: &str| {
            id.get::<String>(name)
                .ok_or_else(|| format!("failed to find the field {name}"))
        };
        let bad = |name: &str| format!("failed to read the field {name}");
        Ok(Event {
            id: text("id")?.parse::<Uuid>().map_err(|_| bad("id"))?,
            topic: topic.to_owned(),
            event_type: text("type")?,
            aggregate: text("aggregate")?,
            version: text("version")?.parse().map_err(|_| bad("version"))?,
            occurred_at: text("occurred_at")?
                .parse::<DateTime<Utc>>()
                .map_err(|_| bad("occurred_at"))?,
            payload: serde_json::from_str(&text("payload")?).map_err(|_| bad("payload"))?,
            traceparent: text("traceparent").unwrap_or_default(),
        })
    };
    read().map_err(|reason| Malformed {
        reason,
        fields: id
            .map
            .keys()
            .map(|name| {
                (
                    name.clone(),
                    id.get::<String>(name).unwrap_or_else(|| "(not text)".into()),
                )
            })
            .collect(),
    })
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

fn is_no_group(error: &RedisError) -> bool {
    error.code() == Some("NOGROUP")
}

fn failed(action: &'static str, error: &RedisError) -> BusError {
    let busy = matches!(
        error.code(),
        Some("LOADING" | "BUSY" | "MASTERDOWN" | "READONLY" | "OOM" | "MISCONF" | "TRYAGAIN")
    );
    BusError {
        action,
        reason: error.to_string(),
        unavailable: busy || error.kind() == ErrorKind::Io || error.is_timeout() || error.is_unrecoverable_error(),
    }
}
