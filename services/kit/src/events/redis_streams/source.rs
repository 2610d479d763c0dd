//! The reading end: one connection of its own, the own pending list, new entries, and what others left lying.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamInfoGroupsReply, StreamPendingCountReply,
    StreamReadOptions, StreamReadReply,
};

use super::entry::decode;
use super::lost::{create_group, left_key, note_gone};
use super::{failed, is_no_group, timed};
use crate::events::{BusError, Delivery, EventSource, Subscription};

/// How much longer than asked a blocking read may take before the connection counts as dead.
pub(super) const READ_MARGIN: Duration = Duration::from_secs(3);
/// The own pending list is read in pages of this size.
const PAGE: usize = 100;

pub(super) struct Source {
    pub(super) connection: MultiplexedConnection,
    /// Key of the stream, topic.
    pub(super) streams: Vec<(String, String)>,
    /// What stands before a consumer's name in the key of its lease.
    pub(super) leases: String,
    /// The key of the notes of what groups have lost.
    pub(super) notes: String,
    pub(super) subscription: Subscription,
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
                let (ids, gone): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| !id.map.is_empty());
                let gone: Vec<&str> = gone.iter().map(|id| id.id.as_str()).collect();
                self.forget(&stream, &topic, &gone).await?;
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
                let gone: Vec<&str> = reply.deleted_ids.iter().map(String::as_str).collect();
                self.forget(&stream, &topic, &gone).await?;
                deliveries.extend(self.with_counts(&stream, &topic, reply.claimed).await?);
                cursor = reply.next_stream_id;
                if cursor == "0-0" || deliveries.len() >= count {
                    break;
                }
            }
        }
        Ok(deliveries)
    }

    async fn claim_gone(&mut self, remembered: Duration, count: usize) -> Result<Vec<Delivery>, BusError> {
        self.claim_of_gone(remembered, count).await
    }
}

impl Source {
    /// Creates the groups that do not exist, from the beginning of their streams: a stream that Redis lost and that is
    /// being filled again must not be skipped. What such a group has not seen of its stream is published again.
    ///
    /// Looks first: a Redis that is full refuses to create even what exists, and is emptied by those alone who read.
    pub(super) async fn create_groups(&mut self) -> Result<(), BusError> {
        for (stream, topic) in self.streams.clone() {
            if self.has_group(&stream).await? {
                continue;
            }
            let left = left_key(&self.notes, &topic, &self.subscription.group);
            let command = create_group(&stream, &self.notes, &left, &self.subscription.group, &topic);
            timed(READ_MARGIN, command.query_async::<()>(&mut self.connection))
                .await
                .map_err(|error| failed("create a consumer group", &error))?;
        }
        Ok(())
    }

    async fn has_group(&mut self, stream: &str) -> Result<bool, BusError> {
        let command = redis::Cmd::xinfo_groups(stream);
        let answer = timed(READ_MARGIN, command.query_async(&mut self.connection)).await;
        let reply: StreamInfoGroupsReply = match answer {
            // There is no such stream.
            Err(error) if error.code() == Some("ERR") => return Ok(false),
            other => other.map_err(|error| failed("read a stream's groups", &error))?,
        };
        Ok(reply.groups.iter().any(|group| group.name == self.subscription.group))
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

    /// Acknowledges entries that left their stream before this group had finished them: nothing is left of them here to
    /// handle or to keep. First it is noted, so that they are published again.
    pub(super) async fn forget(&mut self, stream: &str, topic: &str, gone: &[&str]) -> Result<(), BusError> {
        let Some(first) = gone.first() else {
            return Ok(());
        };
        let command = note_gone(&self.notes, topic, &self.subscription.group, first);
        match timed(READ_MARGIN, command.query_async::<()>(&mut self.connection)).await {
            // They stay pending until there is room for the note.
            Err(error) if error.code() == Some("OOM") => return Ok(()),
            other => other.map_err(|error| failed("note entries that are gone", &error))?,
        }
        let command = redis::Cmd::xack(stream, &self.subscription.group, gone);
        timed(READ_MARGIN, command.query_async::<()>(&mut self.connection))
            .await
            .map_err(|error| failed("acknowledge entries that are gone", &error))?;
        tracing::warn!(
            stream,
            group = self.subscription.group,
            entries = gone.len(),
            "entries were gone from their stream before this group had handled them"
        );
        Ok(())
    }

    /// Adds how often each entry has been delivered, which a read does not tell.
    pub(super) async fn with_counts(
        &mut self,
        stream: &str,
        topic: &str,
        ids: Vec<StreamId>,
    ) -> Result<Vec<Delivery>, BusError> {
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
