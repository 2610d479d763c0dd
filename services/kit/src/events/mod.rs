//! Events between services: at least once, deduplicated by the receiver, never relied on for order.
//!
//! The way of an event: [`outbox::append`] in the transaction that makes it true -> [`relay::Relay`] publishes it on the
//! [`EventBus`] and marks the row -> [`consumer::Consumer`] of each group remembers it in its [`inbox`] and hands it to a
//! [`TransactionalHandler`], in one transaction. Liveness comes from Postgres: Redis may lose everything. A service gets
//! all of it from [`Service::events`](crate::service::Service::events).

pub mod consumer;
mod conventions;
mod endpoint;
pub mod inbox;
mod marks;
pub mod outbox;
mod personal;
pub mod redis_streams;
pub mod refill;
pub mod relay;
pub mod replay;
pub mod republish;
pub mod restored;
mod transactional;

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

pub use self::endpoint::Endpoint;
pub use self::transactional::{Handled, TransactionalHandler};

/// The namespace of event ids; a constant of the wire format.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_35a0_96f5_5c8b_a3a0_1e54_5d0c_7b11);

/// An event on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// uuid v5 of (aggregate, version): publishing twice gives the same id.
    pub id: Uuid,
    /// The stream, e.g. `order.events`.
    pub topic: String,
    /// What happened or shall happen, e.g. `OrderCreated`.
    pub event_type: String,
    /// Whose history it belongs to, e.g. `order:<uuid>`.
    pub aggregate: String,
    /// Grows with every event of the aggregate.
    pub version: i64,
    /// When the transaction that wrote it began.
    pub occurred_at: DateTime<Utc>,
    /// The details.
    pub payload: Value,
    /// W3C trace context of the writer; may be empty.
    pub traceparent: String,
}

impl Event {
    /// The payload as `T`.
    ///
    /// # Errors
    /// [`HandlerError::Failed`] when it has another shape: counted, and in the end a dead letter.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        T::deserialize(&self.payload).map_err(|error| {
            HandlerError::failed(format!("failed to read the payload of {}: {error}", self.event_type))
        })
    }
}

/// The id that an event has everywhere.
///
/// It is of what the event says, too: an aggregate that was restored from an archive comes to a version for the second time,
/// and may come to it in another way. Who remembers the first one by its id must not take the second for it.
pub fn event_id(aggregate: &str, version: i64, event_type: &str, payload: &Value) -> Uuid {
    let said = format!("{aggregate}/{version}/{event_type}/{payload}");
    Uuid::new_v5(&EVENT_NAMESPACE, said.as_bytes())
}

/// An event to append to the outbox.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The stream, e.g. `inventory.commands`.
    pub topic: Cow<'static, str>,
    /// What happened or shall happen.
    pub event_type: Cow<'static, str>,
    /// Whose history it belongs to.
    pub aggregate: String,
    /// Grows with every event of the aggregate; take it from the aggregate's row, under its lock.
    pub version: i64,
    /// The details.
    pub payload: Value,
}

impl NewEvent {
    /// An event to append.
    ///
    /// # Errors
    /// When `payload` can not be written as JSON, which a struct of plain fields always can.
    pub fn new(
        topic: &'static str,
        event_type: &'static str,
        aggregate: impl Into<String>,
        version: i64,
        payload: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            topic: topic.into(),
            event_type: event_type.into(),
            aggregate: aggregate.into(),
            version,
            payload: serde_json::to_value(payload)?,
        })
    }
}

/// What a consumer does with an event: for a service a [`TransactionalHandler`] behind its inbox.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one event. Runs in a task of its own, up to [`consumer::ConsumerOptions::concurrency`] at once.
    async fn handle(&self, event: &Event) -> Result<(), HandlerError>;
}

/// Why an event was not handled.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Something this service needs is away. Not the event's fault: tried again without being counted.
    #[error("failed to handle an event for now: {0}")]
    Unavailable(String),
    /// The event can not be handled. Counted; the fifth time it becomes a dead letter.
    #[error("failed to handle an event: {0}")]
    Failed(String),
}

impl HandlerError {
    /// A failure that counts.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }

