//! What the tests share: a database with outbox and inbox, and a bus under a prefix of its own.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::args::BusArgs;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{
    BusError, DeadLetter, Delivery, Epoch, Event, EventBus, EventSource, Handler, HandlerError, Held, Lost, NewEvent,
    Subscription, event_id, outbox,
};
use valerix_kit::metrics::Metrics;
use valerix_kit::postgres::begin;
use valerix_kit::testing::{TestDatabase, bus_args};

pub const TOPIC: &str = "things";

pub struct World {
    /// Dropped last.
    _database: TestDatabase,
    pub pool: PgPool,
    pub bus: Arc<RedisStreams>,
    pub redis: redis::aio::MultiplexedConnection,
}

impl World {
    pub async fn new() -> Self {
        Self::on(bus_args()).await
    }

    /// On another Redis than that of the other tests; what looks at streams looks at theirs.
    pub async fn on(bus: BusArgs) -> Self {
        let database = TestDatabase::create().await;
        let pool = database.pool().await;
        for migration in [
            include_str!("../../migrations/outbox_inbox.sql"),
            include_str!("../../migrations/outbox_contract.sql"),
            include_str!("../../migrations/marks.sql"),
        ] {
            sqlx::raw_sql(migration).execute(&pool).await.unwrap();
        }
        sqlx::raw_sql("CREATE TABLE effects (event_id uuid, aggregate text)")
            .execute(&pool)
            .await
            .unwrap();
        let args = BusArgs {
            redis_stream_keep: Duration::ZERO,
            ..bus
        };
        let redis = valerix_kit::testing::redis().await;
        Self {
            _database: database,
            pool,
            bus: Arc::new(RedisStreams::open(&args)),
            redis,
        }
    }

    pub fn relay(&self) -> Relay {
        self.relay_to(self.bus.clone())
    }

    pub fn relay_to(&self, bus: Arc<dyn EventBus>) -> Relay {
        Relay::new(self.pool.clone(), bus, Metrics::new().unwrap())
    }

    pub async fn append(&self, events: &[NewEvent]) {
        let mut transaction = begin(&self.pool).await.unwrap();
        for event in events {
            outbox::append(&mut transaction, event).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    /// Puts events of `TOPIC` on the bus without an outbox.
    pub async fn publish(&self, count: usize) -> Vec<Event> {
        let events: Vec<Event> = (0..count).map(|number| event(&format!("thing:{number}"), 1)).collect();
        for outcome in self.bus.publish(&events).await {
            outcome.unwrap();
        }
        events
    }

    /// (aggregate, version) of every entry, in the order of the stream.
    pub async fn stream(&self) -> Vec<(String, i64)> {
        let mut redis = self.redis.clone();
        let reply: redis::streams::StreamRangeReply =
            redis::AsyncCommands::xrange_all(&mut redis, self.bus.stream(TOPIC))
                .await
                .unwrap();
        let text = |id: &redis::streams::StreamId, name: &str| id.get::<String>(name).unwrap();
        reply
            .ids
            .iter()
            .map(|id| (text(id, "aggregate"), text(id, "version").parse().unwrap()))
            .collect()
    }

    /// The fields of every dead letter.
    pub async fn dead(&self) -> Vec<redis::streams::StreamId> {
        let mut redis = self.redis.clone();
        let reply: redis::streams::StreamRangeReply =
            redis::AsyncCommands::xrange_all(&mut redis, self.bus.dead_stream(TOPIC))
                .await
                .unwrap();
        reply.ids
    }

    /// Entries delivered to the group and not acknowledged.
    pub async fn pending(&self) -> usize {
        let mut redis = self.redis.clone();
        let groups: redis::streams::StreamInfoGroupsReply =
            redis::AsyncCommands::xinfo_groups(&mut redis, self.bus.stream(TOPIC))
                .await
                .unwrap();
        groups.groups.iter().map(|group| group.pending).sum()
    }
}

pub fn event(aggregate: &str, version: i64) -> Event {
    let payload = serde_json::json!({"n": version});
    Event {
        id: event_id(aggregate, version, "Happened", &payload),
        topic: TOPIC.into(),
        event_type: "Happened".into(),
        aggregate: aggregate.into(),
        version,
        occurred_at: chrono::Utc::now(),
        payload,
        traceparent: String::new(),
    }
}

pub fn new_event(aggregate: &str, version: i64) -> NewEvent {
    NewEvent::new(
        TOPIC,
        "Happened",
        aggregate,
        version,
        &serde_json::json!({"n": version}),
    )
    .unwrap()
}

pub fn subscription(consumer: &str) -> Subscription {
    Subscription {
        topics: vec![TOPIC.into()],
        group: "group".into(),
        consumer: consumer.into(),
    }
}

type Script = dyn Fn(&Event, usize) -> Result<(), HandlerError> + Send + Sync;

/// Remembers what it handled and does what the script says; the script sees how often the event came before.
pub struct Scripted {
    pub seen: Mutex<Vec<Uuid>>,
    pub handled: Mutex<Vec<Uuid>>,
    script: Box<Script>,
}

impl Scripted {
    pub fn new(script: impl Fn(&Event, usize) -> Result<(), HandlerError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            handled: Mutex::default(),
            script: Box::new(script),
        })
    }

