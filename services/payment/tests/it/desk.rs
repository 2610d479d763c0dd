//! A payment service and a processor in this process, each with a database of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use valerix_kit::args::BusArgs;
use valerix_kit::service::Server;
use valerix_kit::testing::{Answer, TestDatabase, bus_args, eventually, service_args};
use valerix_payment::config::Config;

pub struct Desk {
    pub http: reqwest::Client,
    pub url: String,
    pub processor: String,
    pub bus: BusArgs,
    database: TestDatabase,
    report: String,
    processor_database: Option<TestDatabase>,
    _stop: DropGuard,
}

impl Desk {
    /// `misbehaviour`: arguments of the processor. One that behaves is waited for, however busy the machine is.
    pub async fn open(misbehaviour: &[&str]) -> Self {
        let lease = if misbehaviour.is_empty() { 20 } else { 1 };
        Self::patient(misbehaviour, Duration::from_secs(lease)).await
    }

    /// One that waits for its processor as `lease` says.
    pub async fn patient(misbehaviour: &[&str], lease: Duration) -> Self {
        let processor_database = TestDatabase::create().await;
        let stop = CancellationToken::new();
        let mut arguments = vec!["processor", "--database-url", "postgres://unused"];
        arguments.extend(misbehaviour);
        let mut config = valerix_processor::config::Config::parse_from(arguments);
        config.service = service_args("processor");
        config.database = processor_database.args();
        let processor = run(valerix_processor::startup::build(config).await.unwrap(), &stop);
        let mut desk = Self::before(processor, lease, stop).await;
        desk.is_ready(&desk.processor).await;
        desk.processor_database = Some(processor_database);
        desk
    }

    /// A payment service before any processor.
    pub async fn before(processor: String, lease: Duration, stop: CancellationToken) -> Self {
        let database = TestDatabase::create().await;
        let bus = bus_args();
        let mut config = Config::parse_from([
            "payment",
            "--database-url",
            "postgres://unused",
            "--redis-url",
            "redis://unused",
        ]);
        config.service = service_args("payment");
        // Without a breaker: a processor that fails half of the time on purpose would open it again and again.
        let policy = json!({"version": 1, "mode": "Disabled"});
        std::fs::create_dir_all(&config.service.policy_dir).unwrap();
        std::fs::write(config.service.policy_dir.join("policy.v1.json"), policy.to_string()).unwrap();
        config.database = database.args();
        config.bus = bus.clone();
        config.processor_url = processor.clone();
        config.settle_lease = lease;
        config.sweep_interval = Duration::from_millis(50);
        let server = valerix_payment::startup::build(config).await.unwrap();
        let report = format!("http://{}", server.report_address());
        let url = run(server, &stop);
        let desk = Self {
            http: reqwest::Client::new(),
            url,
            processor,
            bus,
            database,
            report,
            processor_database: None,
            _stop: stop.drop_guard(),
        };
        desk.is_ready(&desk.url).await;
        desk
    }

    async fn is_ready(&self, service: &str) {
        let ready = format!("{service}/ready");
        eventually("it is ready", || async {
            let answer = self.http.get(&ready).send().await;
            answer.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    pub async fn pool(&self) -> PgPool {
        self.database.pool().await
    }

    /// Beside the processor's own.
    pub async fn processor_pool(&self) -> PgPool {
        self.processor_database.as_ref().unwrap().pool().await
    }

    /// The sum over the labels of a metric of the payment service.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = Answer::of(self.http.get(format!("{}/metrics", self.report))).await.text;
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    pub async fn charge(&self, key: &str, order: Uuid, amount: i64) -> Answer {
        let body = json!({"order_id": order, "amount_minor": amount, "currency": "EUR"});
        Answer::of(
            self.http
                .post(format!("{}/payments", self.url))
                .header("idempotency-key", key)
                .json(&body),
        )
        .await
    }

    /// As a caller that gives up after `milliseconds`.
    pub async fn charge_within(&self, milliseconds: u64, key: &str, order: Uuid, amount: i64) -> Answer {
        let body = json!({"order_id": order, "amount_minor": amount, "currency": "EUR"});
        let request = self
            .http
            .post(format!("{}/payments", self.url))
            .header("idempotency-key", key)
            .header("valerix-timeout-ms", milliseconds)
            .json(&body);
        Answer::of(request).await
    }

    pub async fn void(&self, order: Uuid) -> Answer {
        Answer::of(
            self.http
                .post(format!("{}/payments/void", self.url))
                .json(&json!({"order_id": order})),
        )
        .await
    }

    pub async fn refund(&self, payment: &str) -> Answer {
        Answer::of(self.http.post(format!("{}/payments/{payment}/refund", self.url))).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Waits until the payment of `order` has that state.
    pub async fn reaches(&self, order: Uuid, state: &str) {
        let pool = self.pool().await;
        eventually(&format!("the payment is {state}"), || async {
            let found: Option<String> = sqlx::query_scalar("SELECT state FROM payments WHERE order_id = $1")
                .bind(order)
                .fetch_optional(&pool)
                .await
                .unwrap();
            (found.as_deref() == Some(state)).then_some(())
        })
        .await;
    }

    pub async fn is_stored(&self, order: Uuid) -> bool {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM payments WHERE order_id = $1)")
            .bind(order)
            .fetch_one(&self.pool().await)
            .await
            .unwrap()
    }

    /// The processor's own word: key -> status.
    pub async fn ledger(&self) -> BTreeMap<String, String> {
        let page = Answer::of(self.http.get(format!("{}/charges?limit=1000", self.processor)))
            .await
            .body();
        let text = |charge: &Value, member: &str| charge[member].as_str().unwrap().to_owned();
        page["charges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|charge| (text(charge, "key"), text(charge, "status")))
            .collect()
    }

    /// The answers that the outbox holds about `order`, oldest first.
    pub async fn answers(&self, order: Uuid) -> Vec<String> {
        sqlx::query_scalar("SELECT type FROM outbox WHERE payload->>'order_id' = $1 ORDER BY version")
            .bind(order.to_string())
            .fetch_all(&self.pool().await)
            .await
            .unwrap()
    }
}

fn run(server: Server, stop: &CancellationToken) -> String {
    let url = format!("http://{}", server.address());
    tokio::spawn(server.run(stop.clone()));
    url
}
