//! One event that a group's inbox knew: where the inbox knows it no more, its database is older than what Redis has heard.

use redis::AsyncCommands;
use uuid::Uuid;

use super::{RedisStreams, failed};
use crate::events::{BusError, Subscription, outbox};

/// Notes that a group has lost whatever there was of its topics, once for all who notice. Keys: the event that its inbox
/// knew, notes; arguments: that event, group, topics.
const FORGOTTEN: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for place = 3, #ARGV do
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*',
        'topic', ARGV[place], 'group', ARGV[2], 'since', '0-0', 'reason', 'restored')
end
redis.call('DEL', KEYS[1])
return 1";

impl RedisStreams {
    fn handled_key(&self, group: &str) -> String {
        format!("{}handled:{group}", self.prefix)
    }

    pub(super) async fn read_handled(&self, group: &str) -> Result<Option<Uuid>, BusError> {
        let mut connection = self.connection().await?;
        let event: Option<String> = connection
            .get(self.handled_key(group))
            .await
            .map_err(|error| failed("read what was handled", &error))?;
        Ok(event.and_then(|event| event.parse().ok()))
    }

    /// Forgotten before the inbox forgets it by itself, and when no outbox has anything from before it.
    pub(super) async fn write_handled(&self, group: &str, event: Uuid) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        connection
            .set_ex(self.handled_key(group), event.to_string(), outbox::RETENTION.as_secs())
            .await
            .map_err(|error| failed("note what was handled", &error))
    }

    pub(super) async fn note_forgotten(&self, subscription: &Subscription, seen: Uuid) -> Result<bool, BusError> {
        let mut connection = self.connection().await?;
        let group = subscription.group.as_str();
        redis::cmd("EVAL")
            .arg(&[FORGOTTEN, "2", &self.handled_key(group), &self.notes()])
            .arg(seen.to_string())
            .arg(group)
            .arg(&subscription.topics)
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("note what was forgotten", &error))
    }
}