    /// What metrics and traces call it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
        }
    }

    /// A failed statement: `Unavailable` when Postgres is away or busy, else `Failed`.
    pub fn from_sqlx(error: &sqlx::Error) -> Self {
        match crate::postgres::classify(error) {
            crate::postgres::Failure::Unavailable => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Which streams a consumer reads, as whom.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The streams.
    pub topics: Vec<String>,
    /// The group: each event goes to one consumer of each group. The service's name.
    pub group: String,
    /// The consumer within the group: the pod's name.
    pub consumer: String,
}

/// One event handed to one consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The stream.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The entry's id within the stream.
    pub entry: String,
    /// How often it has been delivered; grows with every crash of a consumer.
    pub deliveries: u64,
    /// The event, or the fields of an entry that is none.
    pub event: Result<Event, Malformed>,
}

/// An entry of a stream that is not an event.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub reason: String,
    /// The entry's fields as they were read.
    pub fields: Vec<(String, String)>,
}

/// Why the bus did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {action}: {reason}")]
pub struct BusError {
    /// What was tried.
    pub action: &'static str,
    /// What the transport said.
    pub reason: String,
    /// The transport is away or busy: nothing is wrong with what was asked.
    pub unavailable: bool,
}

/// Whether a failure is another than the one before: one that repeats itself is said once, not with every attempt.
#[derive(Default)]
struct LastFailure(Option<String>);

impl LastFailure {
    fn is_new(&mut self, failure: &dyn std::fmt::Display) -> bool {
        let text = failure.to_string();
        let new = self.0.as_ref() != Some(&text);
        self.0 = Some(text);
        new
    }

    fn clear(&mut self) {
        self.0 = None;
    }
}

/// The transport of events. Implemented by [`redis_streams::RedisStreams`].
#[async_trait]
pub trait EventBus: Send + Sync + 'static {
    /// Publishes `events` in this order; one outcome each, in the same order.
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), BusError>>;

    /// Starts to read on a connection of its own, creating groups that do not exist from the stream's beginning.
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn EventSource>, BusError>;

    /// The delivery is done.
    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), BusError>;

    /// Counts a handler's error; returns how many there have been, whichever consumer saw them.
    async fn count_error(&self, delivery: &Delivery) -> Result<u32, BusError>;

    /// Moves the delivery to the dead-letter stream, with its errors and the last one's reason, and acknowledges it, in
    /// one step.
    async fn dead_letter(&self, delivery: &Delivery, errors: u32, reason: &str) -> Result<(), BusError>;

    /// Events of each topic that the group has not finished.
    async fn lag(&self, subscription: &Subscription) -> Result<Vec<(String, i64)>, BusError>;

    /// Drops what every group of each topic has finished; returns what each topic holds then.
    async fn tidy(&self, topics: &[String]) -> Result<Vec<Held>, BusError>;

    /// Asks whether the transport answers.
    async fn ping(&self) -> Result<(), BusError>;

    /// What the transport has lost of what `outbox` published, by the last [`note`](Self::note).
    async fn epoch(&self, outbox: &str) -> Result<Epoch, BusError>;

    /// Notes that what was written to `outbox` until `at` is there, unless the note is another than `seen` by now; `false`
    /// then.
    async fn note(&self, outbox: &str, seen: &Epoch, at: DateTime<Utc>) -> Result<bool, BusError>;

    /// Whether it is `holder`'s turn to publish what `outbox` has lost; it is nobody else's for `time` then.
    async fn turn(&self, outbox: &str, holder: &str, time: Duration) -> Result<bool, BusError>;

    /// What groups have lost, oldest first, but for what `outbox` has [made good](Self::made_good). A part of it, if it is
    /// much.
    async fn losses(&self, outbox: &str) -> Result<Vec<Lost>, BusError>;

    /// `outbox` has published again what it has of the losses up to `last`, all of it to the `run` of the transport that an
    /// [epoch](Self::epoch) named. `false`: it is another by now, which may have lost a part of it again.
    async fn made_good(&self, outbox: &str, last: &Lost, run: &str) -> Result<bool, BusError>;

    /// The mark that the bus was [told](Self::set_mark) of last: the database of the group has kept it.
    async fn mark(&self, group: &str) -> Result<Option<Uuid>, BusError>;

    /// The database of the group has kept `mark`, which is committed; `false`: the bus has another than `seen` by now.
    async fn set_mark(&self, group: &str, seen: Option<Uuid>, mark: Uuid) -> Result<bool, BusError>;

    /// The database of the group does not know `seen`: all of its topics count as [lost](Self::losses) to it, and in the same
    /// step the bus has the `mark` that was kept since. `false`: another has said so.
    async fn forgotten(&self, subscription: &Subscription, seen: Uuid, mark: Uuid) -> Result<bool, BusError>;

    /// How many events that were lost the topic takes now without a group losing others.
    async fn room(&self, topic: &str) -> Result<usize, BusError>;

    /// The consumer lives: for [`LEASE`] nobody takes over what it works on.
    async fn hold(&self, subscription: &Subscription) -> Result<(), BusError>;

    /// The consumer ends: what it has left may be taken over at once.
    async fn release(&self, subscription: &Subscription) -> Result<(), BusError>;

    /// Up to `limit` dead letters of the group, behind the entry `after`, oldest first.
    async fn dead_letters(
        &self,
        topic: &str,
        group: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, BusError>;

    /// Puts a dead letter back on its stream, in one step; `false`: another has.
    async fn revive(&self, letter: &DeadLetter) -> Result<bool, BusError>;
}

