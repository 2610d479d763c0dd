//! Where the answers to keys are kept: in the memory of this guard, whose word is good for its own pod alone, or in a Redis
//! that the guards of all pods share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{FromRedisValue, RedisError, Script};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use valerix_resilience::redis_client;

/// What an entry occupies beside its texts, about. Unit: bytes.
const OVERHEAD: usize = 128;
/// Redis answers by then, or is not there.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

const CLAIM: &str = "
    local held = redis.call('GET', KEYS[1])
    if held then return held end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return false";
const REPLACE: &str = "
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 1";

/// A store.
#[derive(Debug)]
pub struct Store(Kind);

#[derive(Debug)]
enum Kind {
    Memory(Mutex<Memory>),
    Redis(Redis),
}

/// Why it is not known what became of a key.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis did not answer.
    #[error("failed to ask Redis for a key: {0}")]
    Redis(#[source] RedisError),
    /// There is no room for one more request that is under way.
    #[error("failed to keep a key: {0} bytes are in use by requests that are under way")]
    Full(usize),
}

impl Store {
    /// In this process, where all answers together may occupy `most` bytes.
    #[must_use]
    pub fn memory(most: usize) -> Self {
        let memory = Memory {
            entries: HashMap::new(),
            held: 0,
            most,
            number: 0,
        };
        Self(Kind::Memory(Mutex::new(memory)))
    }

    /// In the Redis at `url`, under names that begin with `prefix`. It is connected to when it is first needed.
    #[must_use]
    pub fn redis(url: String, prefix: String) -> Self {
        Self(Kind::Redis(Redis {
            url,
            prefix,
            shared: OnceCell::new(),
        }))
    }

    /// Puts `claim` at `place` for so long, unless there is something: then that is given.
    pub(super) async fn claim(&self, place: &str, claim: &str, time: Duration) -> Result<Option<String>, StoreError> {
        match &self.0 {
            Kind::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.claim(place, claim, Instant::now() + time)
            }
            Kind::Redis(redis) => {
                let arguments = [claim.to_owned(), milliseconds(time)];
                redis.call(CLAIM, place, &arguments).await
            }
        }
    }

    /// Puts `next` in the place of `claim` for as long as it says, or frees the place; nothing where another attempt has
    /// taken it over.
    pub(super) async fn replace(
        &self,
        place: &str,
        claim: &str,
        next: Option<(String, Duration)>,
    ) -> Result<(), StoreError> {
        match &self.0 {
            Kind::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.replace(place, claim, next.map(|(text, time)| (text, Instant::now() + time)));
                Ok(())
            }
            Kind::Redis(redis) => {
                let (text, time) = next.unwrap_or_default();
                let arguments = [claim.to_owned(), text, milliseconds(time)];
                redis.call::<i64>(REPLACE, place, &arguments).await.map(drop)
            }
        }
    }
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

#[derive(Debug)]
struct Memory {
    entries: HashMap<String, Entry>,
    held: usize,
    most: usize,
    /// Of the next entry.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    text: String,
    until: Instant,
    /// The request has ended; what is kept may be let go of where there is no room.
    answered: bool,
    number: u64,
}

impl Memory {
    fn claim(&mut self, place: &str, claim: &str, until: Instant) -> Result<Option<String>, StoreError> {
        let now = Instant::now();
        if let Some(entry) = self.entries.get(place) {
            if entry.until > now {
                return Ok(Some(entry.text.clone()));
            }
            self.remove(place);
        }
        if self.held + size(place, claim) > self.most {
            self.make_room(now);
        }
        if self.held + size(place, claim) > self.most {
            return Err(StoreError::Full(self.most));
        }
        self.insert(place, claim.to_owned(), until, false);
        Ok(None)
    }

    fn replace(&mut self, place: &str, claim: &str, next: Option<(String, Instant)>) {
        if self.entries.get(place).is_none_or(|entry| entry.text != claim) {
            return;
        }
        self.remove(place);
        let Some((text, until)) = next else { return };
        if self.held + size(place, &text) > self.most {
            self.make_room(Instant::now());
        }
        self.insert(place, text, until, true);
    }

