//! The whole service: events in, figures out.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_analytics::config::Config;
use valerix_analytics::events::{GROUP, ORDER_EVENTS};
use valerix_analytics::startup::build;
use valerix_kit::args::BusArgs;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::{Event, EventBus, Subscription, event_id};
use valerix_kit::testing::walker::{Headers, never_well, walk};
use valerix_kit::testing::{TestDatabase, TestServer, bus_args, eventually, service_args};

pub struct App {
    /// Dropped before the database.
    pub servers: Vec<TestServer>,
    pub pool: PgPool,
    bus: Arc<RedisStreams>,
    _database: TestDatabase,
}

fn config(database: &TestDatabase, bus: &BusArgs) -> Config {
    let arguments = [
        "analytics",
        "--database-url",
        &database.url(),
        "--redis-url",
        bus.redis_url.expose(),
    ];
    let mut config = Config::parse_from(arguments);
    config.service = service_args("analytics");
    config.bus = bus.clone();
    config
}

impl App {
    pub async fn spawn(replicas: usize) -> Self {
        let (database, bus_args) = (TestDatabase::create().await, bus_args());
        let mut servers = Vec::new();
        for _ in 0..replicas {
            servers.push(TestServer::start(build(config(&database, &bus_args)).await.unwrap()).await);
        }
        Self {
            servers,
            pool: database.pool().await,
            bus: Arc::new(RedisStreams::open(&bus_args)),
            _database: database,
        }
    }

    pub async fn announce(&self, order: Uuid, version: i64, kind: &str, payload: Value) {
        self.announce_at(Utc::now(), order, version, kind, payload).await;
    }

    pub async fn announce_at(&self, at: DateTime<Utc>, order: Uuid, version: i64, kind: &str, payload: Value) {
        let aggregate = format!("order:{order}");
        let event = Event {
            id: event_id(&aggregate, version, kind, &payload),
            topic: ORDER_EVENTS.into(),
            event_type: kind.into(),
            aggregate,
            version,
            occurred_at: at,
            payload,
            traceparent: String::new(),
        };
        self.bus.publish(&[event]).await.pop().unwrap().unwrap();
    }

    /// Waits until everything announced is counted.
    pub async fn caught_up(&self) {
        let subscription = Subscription {
            topics: vec![ORDER_EVENTS.into()],
            group: GROUP.into(),
            consumer: "looks".into(),
        };
        eventually("every event is counted", || async {
            let lags = self.bus.lag(&subscription).await.unwrap();
            (lags[0].1 == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn two_replicas_count_each_announcement_once() {
    let app = App::spawn(2).await;
    let sold = |order: Uuid| json!({"order_id": order, "item_id": "ps5", "quantity": 1, "amount_minor": 49900, "currency": "EUR"});
    for number in 0..30 {
        let order = Uuid::now_v7();
        for _ in 0..2 {
            app.announce(order, 2, "OrderConfirmed", sold(order)).await;
            app.announce(
                order,
                1,
                "OrderCreated",
                json!({"order_id": order, "item_id": "ps5", "quantity": 1}),
            )
            .await;
        }
        if number % 3 == 0 {
            app.announce(order, 4, "OrderRefunded", sold(order)).await;
        }
    }
    let lost = Uuid::now_v7();
    let cancelled = json!({"order_id": lost, "item_id": "ps5", "quantity": 1, "reason": "OUT_OF_STOCK"});
    app.announce(lost, 2, "OrderCancelled", cancelled).await;
    app.announce(lost, 3, "OrderAdmired", json!({})).await;
    app.caught_up().await;
    for server in &app.servers {
        let answer = server.get("/analytics/summary").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let total = &answer.body()["total"];
        assert_eq!(
            [
                &total["created"],
                &total["confirmed"],
                &total["cancelled"],
                &total["refunded"]
            ],
            [&json!(30), &json!(30), &json!(1), &json!(10)],
            "{total}"
        );
        assert_eq!(
            total["revenue"]["EUR"],
            json!({"taken_minor": 30 * 49900, "refunded_minor": 10 * 49900})
        );
        assert_eq!(total["latency"]["count"], 30);
    }
}

#[tokio::test]
async fn an_experiment_leaves_the_figures_of_the_shop_alone() {
    let app = App::spawn(1).await;
    let bought = Uuid::now_v7();
    let order = |order: Uuid, more: Value| {
        let mut payload =
            json!({"order_id": order, "item_id": "ps5", "quantity": 1, "amount_minor": 49900, "currency": "EUR"});
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        payload
    };
    app.announce(bought, 1, "OrderCreated", order(bought, json!({}))).await;
    app.announce(bought, 3, "OrderConfirmed", order(bought, json!({})))
        .await;
    for _ in 0..3 {
        let probed = Uuid::now_v7();
        let created = order(probed, json!({"probe": true}));
        app.announce(probed, 1, "OrderCreated", created).await;
        let undone = order(probed, json!({"probe": true, "reason": "PROBE"}));
        app.announce(probed, 5, "OrderCancelled", undone).await;
    }
    app.caught_up().await;
    let summary = app.servers[0].get("/analytics/summary").await.body();
    let total = &summary["total"];
    assert_eq!(
        [
            &total["created"],
            &total["confirmed"],
            &total["cancelled"],
            &total["latency"]["count"]
        ],
        [&json!(1), &json!(1), &json!(0), &json!(1)],
        "{total}"
    );
    assert_eq!(summary["conversion"], json!(1.0));
}

#[tokio::test]
async fn a_wrong_span_is_a_problem_that_names_the_field() {
    let app = App::spawn(1).await;
    for (query, field) in [
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("from=2026-05-04T12:00:00Z&to=2026-05-04T11:00:00Z", "from"),
        ("from=2026-05-01T12:00:00Z&to=2026-05-04T11:00:00Z", "from"),
        ("from=%00", "from"),
        ("from=2026-05-04T12:00:00Z&from=2026-05-04T12:00:00Z", "from"),
    ] {
        let answer = app.servers[0].get(&format!("/analytics/summary?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(answer.body()["errors"][0]["field"], field, "{query}: {answer:?}");
    }
    let far = app.servers[0].get("/analytics/summary?to=9999-12-31T23:59:59Z").await;
    assert_eq!((far.status, far.body()["minutes"].clone()), (200, json!([])));
}

#[tokio::test]
async fn figures_are_for_admins() {
    let (database, bus_args) = (TestDatabase::create().await, bus_args());
    let mut closed = config(&database, &bus_args);
    closed.service.identity.auth_url = Some("http://127.0.0.1:9".into());
    let server = TestServer::start(build(closed).await.unwrap()).await;
    assert_eq!(server.get("/analytics/summary").await.status, 401);
}

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let app = App::spawn(1).await;
    let order = Uuid::now_v7();
    let created = json!({"order_id": order, "item_id": "ps5", "quantity": 1});
    app.announce(order, 1, "OrderCreated", created).await;
    app.caught_up().await;
    let known = [("topic", json!(ORDER_EVENTS))];
    let seen = walk(&app.servers[0], 200, &known, |_| Headers::new()).await;
    assert_eq!(never_well(&seen), [""; 0]);
}
