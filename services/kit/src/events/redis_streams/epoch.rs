//! Whether Redis still has what an outbox has published: a note in Redis itself, of the run of Redis that was published to
//! and the moment until which everything that was written is in it.
//!
//! Redis loses what it took last, never something in the middle: what was published before a note is there if the note is.
//! So a note that is gone means that everything may be; a note of another run, that what came after it may be.

use chrono::{DateTime, SecondsFormat, Utc};
use redis::{AsyncCommands, InfoDict};

use super::{RedisStreams, failed};
use crate::events::{BusError, Epoch, Loss};

/// Writes a note only in place of the one that was read, and of the same run: after a loss in between the older one has to be
/// seen, or the run that it names.
const NOTE: &str = "if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then \
    redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0";

/// The script, which does nothing and answers 0 in another run of Redis than its last argument says, if that says one.
pub(super) fn in_run(script: &str) -> String {
    format!(
        "if ARGV[#ARGV] ~= '' and not string.find(redis.call('INFO', 'server'), 'run_id:' .. ARGV[#ARGV], 1, true) then \
         return 0 end {script}"
    )
}

impl RedisStreams {
    fn epoch_key(&self, outbox: &str) -> String {
        format!("{}epoch:{outbox}", self.prefix)
    }

    pub(super) async fn read_epoch(&self, outbox: &str) -> Result<Epoch, BusError> {
        let mut connection = self.connection().await?;
        let note: Option<String> = connection
            .get(self.epoch_key(outbox))
            .await
            .map_err(|error| failed("read the epoch", &error))?;
        let info = redis::cmd("INFO")
            .arg("server")
            .query_async::<InfoDict>(&mut connection)
            .await;
        let run = match info {
            Ok(info) => info.get::<String>("run_id").unwrap_or_default(),
            // A user without the right to it notices only a Redis that lost everything.
            Err(error) if error.code() == Some("NOPERM") => String::new(),
            Err(error) => return Err(failed("read the run of Redis", &error)),
        };
        let noted = note.as_deref().and_then(|note| {
            let (run, at) = note.split_once(' ')?;
            Some((run, DateTime::parse_from_rfc3339(at).ok()?.to_utc()))
        });
        let loss = match noted {
            None => Loss::Everything,
            Some((noted, _)) if noted == run => Loss::Nothing,
            Some((_, at)) => Loss::Since(at),
        };
        Ok(Epoch {
            loss,
            run,
            note: note.unwrap_or_default(),
        })
    }

    pub(super) async fn write_epoch(&self, outbox: &str, seen: &Epoch, at: DateTime<Utc>) -> Result<bool, BusError> {
        let mut connection = self.connection().await?;
        let note = format!("{} {}", seen.run, at.to_rfc3339_opts(SecondsFormat::Micros, true));
        redis::cmd("EVAL")
            .arg(in_run(NOTE))
            .arg(&["1", &self.epoch_key(outbox), &seen.note, &note, &seen.run])
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("note the epoch", &error))
    }

    pub(super) async fn take_turn(&self, outbox: &str, holder: &str, milliseconds: u64) -> Result<bool, BusError> {
        /// Sets or renews what the holder has.
        const TURN: &str = "local holder = redis.call('GET', KEYS[1]) if not holder or holder == ARGV[1] then \
            redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end return 0";
        let mut connection = self.connection().await?;
        redis::cmd("EVAL")
            .arg(&[
                TURN,
                "1",
                &format!("{}:turn", self.epoch_key(outbox)),
                holder,
                &milliseconds.to_string(),
            ])
            .query_async(&mut connection)
            .await
            .map_err(|error| failed("take the turn to publish again", &error))
    }
}
