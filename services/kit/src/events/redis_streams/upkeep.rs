//! What keeps Redis small and the deep check honest: streams are cut to what some group has still to handle, and every
//! command that the bus needs is tried on a key of its own.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::streams::{
    StreamInfoGroup, StreamInfoGroupsReply, StreamMaxlen, StreamPendingReply, StreamTrimOptions, StreamTrimmingMode,
};
use redis::{AsyncCommands, RedisResult, Value};

use super::{EntryId, RedisStreams, failed, is_no_group, milliseconds, parse};
use crate::events::{BusError, Held};

/// How long a dead letter is kept.
const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

impl RedisStreams {
    /// Cuts what every group of the topic has finished, and dead letters that are too old; returns what is
    /// left. What is younger than `keep` stays: after a Redis that lost its data one group may be back before another.
    pub(super) async fn tidy_topic(&self, connection: &mut ConnectionManager, topic: &str) -> RedisResult<Held> {
        let stream = self.stream(topic);
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
        let before = |age: Duration| {
            let now = Duration::from_secs(seconds) + Duration::from_micros(micros);
            (milliseconds(now.saturating_sub(age)), 0)
        };
        let held: usize = connection.xlen(&stream).await?;
        if held >= self.refilled() {
            self.forget_silent_groups(connection, topic).await?;
        }
        let groups = groups_of(connection, &stream).await?;
        let mut least = before(self.keep);
        for group in &groups.groups {
            // A group that another replica has just forgotten holds up nobody.
            if let Some(open) = unless_gone(come_to(connection, &stream, group).await)? {
                least = least.min(parse(&open));
            }
        }
        // Without a group everything is kept for the one that comes, up to the cap.
        if !groups.groups.is_empty() {
            cut(connection, &stream, least).await?;
        }
        let held: usize = connection.xlen(&stream).await?;
        if held > self.max_entries {
            self.cut_to_cap(connection, topic).await?;
        }
        let dead = self.dead_stream(topic);
        cut(connection, &dead, before(DEAD_LETTER_RETENTION)).await?;
        Ok(Held {
            topic: topic.to_owned(),
            events: connection.xlen(&stream).await?,
            dead_letters: connection.xlen(&dead).await?,
        })
    }

    /// Runs every command that the bus needs against a stream of its own, so that a user without the right to one shows
    /// here and not with the first event.
    pub(super) async fn rehearse(&self) -> Result<(), BusError> {
        let mut connection = self.connection().await?;
        let (stream, errors, group) = (self.stream("health"), self.stream("health:errors"), "health");
        let lease = self.lease_key(group, group);
        let mut pipeline = redis::pipe();
        pipeline
            .ignore_errors()
            .xgroup_create_mkstream(&stream, group, "$")
            .xadd_maxlen(&stream, StreamMaxlen::Equals(1), "*", &[("probe", "")])
            .cmd("XREADGROUP")
            .arg(&["GROUP", group, group, "COUNT", "1", "STREAMS", &stream, ">"])
            .cmd("XAUTOCLAIM")
            .arg(&[&stream, group, group, "3600000", "0-0", "COUNT", "1"])
            .xpending(&stream, group)
            .xack(&stream, group, &["0-1"])
            .xinfo_groups(&stream)
            .xtrim(&stream, StreamMaxlen::Equals(1))
            .xlen(&stream)
            .hincr(&errors, "entry", 1)
            .hdel(&errors, "entry")
            .cmd("XINFO")
            .arg(&["CONSUMERS", &stream, group])
            .cmd("EVAL")
            .arg(&["return redis.call('GET', KEYS[1])", "1", &lease])
            .pset_ex(&lease, "", 1)
            .del(&lease)
            .cmd("TIME");
        let answers: RedisResult<Vec<RedisResult<Value>>> = pipeline.query_async(&mut connection).await;
        let refused = match answers {
            Err(error) => Some(error),
            Ok(answers) => answers
                .into_iter()
                .filter_map(Result::err)
                .find(|error| error.code() != Some("BUSYGROUP")),
        };
        refused.map_or(Ok(()), |error| Err(failed("use Redis as a bus", &error)))
    }
}

/// The groups of a stream, which may not be there.
pub(super) async fn groups_of(connection: &mut ConnectionManager, stream: &str) -> RedisResult<StreamInfoGroupsReply> {
    match connection.xinfo_groups(stream).await {
        Err(error) if error.code() == Some("ERR") => Ok(StreamInfoGroupsReply::default()),
        groups => groups,
    }
}

/// The first entry that the group has not finished.
pub(super) async fn come_to(
    connection: &mut ConnectionManager,
    stream: &str,
    group: &StreamInfoGroup,
) -> RedisResult<String> {
    Ok(match connection.xpending(stream, &group.name).await? {
        StreamPendingReply::Data(pending) => pending.start_id,
        _ => group.last_delivered_id.clone(),
    })
}

/// `None`: the group is no more, or its stream. Every replica tidies, so that one may forget what another is about to ask for.
pub(super) fn unless_gone<T>(reply: RedisResult<T>) -> RedisResult<Option<T>> {
    match reply {
        Err(error) if is_no_group(&error) || error.code() == Some("ERR") => Ok(None),
        reply => reply.map(Some),
    }
}

async fn cut(connection: &mut ConnectionManager, stream: &str, least: EntryId) -> RedisResult<()> {
    let least = format!("{}-{}", least.0, least.1);
    let strategy = StreamTrimOptions::minid(StreamTrimmingMode::Exact, least);
    connection.xtrim_options(stream, &strategy).await
}
