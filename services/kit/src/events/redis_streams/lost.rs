//! What a group has lost of a stream: what was cut off before the group had handled it, what somebody deleted, and all that
//! there was before a group that is new, or that Redis has lost, was made.
//!
//! It is noted in a stream of its own before it is cut. The service that publishes the topic reads the notes and publishes
//! again from its outbox. How far each outbox has come with the notes is a key of its own.

use chrono::{DateTime, Utc};
use redis::aio::ConnectionManager;
use redis::streams::StreamRangeReply;
use redis::{AsyncCommands, RedisResult};

use super::epoch::in_run;
use super::upkeep::groups_of;
use super::{RedisStreams, failed, parse};
use crate::events::{BusError, Lost};

/// So many entries are cut off at once, at most: Redis serves nobody else meanwhile.
const CUT_AT_ONCE: usize = 10_000;
/// A stream that is too long is cut to so many entries less than it may have, so that not every event cuts it again.
const SLACK: usize = 1000;
/// Notes that are read at once.
const PAGE: usize = 1000;

/// Cuts a stream, and notes first which groups lose by it what they have not read or not finished. Keys: stream, notes;
/// arguments: how many entries stay, how many are cut at most, the topic. Redis that is full refuses the note, and with it
/// the cut.
const CUT: &str = r"
local excess = math.min(redis.call('XLEN', KEYS[1]) - tonumber(ARGV[1]), tonumber(ARGV[2]))
if excess <= 0 then return 0 end
local function parts(id)
    local milliseconds, sequence = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(milliseconds), tonumber(sequence)
end
local function less(one, other)
    local a, b = parts(one)
    local c, d = parts(other)
    return a < c or (a == c and b < d)
end
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', excess + 1)
local first, cut = entries[1][1], entries[#entries][1]
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for place = 1, #row, 2 do group[row[place]] = row[place + 1] end
    local unread = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
    local since = unread[1] and less(unread[1][1], cut) and unread[1][1]
    local pending = redis.call('XPENDING', KEYS[1], group['name'])
    if pending[1] > 0 and less(pending[2], cut) and not less(pending[3], first) then
        if less(pending[2], first) then pending[2] = first end
        if not since or less(pending[2], since) then since = pending[2] end
    end
    if since then
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*',
            'topic', ARGV[3], 'group', group['name'], 'since', since, 'reason', 'cut')
    end
end
redis.call('XTRIM', KEYS[1], 'MINID', cut)
return excess";

/// Creates a group that does not exist, from the beginning of its stream, and notes that it may have lost whatever was there
/// before, or since the moment where it was forgotten. Keys: stream, notes, that moment; arguments: group, topic.
const CREATE: &str = r"
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups.err then
    for _, row in ipairs(groups) do
        for place = 1, #row, 2 do
            if row[place] == 'name' and row[place + 1] == ARGV[1] then return 0 end
        end
    end
end
local since = redis.call('GET', KEYS[3]) or '0-0'
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*', 'topic', ARGV[2], 'group', ARGV[1], 'since', since, 'reason', 'new')
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
redis.call('DEL', KEYS[3])
return 1";

/// Notes that entries are gone. Keys: notes; arguments: topic, group, the first of them.
const GONE: &str = "redis.call('XADD', KEYS[1], 'MAXLEN', '~', '10000', '*', \
    'topic', ARGV[1], 'group', ARGV[2], 'since', ARGV[3], 'reason', 'gone')";

/// Notes that losses are made good. Keys: the note; arguments: the last loss.
const MADE_GOOD: &str = "redis.call('SET', KEYS[1], ARGV[1]) return 1";

pub(super) fn create_group(stream: &str, notes: &str, left: &str, group: &str, topic: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(&[CREATE, "3", stream, notes, left, group, topic]);
    command
}

/// The key that says how far a group had come when it was forgotten.
pub(super) fn left_key(notes: &str, topic: &str, group: &str) -> String {
    format!("{notes}:left:{topic}:{group}")
}

pub(super) fn note_gone(notes: &str, topic: &str, group: &str, first: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(&[GONE, "1", notes, topic, group, first]);
    command
}

impl RedisStreams {
    /// The key of the notes.
    pub(super) fn notes(&self) -> String {
        format!("{}lost", self.prefix)
    }

    fn noted_key(&self, outbox: &str) -> String {
        format!("{}lost:seen:{outbox}", self.prefix)
    }

    /// Cuts the stream of a topic to the most that it may have, a part at a time.
    pub(super) async fn cut_to_cap(&self, connection: &mut ConnectionManager, topic: &str) -> RedisResult<()> {
        let stays = self.max_entries - (self.max_entries / 10).min(SLACK);
        redis::cmd("EVAL")
            .arg(&[CUT, "2", &self.stream(topic), &self.notes()])
            .arg(stays)
            .arg(CUT_AT_ONCE)
            .arg(topic)
            .query_async(connection)
            .await
    }

    pub(super) async fn read_losses(&self, outbox: &str) -> Result<Vec<Lost>, BusError> {
        let mut connection = self.connection().await?;
        let read = async {
            let seen: Option<String> = connection.get(self.noted_key(outbox)).await?;
            let start = seen.map_or_else(|| "-".to_owned(), |entry| format!("({entry}"));
            let notes: RedisResult<StreamRangeReply> = connection.xrange_count(self.notes(), start, "+", PAGE).await;
            notes
        };
        let notes = read
            .await
            .map_err(|error| failed("read what groups have lost", &error))?;
        let text = |id: &redis::streams::StreamId, name: &str| id.get::<String>(name).unwrap_or_default();
        let lost = notes.ids.iter().map(|id| Lost {
            entry: id.id.clone(),
            topic: text(id, "topic"),
            group: text(id, "group"),
            since: moment(&text(id, "since")),
            reason: text(id, "reason"),
        });
        Ok(lost.collect())
    }

    pub(super) async fn note_made_good(&self, outbox: &str, last: &Lost, run: &str) -> Result<bool, BusError> {
        let mut connection = self.connection().await?;
        redis::cmd("EVAL")
            .arg(in_run(MADE_GOOD))
            .arg(&["1", &self.noted_key(outbox), &last.entry, run])
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("note what was made good", &error))
    }

    pub(super) async fn room_of(&self, topic: &str) -> Result<usize, BusError> {
        let mut connection = self.connection().await?;
        let held: usize = connection
            .xlen(self.stream(topic))
            .await
            .map_err(|error| failed("read a stream's length", &error))?;
        if held < self.refilled() {
            return Ok(self.refilled() - held);
        }
        // Without a group nobody is kept waiting for room, and nobody loses by what is cut off.
        let groups = groups_of(&mut connection, &self.stream(topic)).await;
        let groups = groups.map_err(|error| failed("read a stream's groups", &error))?;
        Ok(if groups.groups.is_empty() { usize::MAX } else { 0 })
    }

    /// Up to so many entries a stream is filled up again: what is new needs room, too, and must not cut off what was lost
    /// before.
    pub(super) const fn refilled(&self) -> usize {
        self.max_entries / 10 * 8
    }
}

/// When the entry of this id was added, by the clock of Redis. `None`: there was one before every moment.
fn moment(entry: &str) -> Option<DateTime<Utc>> {
    let (milliseconds, _) = parse(entry);
    DateTime::from_timestamp_millis(i64::try_from(milliseconds).ok()?).filter(|_| milliseconds > 0)
}
