//! Dead letters that are looked at again.

use redis::AsyncCommands;
use redis::streams::StreamRangeReply;

use super::entry::{decode, encode};
use super::{RedisStreams, failed};
use crate::events::{BusError, DeadLetter, Event};

/// Dead letters that are read at once.
const PAGE: usize = 200;

/// Moves an entry from the dead letters to its stream, if it is still there. Keys: dead letters, stream; arguments: the
/// entry, the fields.
const REVIVE: &str = "if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end \
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2)) return 1";

impl RedisStreams {
    pub(super) async fn read_dead(
        &self,
        topic: &str,
        group: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, BusError> {
        let mut connection = self.connection().await?;
        let mut start = after.map_or_else(|| "-".to_owned(), |entry| format!("({entry}"));
        let mut letters = Vec::new();
        while letters.len() < limit {
            let reply: StreamRangeReply = connection
                .xrange_count(self.dead_stream(topic), &start, "+", PAGE)
                .await
                .map_err(|error| failed("read dead letters", &error))?;
            let Some(last) = reply.ids.last() else { break };
            start = format!("({}", last.id);
            // The other groups' are theirs.
            let own = reply
                .ids
                .iter()
                .filter(|id| id.get::<String>("dead_group").as_deref() == Some(group));
            letters.extend(own.map(|id| DeadLetter {
                topic: topic.to_owned(),
                entry: id.id.clone(),
                event: decode(topic, id),
            }));
        }
        letters.truncate(limit);
        Ok(letters)
    }

    pub(super) async fn revive_dead(&self, letter: &DeadLetter) -> Result<bool, BusError> {
        let event: &Event = letter.event.as_ref().map_err(|malformed| BusError {
            action: "replay a dead letter",
            reason: malformed.reason.clone(),
            unavailable: false,
        })?;
        let mut connection = self.connection().await?;
        let mut command = redis::cmd("EVAL");
        command.arg(&[
            REVIVE,
            "2",
            &self.dead_stream(&letter.topic),
            &self.stream(&letter.topic),
            &letter.entry,
        ]);
        for (name, value) in encode(event) {
            command.arg(name).arg(value);
        }
        command
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("replay a dead letter", &error))
    }
}