    pub fn handled(&self) -> Vec<Uuid> {
        self.handled.lock().unwrap().clone()
    }

    pub fn attempts(&self, id: Uuid) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| **seen == id).count()
    }
}

#[async_trait]
impl Handler for Scripted {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let before = self.attempts(event.id);
        self.seen.lock().unwrap().push(event.id);
        (self.script)(event, before)?;
        self.handled.lock().unwrap().push(event.id);
        Ok(())
    }
}

type TamperWithSource = dyn Fn(Box<dyn EventSource>) -> Box<dyn EventSource> + Send + Sync;

/// A bus on which something goes wrong.
pub struct Tampered {
    bus: Arc<dyn EventBus>,
    dies_after_publish: bool,
    /// The method whose call of this number has no effect; counted from 1.
    full_at: (&'static str, usize),
    calls: AtomicUsize,
    /// Until it is asked for the first time, the bus runs as another than it is.
    another_run: AtomicBool,
    source: Box<TamperWithSource>,
}

impl Tampered {
    /// Publishes for real and then never returns: the process dies between publish and mark.
    pub fn dies_after_publish(bus: &Arc<RedisStreams>) -> Self {
        Self {
            dies_after_publish: true,
            ..Self::reads_by(bus, |source| source)
        }
    }

    /// Has no room at the `call`th call of this method.
    pub fn full_at(bus: &Arc<RedisStreams>, method: &'static str, call: usize) -> Self {
        Self {
            full_at: (method, call),
            ..Self::reads_by(bus, |source| source)
        }
    }

    /// Reads by what `source` makes of the real reading end.
    pub fn reads_by(
        bus: &Arc<RedisStreams>,
        source: impl Fn(Box<dyn EventSource>) -> Box<dyn EventSource> + Send + Sync + 'static,
    ) -> Self {
        Self {
            bus: bus.clone(),
            dies_after_publish: false,
            full_at: ("", 0),
            calls: AtomicUsize::new(0),
            another_run: AtomicBool::new(false),
            source: Box::new(source),
        }
    }

    /// Is started again once it was asked which run it is.
    pub fn restarts(bus: &Arc<RedisStreams>) -> Self {
        Self {
            another_run: AtomicBool::new(true),
            ..Self::reads_by(bus, |source| source)
        }
    }