    /// Lets go of what has expired, and of the older half of what was answered.
    fn make_room(&mut self, now: Instant) {
        let mut answered: Vec<u64> = self
            .entries
            .values()
            .filter(|entry| entry.answered)
            .map(|entry| entry.number)
            .collect();
        answered.sort_unstable();
        let youngest = answered.get(answered.len() / 2).copied().unwrap_or(0);
        self.entries
            .retain(|_, entry| entry.until > now && !(entry.answered && entry.number <= youngest));
        self.held = self.entries.iter().map(|(place, entry)| size(place, &entry.text)).sum();
    }

    fn insert(&mut self, place: &str, text: String, until: Instant, answered: bool) {
        self.held += size(place, &text);
        self.number += 1;
        let number = self.number;
        let entry = Entry {
            text,
            until,
            answered,
            number,
        };
        self.entries.insert(place.to_owned(), entry);
    }

    fn remove(&mut self, place: &str) {
        if let Some(entry) = self.entries.remove(place) {
            self.held -= size(place, &entry.text);
        }
    }
}

const fn size(place: &str, text: &str) -> usize {
    place.len() + text.len() + OVERHEAD
}

struct Redis {
    url: String,
    prefix: String,
    shared: OnceCell<ConnectionManager>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        formatter
            .debug_struct("Redis")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Redis {
    async fn call<T: FromRedisValue>(&self, script: &str, place: &str, arguments: &[String]) -> Result<T, StoreError> {
        let asked = async {
            let mut connection = self.connection().await?;
            let script = Script::new(script);
            let mut call = script.key(format!("{}{place}", self.prefix));
            for argument in arguments {
                call.arg(argument);
            }
            call.invoke_async(&mut connection).await
        };
        asked.await.map_err(StoreError::Redis)
    }

    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        let connect = || async {
            let client = redis_client::open(&self.url)?;
            redis_client::manager(client, RESPONSE_TIMEOUT, RESPONSE_TIMEOUT).await
        };
        self.shared.get_or_try_init(connect).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(60);
    const MOST: usize = 8 * 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_had_by_one_until_its_time_is_over() {
        let store = Store::memory(MOST);
        assert_eq!(store.claim("a", "one", TIME).await.unwrap(), None);
        assert_eq!(store.claim("a", "two", TIME).await.unwrap().as_deref(), Some("one"));
        store.replace("a", "two", None).await.unwrap();
        assert_eq!(
            store.claim("a", "two", TIME).await.unwrap().as_deref(),
            Some("one"),
            "it is another's"
        );
        tokio::time::advance(TIME).await;
        assert_eq!(store.claim("a", "two", TIME).await.unwrap(), None);
        store
            .replace("a", "one", Some(("late".to_owned(), TIME)))
            .await
            .unwrap();
        assert_eq!(
            store.claim("a", "three", TIME).await.unwrap().as_deref(),
            Some("two"),
            "it was taken over"
        );
        store
            .replace("a", "two", Some(("answer".to_owned(), TIME)))
            .await
            .unwrap();
        assert_eq!(
            store.claim("a", "three", TIME).await.unwrap().as_deref(),
            Some("answer")
        );
    }

    #[tokio::test]
    async fn answers_make_room_and_requests_under_way_do_not() {
        let store = Store::memory(MOST);
        let answer = "a".repeat(64 * 1024);
        for number in 0..1_000 {
            let place = number.to_string();
            assert_eq!(store.claim(&place, "claim", TIME).await.unwrap(), None);
            store
                .replace(&place, "claim", Some((answer.clone(), TIME)))
                .await
                .unwrap();
        }
        let Kind::Memory(memory) = &store.0 else { unreachable!() };
        let held = memory.lock().unwrap().held;
        assert!((MOST / 4..=MOST).contains(&held), "{held}");
        assert!(
            store.claim("999", "claim", TIME).await.unwrap().is_some(),
            "the youngest is kept"
        );
        assert_eq!(
            store.claim("0", "claim", TIME).await.unwrap(),
            None,
            "the oldest is not"
        );
        let claim = "c".repeat(64 * 1024);
        let mut refused = 0;
        for number in 0..200 {
            let claimed = store.claim(&format!("under way {number}"), &claim, TIME).await;
            refused += u32::from(matches!(claimed, Err(StoreError::Full(_))));
        }
        assert!(refused > 0);
        assert!(
            store.claim("under way 0", "x", TIME).await.unwrap().is_some(),
            "none was forgotten"
        );
    }
}
