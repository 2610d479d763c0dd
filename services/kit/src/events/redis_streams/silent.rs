//! Groups that nobody reads for any more, such as one of a service that runs no replica. What they have not read fills the
//! stream, and what others have lost finds no room: such a group is forgotten, with a note of how far it had come. Should it
//! come back, it is made anew and gets what is missing since then.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::streams::{StreamInfoConsumersReply, StreamInfoGroup};
use redis::{AsyncCommands, RedisResult};

use super::lost::left_key;
use super::upkeep::{come_to, groups_of, unless_gone};
use super::{RedisStreams, milliseconds};
use crate::events::LEASE;

/// In times of what an event is kept for groups that come back late: nobody has read for a group for so long.
const SILENCE: u32 = 10;

/// Forgets a group unless somebody reads for it again, or another has forgotten it. Keys: stream, what says how far it had come; arguments: group, how many
/// milliseconds nobody has read, how far it had come.
const FORGET: &str = r"
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then
    if string.find(consumers.err, 'NOGROUP') or string.find(consumers.err, 'no such key') then return 0 end
    return consumers
end
for _, row in ipairs(consumers) do
    for place = 1, #row, 2 do
        if row[place] == 'idle' and row[place + 1] < tonumber(ARGV[2]) then return 0 end
    end
end
redis.call('SET', KEYS[2], ARGV[3])
return redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])";

impl RedisStreams {
    /// Forgets the groups that have something to read and nobody who reads it, if others are read for: a group alone holds
    /// nobody up.
    pub(super) async fn forget_silent_groups(
        &self,
        connection: &mut ConnectionManager,
        topic: &str,
    ) -> RedisResult<()> {
        let stream = self.stream(topic);
        let (mut silent, mut read) = (Vec::new(), false);
        for group in groups_of(connection, &stream).await?.groups {
            match unless_gone(self.is_read(connection, &stream, &group).await)? {
                Some(true) => read = true,
                Some(false) if group.pending > 0 || group.lag != Some(0) => silent.push(group),
                _ => {}
            }
        }
        for group in silent.into_iter().filter(|_| read) {
            let Some(come) = unless_gone(come_to(connection, &stream, &group).await)? else {
                continue;
            };
            let left = left_key(&self.notes(), topic, &group.name);
            let silence = milliseconds(self.silence()).to_string();
            let forgotten: bool = redis::cmd("EVAL")
                .arg(&[FORGET, "2", &stream, &left, &group.name, &silence, &come])
                .query_async(connection)
                .await?;
            if forgotten {
                tracing::warn!(
                    stream,
                    group = group.name,
                    "nobody reads for a group while its stream is full, it is forgotten until it comes back"
                );
            }
        }
        Ok(())
    }

    /// Whether a consumer of the group was heard of lately. One that waits for its database reads nothing and holds its lease.
    async fn is_read(
        &self,
        connection: &mut ConnectionManager,
        stream: &str,
        group: &StreamInfoGroup,
    ) -> RedisResult<bool> {
        let reply: StreamInfoConsumersReply = connection.xinfo_consumers(stream, &group.name).await?;
        for consumer in reply.consumers {
            let idle = u64::try_from(consumer.idle).unwrap_or(u64::MAX);
            let lease = self.lease_key(&group.name, &consumer.name);
            if idle < milliseconds(self.silence()) || connection.exists(lease).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn silence(&self) -> Duration {
        (self.keep * SILENCE).max(LEASE)
    }
}