    fn room_for(&self, method: &str) -> Result<(), BusError> {
        let (tampered, call) = self.full_at;
        if method != tampered || self.calls.fetch_add(1, Ordering::SeqCst) + 1 != call {
            return Ok(());
        }
        Err(BusError {
            action: "call",
            reason: "there is no room".into(),
            unavailable: true,
        })
    }
}

#[async_trait]
impl EventBus for Tampered {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), BusError>> {
        if let Err(full) = self.room_for("publish") {
            return events.iter().map(|_| Err(full.clone())).collect();
        }
        let published = self.bus.publish(events).await;
        if self.dies_after_publish {
            std::future::pending::<()>().await;
        }
        published
    }
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn EventSource>, BusError> {
        self.bus.subscribe(subscription).await.map(&self.source)
    }
    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), BusError> {
        self.bus.acknowledge(delivery).await
    }
    async fn count_error(&self, delivery: &Delivery) -> Result<u32, BusError> {
        self.bus.count_error(delivery).await
    }
    async fn dead_letter(&self, delivery: &Delivery, errors: u32, reason: &str) -> Result<(), BusError> {
        self.bus.dead_letter(delivery, errors, reason).await
    }
    async fn lag(&self, subscription: &Subscription) -> Result<Vec<(String, i64)>, BusError> {
        self.bus.lag(subscription).await
    }
    async fn tidy(&self, topics: &[String]) -> Result<Vec<Held>, BusError> {
        self.bus.tidy(topics).await
    }
    async fn ping(&self) -> Result<(), BusError> {
        self.bus.ping().await
    }
    async fn epoch(&self, outbox: &str) -> Result<Epoch, BusError> {
        self.room_for("epoch")?;
        let mut epoch = self.bus.epoch(outbox).await?;
        if self.another_run.swap(false, Ordering::SeqCst) {
            epoch.run = "before".into();
        }
        Ok(epoch)
    }
    async fn note(&self, outbox: &str, seen: &Epoch, at: DateTime<Utc>) -> Result<bool, BusError> {
        self.room_for("note")?;
        self.bus.note(outbox, seen, at).await
    }
    async fn turn(&self, outbox: &str, holder: &str, time: Duration) -> Result<bool, BusError> {
        self.room_for("turn")?;
        self.bus.turn(outbox, holder, time).await
    }
    async fn losses(&self, outbox: &str) -> Result<Vec<Lost>, BusError> {
        self.bus.losses(outbox).await
    }
    async fn made_good(&self, outbox: &str, last: &Lost, run: &str) -> Result<bool, BusError> {
        self.room_for("made_good")?;
        self.bus.made_good(outbox, last, run).await
    }
    async fn mark(&self, group: &str) -> Result<Option<Uuid>, BusError> {
        self.bus.mark(group).await
    }
    async fn set_mark(&self, group: &str, seen: Option<Uuid>, mark: Uuid) -> Result<bool, BusError> {
        self.room_for("set_mark")?;
        self.bus.set_mark(group, seen, mark).await
    }
    async fn forgotten(&self, subscription: &Subscription, seen: Uuid, mark: Uuid) -> Result<bool, BusError> {
        self.room_for("forgotten")?;
        self.bus.forgotten(subscription, seen, mark).await
    }
    async fn room(&self, topic: &str) -> Result<usize, BusError> {
        self.bus.room(topic).await
    }
    async fn hold(&self, subscription: &Subscription) -> Result<(), BusError> {
        self.bus.hold(subscription).await
    }
    async fn release(&self, subscription: &Subscription) -> Result<(), BusError> {
        self.bus.release(subscription).await
    }
    async fn dead_letters(
        &self,
        topic: &str,
        group: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, BusError> {
        self.bus.dead_letters(topic, group, after, limit).await
    }
    async fn revive(&self, letter: &DeadLetter) -> Result<bool, BusError> {
        self.bus.revive(letter).await
    }
}

/// A Redis of its own, killed with this value.
pub struct OwnRedis(Child);

impl OwnRedis {
    pub fn start(port: u16) -> Self {
        Self::start_with(port, &[])
    }

    pub fn start_with(port: u16, more: &[&str]) -> Self {
        let port = port.to_string();
        let arguments = [
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
        ];
        let child = Command::new("redis-server")
            .args(arguments)
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Self(child)
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The arguments of a bus on a Redis of its own at this port, which is found to be away as soon as in earnest.
pub fn own_bus(port: u16) -> BusArgs {
    BusArgs {
        redis_url: format!("redis://127.0.0.1:{port}/").into(),
        redis_timeout: Duration::from_secs(1),
        ..bus_args()
    }
}
