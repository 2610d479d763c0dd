//! A service of its own for each test, and what the tests do to it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_inventory::config::Config;
use valerix_inventory::startup::build;
use valerix_kit::args::BusArgs;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::{Event, EventBus};
use valerix_kit::testing::{Answer, TestDatabase, TestServer, bus_args, eventually, service_args};

pub struct App {
    pub base: String,
    pub client: reqwest::Client,
    pub pool: PgPool,
    pub bus: Arc<RedisStreams>,
    redis: redis::aio::MultiplexedConnection,
    database: TestDatabase,
    bus_args: BusArgs,
    servers: Mutex<Vec<TestServer>>,
}

impl App {
    /// A service with `quantity` pieces of `ps5` at 499.00 EUR.
    pub async fn spawn(quantity: u32) -> Self {
        let (database, bus_args) = (TestDatabase::create().await, bus_args());
        let pool = database.pool().await;
        let redis = valerix_kit::testing::redis().await;
        let mut app = Self {
            base: String::new(),
            client: reqwest::Client::new(),
            pool,
            bus: Arc::new(RedisStreams::open(&bus_args)),
            redis,
            database,
            bus_args,
            servers: Mutex::default(),
        };
        app.base = app.replica(quantity).await;
        app
    }

    /// One more instance on the same database and Redis; returns its address.
    pub async fn replica(&self, quantity: u32) -> String {
        self.replica_on(quantity, &self.bus_args).await
    }

    /// The same with another Redis.
    pub async fn replica_on(&self, quantity: u32, bus: &BusArgs) -> String {
        self.replica_with(quantity, |config| config.bus = bus.clone()).await
    }

    /// The same with a configuration that is changed by `change`.
    pub async fn replica_with(&self, quantity: u32, change: impl FnOnce(&mut Config)) -> String {
        let items = json!([{"id": "ps5", "quantity": quantity, "unitPriceMinor": 49900, "currency": "EUR"}]);
        let (url, bus) = (self.database.url(), &self.bus_args);
        let arguments = [
            "inventory",
            "--database-url",
            &url,
            "--redis-url",
            bus.redis_url.expose(),
            "--items",
        ];
        let mut config = Config::parse_from(arguments.into_iter().map(str::to_owned).chain([items.to_string()]));
        config.service = service_args("inventory");
        config.bus = bus.clone();
        change(&mut config);
        let server = TestServer::start(build(config).await.unwrap()).await;
        let base = server.base.clone();
        self.servers.lock().unwrap().push(server);
        base
    }

    pub async fn deduct(&self, order_id: Uuid, quantity: i64) -> (u16, Value) {
        self.deduct_at(&self.base, &command(order_id, quantity)).await
    }

    pub async fn deduct_at(&self, base: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{base}/api/inventory/deduct")).json(body);
        let answer = Answer::of(request).await;
        (answer.status, answer.body())
    }

    /// Puts a command on its stream, as order's relay does.
    pub async fn command(&self, event_type: &str, payload: Value, event: Uuid) {
        let event = Event {
            id: event,
            topic: "inventory.commands".into(),
            event_type: event_type.into(),
            aggregate: "order:test".into(),
            version: 1,
            occurred_at: std::time::SystemTime::now().into(),
            payload,
            traceparent: String::new(),
        };
        self.bus.publish(&[event]).await.pop().unwrap().unwrap();
    }

    /// (type, payload) of what the service has said about an order, in the order of the stream. What stands there once more
    /// under the same id counts once, as it does for everybody who reads: a relay that heard no answer says it again.
    pub async fn said(&self, order_id: Uuid) -> Vec<(String, Value)> {
        self.entries("inventory.events")
            .await
            .into_iter()
            .filter(|(_, payload)| payload["order_id"] == json!(order_id))
            .collect()
    }

    pub async fn dead(&self) -> Vec<(String, Value)> {
        self.entries("inventory.commands:dead").await
    }

    async fn entries(&self, topic: &str) -> Vec<(String, Value)> {
        let mut redis = self.redis.clone();
        let reply: redis::streams::StreamRangeReply =
            redis::AsyncCommands::xrange_all(&mut redis, self.bus.stream(topic))
                .await
                .unwrap();
        let field = |entry: &redis::streams::StreamId, name: &str| entry.get::<String>(name).unwrap();
        let read = |entry| {
            let payload = serde_json::from_str(&field(entry, "payload")).unwrap();
            (field(entry, "type"), payload)
        };
        let mut known = HashSet::new();
        let is_new = |entry: &&redis::streams::StreamId| known.insert(field(entry, "id"));
        reply.ids.iter().filter(is_new).map(read).collect()
    }

    /// Waits until the service has said `count` things about the order, and returns them.
    pub async fn answers(&self, order_id: Uuid, count: usize) -> Vec<(String, Value)> {
        eventually("the answers are there", || async {
            let said = self.said(order_id).await;
            (said.len() >= count).then_some(said)
        })
        .await
    }

    pub async fn available(&self) -> i64 {
        sqlx::query_scalar("SELECT available FROM items WHERE item_id = 'ps5'")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub async fn state(&self, order_id: Uuid) -> String {
        sqlx::query_scalar("SELECT state FROM reservations WHERE order_id = $1")
            .bind(order_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// What is held or sold is exactly what is missing.
    pub async fn assert_stock_adds_up(&self) {
        let (missing, held): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT sum(initial - available) FROM items)::bigint, \
             (SELECT coalesce(sum(quantity), 0) FROM reservations WHERE state IN ('RESERVED', 'COMMITTED'))::bigint",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(missing, held);
    }
}

pub fn command(order_id: Uuid, quantity: i64) -> Value {
    json!({"order_id": order_id, "item_id": "ps5", "quantity": quantity})
}

pub fn fresh_event() -> Uuid {
    Uuid::new_v4()
}