/// What a transport holds of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The topic.
    pub topic: String,
    /// Its events, finished ones included.
    pub events: u64,
    /// Its dead letters, of all groups.
    pub dead_letters: u64,
}

/// How long a consumer that says nothing counts as alive.
pub const LEASE: Duration = Duration::from_secs(3);

/// What a transport has kept of what an outbox has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// What may be lost.
    pub loss: Loss,
    /// Another whenever the transport was started again; empty if it can not be known.
    pub run: String,
    /// The note as it was found.
    pub note: String,
}

/// What a transport may have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// What was written to the outbox since then.
    Since(DateTime<Utc>),
    /// Everything.
    Everything,
}

/// Events of a topic that a group may not have handled and that the transport no longer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The note of it.
    pub entry: String,
    /// Of which topic.
    pub topic: String,
    /// Which group.
    pub group: String,
    /// When the first of them was published, by the transport's clock. `None`: they may be as old as the topic.
    pub since: Option<DateTime<Utc>>,
    /// How: `cut` (there were too many), `gone` (somebody deleted them), `new` (the group was made anew),
    /// `restored` (its database was).
    pub reason: String,
}

/// An event that a group gave up.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The stream that it was on.
    pub topic: String,
    /// The entry's id within the dead letters.
    pub entry: String,
    /// The event, or why it is none.
    pub event: Result<Event, Malformed>,
}

/// One consumer's reading end.
#[async_trait]
pub trait EventSource: Send {
    /// What this consumer got earlier and did not finish (it or its predecessor of the same name crashed).
    async fn pending(&mut self) -> Result<Vec<Delivery>, BusError>;

    /// New events, at most `count` per topic; waits up to `wait` for the first.
    async fn next(&mut self, count: usize, wait: Duration) -> Result<Vec<Delivery>, BusError>;

    /// Takes over what other consumers of the group have left lying for `idle`.
    async fn claim_stale(&mut self, idle: Duration, count: usize) -> Result<Vec<Delivery>, BusError>;

    /// Takes over what consumers of the group have left that are gone (see [`EventBus::hold`]), about `count` of it, and
    /// forgets those that have left nothing and were not heard of for `remembered`.
    async fn claim_gone(&mut self, remembered: Duration, count: usize) -> Result<Vec<Delivery>, BusError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_same_id_everywhere_and_for_ever() {
        let sold = serde_json::json!({"order_id": 1});
        let id = |aggregate, version, kind| event_id(aggregate, version, kind, &sold);
        let confirmed = id("order:1", 3, "OrderConfirmed");
        assert_eq!(confirmed.to_string(), "bbd5432d-0f8d-549d-b0fc-bc1756ba6dac");
        assert_ne!(confirmed, id("order:1", 4, "OrderConfirmed"));
        assert_ne!(confirmed, id("order:2", 3, "OrderConfirmed"));
        // What an archive made undone has happened otherwise since.
        assert_ne!(confirmed, id("order:1", 3, "OrderCancelled"));
        let other = serde_json::json!({"order_id": 2});
        assert_ne!(confirmed, event_id("order:1", 3, "OrderConfirmed", &other));
    }
}
