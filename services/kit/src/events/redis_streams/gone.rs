//! Consumers that are gone: what they have left is taken over as soon as their lease has run out, and those that have left
//! nothing are forgotten.

use std::time::Duration;

use redis::streams::{StreamClaimReply, StreamInfoConsumersReply, StreamPendingCountReply};

use super::source::{READ_MARGIN, Source};
use super::{failed, is_no_group, milliseconds, timed};
use crate::events::{BusError, Delivery, LEASE};

/// An entry that a peer has just taken over is not taken from it.
const YOUNGEST_MS: usize = 1000;

/// Forgets a consumer, unless it has come back: what it read since would be lost with it. Keys: stream, lease; arguments:
/// group, consumer.
const FORGET: &str = "if redis.call('EXISTS', KEYS[2]) == 1 \
    or #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end \
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) return 1";

/// Of what a consumer has left, the entries that are no longer in their stream: a claim would drop them without a word. Keys:
/// stream; arguments: group, consumer, how many are looked at.
const DELETED: &str = r"
local deleted = {}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3], ARGV[2])) do
    if #redis.call('XRANGE', KEYS[1], row[1], row[1]) == 0 then table.insert(deleted, row[1]) end
end
return deleted";

impl Source {
    pub(super) async fn claim_of_gone(
        &mut self,
        remembered: Duration,
        count: usize,
    ) -> Result<Vec<Delivery>, BusError> {
        let mut deliveries = Vec::new();
        for (stream, topic) in self.streams.clone() {
            let group = self.subscription.group.clone();
            let command = redis::Cmd::xinfo_consumers(&stream, &group);
            let answer = timed(READ_MARGIN, command.query_async(&mut self.connection)).await;
            let reply: StreamInfoConsumersReply = match answer {
                Err(error) if is_no_group(&error) => continue,
                other => other.map_err(|error| failed("list the consumers", &error))?,
            };
            for consumer in reply.consumers {
                let idle = u64::try_from(consumer.idle).unwrap_or(u64::MAX);
                // It may be of a version that holds no lease: what it has just begun is not taken from it.
                if consumer.name == self.subscription.consumer || idle < milliseconds(LEASE) {
                    continue;
                }
                let lease = format!("{}{}", self.leases, consumer.name);
                if consumer.pending == 0 {
                    if idle >= milliseconds(remembered) {
                        self.forget_consumer(&stream, &lease, &consumer.name).await?;
                    }
                } else if deliveries.len() < count && !self.lives(&lease).await? {
                    deliveries.extend(self.take_over(&stream, &topic, &consumer.name, count).await?);
                }
            }
        }
        Ok(deliveries)
    }

    async fn lives(&mut self, lease: &str) -> Result<bool, BusError> {
        let command = redis::Cmd::exists(lease);
        timed(READ_MARGIN, command.query_async(&mut self.connection))
            .await
            .map_err(|error| failed("look for a consumer's lease", &error))
    }

    async fn take_over(
        &mut self,
        stream: &str,
        topic: &str,
        gone: &str,
        count: usize,
    ) -> Result<Vec<Delivery>, BusError> {
        let group = self.subscription.group.clone();
        let mut command = redis::cmd("EVAL");
        command.arg(&[DELETED, "1", stream, &group, gone]).arg(count);
        let deleted: Vec<String> = timed(READ_MARGIN, command.query_async(&mut self.connection))
            .await
            .map_err(|error| failed("look for entries that are gone", &error))?;
        let deleted: Vec<&str> = deleted.iter().map(String::as_str).collect();
        self.forget(stream, topic, &deleted).await?;
        let command = redis::Cmd::xpending_consumer_count(stream, &group, "-", "+", count, gone);
        let left: StreamPendingCountReply = timed(READ_MARGIN, command.query_async(&mut self.connection))
            .await
            .map_err(|error| failed("list what a consumer has left", &error))?;
        let entries = left.ids.iter().map(|id| id.id.as_str());
        // Those that could not be noted stay where they are.
        let entries: Vec<&str> = entries.filter(|entry| !deleted.contains(entry)).collect();
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let command = redis::Cmd::xclaim(stream, &group, &self.subscription.consumer, YOUNGEST_MS, &entries);
        let claimed: StreamClaimReply = timed(READ_MARGIN, command.query_async(&mut self.connection))
            .await
            .map_err(|error| failed("take over what a consumer has left", &error))?;
        if !claimed.ids.is_empty() {
            tracing::info!(
                stream,
                group,
                gone,
                entries = claimed.ids.len(),
                "a consumer is gone, what it left is taken over"
            );
        }
        self.with_counts(stream, topic, claimed.ids).await
    }

    async fn forget_consumer(&mut self, stream: &str, lease: &str, gone: &str) -> Result<(), BusError> {
        let mut command = redis::cmd("EVAL");
        command.arg(&[FORGET, "2", stream, lease, &self.subscription.group, gone]);
        timed(READ_MARGIN, command.query_async::<()>(&mut self.connection))
            .await
            .map_err(|error| failed("forget a consumer", &error))
    }
}
