//! The mark of a group's database that Redis was told of last: where the database does not know it, it is older than that.

use redis::AsyncCommands;
use uuid::Uuid;

use super::{RedisStreams, failed};
use crate::events::{BusError, Subscription, outbox};

/// Writes a mark in place of the one that was read. Keys: the mark; arguments: that which was read or nothing, the new one,
/// how long it is remembered.
const MARK: &str = r"
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1";

/// As [`MARK`], and notes that the group has lost whatever there was of its topics, once for all who notice. Further keys:
/// notes; further arguments: group, topics.
const FORGOTTEN: &str = r"
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
for place = 5, #ARGV do
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*',
        'topic', ARGV[place], 'group', ARGV[4], 'since', '0-0', 'reason', 'restored')
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1";

impl RedisStreams {
    fn mark_key(&self, group: &str) -> String {
        format!("{}mark:{group}", self.prefix)
    }

    pub(super) async fn read_mark(&self, group: &str) -> Result<Option<Uuid>, BusError> {
        let action = "read the mark of a database";
        let mut connection = self.connection().await?;
        let mark: Option<String> = connection
            .get(self.mark_key(group))
            .await
            .map_err(|error| failed(action, &error))?;
        mark.map(|mark| mark.parse()).transpose().map_err(|_| BusError {
            action,
            reason: format!("{} is not one, delete it", self.mark_key(group)),
            unavailable: false,
        })
    }

    pub(super) async fn write_mark(&self, group: &str, seen: Option<Uuid>, mark: Uuid) -> Result<bool, BusError> {
        let mut connection = self.connection().await?;
        redis::cmd("EVAL")
            .arg(&[MARK, "1", &self.mark_key(group)])
            .arg(&marks(seen, mark))
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("write the mark of a database", &error))
    }

    pub(super) async fn note_forgotten(
        &self,
        subscription: &Subscription,
        seen: Uuid,
        mark: Uuid,
    ) -> Result<bool, BusError> {
        let mut connection = self.connection().await?;
        let group = subscription.group.as_str();
        redis::cmd("EVAL")
            .arg(&[FORGOTTEN, "2", &self.mark_key(group), &self.notes()])
            .arg(&marks(Some(seen), mark))
            .arg(group)
            .arg(&subscription.topics)
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("note what was forgotten", &error))
    }
}

/// The arguments that both scripts begin with. After this long no outbox has anything that could be asked for.
fn marks(seen: Option<Uuid>, mark: Uuid) -> [String; 3] {
    [
        seen.map_or_else(String::new, |seen| seen.to_string()),
        mark.to_string(),
        outbox::RETENTION.as_secs().to_string(),
    ]
}
