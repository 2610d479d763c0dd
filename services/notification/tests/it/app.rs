//! A service of its own for each test, with a mail server and an auth, and what the tests do to it.

use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::args::BusArgs;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::{Event, EventBus, event_id};
use valerix_kit::testing::{TestDatabase, TestServer, bus_args, eventually, service_args};
use valerix_notification::config::Config;
use valerix_notification::events::{AUTH_EVENTS, ORDER_EVENTS};
use valerix_notification::startup::build;

use crate::auth::Auth;
use crate::smtp::Smtp;

pub struct App {
    /// Dropped before the database.
    pub servers: Vec<TestServer>,
    pub pool: PgPool,
    pub smtp: Smtp,
    pub auth: Auth,
    bus: RedisStreams,
    bus_args: BusArgs,
    database: TestDatabase,
}

impl App {
    pub async fn spawn() -> Self {
        Self::spawn_with(|_, _| {}).await
    }

    /// A service whose configuration is changed by `change`, which is told the port of the mail server.
    pub async fn spawn_with(change: impl FnOnce(&mut Config, u16)) -> Self {
        let (database, bus_args) = (TestDatabase::create().await, bus_args());
        let mut app = Self {
            servers: vec![],
            pool: database.pool().await,
            smtp: Smtp::start().await,
            auth: Auth::start().await,
            bus: RedisStreams::open(&bus_args),
            bus_args,
            database,
        };
        let mut config = app.config();
        change(&mut config, app.smtp.port);
        app.servers.push(TestServer::start(build(config).await.unwrap()).await);
        app
    }

    pub fn config(&self) -> Config {
        let (url, smtp) = (self.database.url(), format!("smtp://127.0.0.1:{}", self.smtp.port));
        let arguments = [
            "notification",
            "--database-url",
            &url,
            "--redis-url",
            self.bus_args.redis_url.expose(),
        ];
        let mut config =
            Config::parse_from(
                arguments
                    .into_iter()
                    .chain(["--smtp-url", &smtp, "--delivery-pause", "20ms"]),
            );
        config.service = service_args("notification");
        config.service.identity.auth_url = Some(self.auth.url.clone());
        config.bus = self.bus_args.clone();
        config.sweep_interval = Duration::from_millis(20);
        config
    }

    pub async fn replica(&mut self) {
        let server = TestServer::start(build(self.config()).await.unwrap()).await;
        self.servers.push(server);
    }

    /// Announces that an order of `user` is confirmed, `times` times; gives the event's id.
    pub async fn confirm(&self, user: Option<Uuid>, times: usize) -> Uuid {
        let order = Uuid::now_v7();
        let payload = json!({"order_id": order, "user_id": user, "item_id": "ps5", "quantity": 1, "amount_minor": 49900,
            "currency": "EUR"});
        let mut id = Uuid::nil();
        for _ in 0..times {
            id = self
                .publish(ORDER_EVENTS, "OrderConfirmed", &format!("order:{order}"), 3, &payload)
                .await;
        }
        id
    }

    pub async fn about_user(&self, kind: &str, user: Uuid, version: i64) {
        let payload = json!({"user_id": user});
        self.publish(AUTH_EVENTS, kind, &format!("user:{user}"), version, &payload)
            .await;
    }

    pub async fn publish(&self, topic: &str, kind: &str, aggregate: &str, version: i64, payload: &Value) -> Uuid {
        let event = Event {
            id: event_id(aggregate, version, kind, payload),
            topic: topic.into(),
            event_type: kind.into(),
            aggregate: aggregate.into(),
            version,
            occurred_at: chrono::Utc::now(),
            payload: payload.clone(),
            traceparent: String::new(),
        };
        let id = event.id;
        self.bus.publish(&[event]).await.pop().unwrap().unwrap();
        id
    }

    /// Waits until everything published is handled.
    pub async fn caught_up(&self) {
        let subscription = valerix_kit::events::Subscription {
            topics: vec![ORDER_EVENTS.into(), AUTH_EVENTS.into()],
            group: "notification".into(),
            consumer: "looks".into(),
        };
        eventually("every event is handled", || async {
            let lags = self.bus.lag(&subscription).await.unwrap();
            lags.iter().all(|(_, lag)| *lag == 0).then_some(())
        })
        .await;
    }

    /// (status, reason) of the message of an event on a channel, once `done` says so.
    pub async fn message_when(
        &self,
        event: Uuid,
        channel: &str,
        done: impl Fn(&(String, Option<String>)) -> bool,
    ) -> (String, Option<String>) {
        eventually("the message is so far", || async {
            let row: Option<(String, Option<String>)> =
                sqlx::query_as("SELECT status, reason FROM notifications WHERE event_id = $1 AND channel = $2")
                    .bind(event)
                    .bind(channel)
                    .fetch_optional(&self.pool)
                    .await
                    .unwrap();
            row.filter(|row| done(row))
        })
        .await
    }

    /// The end of the message of an event on a channel.
    pub async fn end(&self, event: Uuid, channel: &str) -> (String, Option<String>) {
        self.message_when(event, channel, |(status, _)| status != "QUEUED")
            .await
    }
}

/// A status with its reason, as tests compare it.
pub fn ended(status: &str, reason: Option<&str>) -> (String, Option<String>) {
    (status.to_owned(), reason.map(str::to_owned))
}
