//! A whole shop: four processes, four databases, one Redis prefix; and the sums that must come out right.
//!
//! Each service is this test binary started again (see [`service_process`]), so that `kill -9` means what it says.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::service::launch;
use valerix_kit::testing::{Answer, TestDatabase, bus_args, free_port};

pub const SERVICES: [&str; 4] = ["processor", "inventory", "payment", "order"];
const ROLE: &str = "VALERIX_TEST_ROLE";
pub const PRICE: i64 = 49_900;

/// Not a test when the whole suite runs: it is what [`Shop::start`] runs in a process of its own.
#[test]
fn service_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // Ends with the process that started it, however that one ends.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::abort();
    });
    match role.as_str() {
        "order" => {
            let config = valerix_order::config::Config::parse_from(["order"]);
            launch(&config.service.clone(), || valerix_order::startup::build(config))
        }
        "inventory" => {
            let config = valerix_inventory::config::Config::parse_from(["inventory"]);
            launch(&config.service.clone(), || valerix_inventory::startup::build(config))
        }
        "payment" => {
            let config = valerix_payment::config::Config::parse_from(["payment"]);
            launch(&config.service.clone(), || valerix_payment::startup::build(config))
        }
        "processor" => {
            let config = valerix_processor::config::Config::parse_from(["processor"]);
            launch(&config.service.clone(), || valerix_processor::startup::build(config))
        }
        other => panic!("there is no role {other}"),
    }
    .unwrap();
}

struct Part {
    port: u16,
    database: Arc<TestDatabase>,
    environment: BTreeMap<String, String>,
    process: Option<Child>,
}

/// The shop.
pub struct Shop {
    pub http: reqwest::Client,
    pub folder: tempfile::TempDir,
    parts: BTreeMap<&'static str, Part>,
}

/// What a client is told about an order.
pub trait Told {
    /// The order's id.
    fn order(&self) -> Uuid;
}

impl Told for Answer {
    fn order(&self) -> Uuid {
        let body = self.body();
        let id = body["order_id"].as_str().and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("no order: {self:?}"))
    }
}

impl Shop {
    /// A shop with `stock` pieces of `ps5` and some of `switch`; `settings` are (service, variable, value).
    pub async fn start(stock: u32, settings: &[(&'static str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus_args();
        let mut parts = BTreeMap::new();
        for name in SERVICES {
            let database = Arc::new(TestDatabase::create().await);
            let (port, report) = (free_port(), free_port());
            let path = |kind: &str| folder.path().join(name).join(kind);
            std::fs::create_dir_all(path("policy")).unwrap();
            std::fs::create_dir_all(path("state")).unwrap();
            let mut environment = BTreeMap::new();
            let mut set = |variable: &str, value: String| environment.insert(variable.to_owned(), value);
            set(ROLE, name.to_owned());
            set("LISTEN_ADDRESS", format!("127.0.0.1:{port}"));
            set("VALERIX_REPORT_PORT", report.to_string());
            set("VALERIX_SERVICE", name.to_owned());
            set("VALERIX_NAMESPACE", "shop".to_owned());
            set("VALERIX_POD_UID", format!("uid-{name}"));
            set("POD_NAME", format!("{name}-0"));
            set("VALERIX_POLICY_DIR", path("policy").display().to_string());
            set("VALERIX_STATE_DIR", path("state").display().to_string());
            set("DATABASE_URL", database.url());
            set("REDIS_URL", bus.redis_url.expose().to_owned());
            set("REDIS_PREFIX", bus.redis_prefix.clone());
            set("LOG_FORMAT", "text".to_owned());
            set("RUST_LOG", "info".to_owned());
            set("DRAIN_WAIT", "0ms".to_owned());
            parts.insert(
                name,
                Part {
                    port,
                    database,
                    environment,
                    process: None,
                },
            );
        }
        let mut shop = Self {
            http: reqwest::Client::new(),
            folder,
            parts,
        };
        let items = json!([
            {"id": "ps5", "quantity": stock, "unitPriceMinor": PRICE, "currency": "EUR"},
            {"id": "switch", "quantity": 1000, "unitPriceMinor": 1, "currency": "EUR"},
        ]);
        shop.set("inventory", "INVENTORY_ITEMS", &items.to_string());
        for (service, variable) in [("inventory", "INVENTORY_URL"), ("payment", "PAYMENT_URL")] {
            let url = shop.url(service);
            shop.set("order", variable, &url);
        }
        let processor = shop.url("processor");
        shop.set("payment", "PROCESSOR_URL", &processor);
        for (service, variable, value) in settings {
            shop.set(service, variable, value);
        }
        shop.policy("order", &order_policy());
        shop.policy("payment", &payment_policy());
        shop.policy("inventory", &json!({"version": 1, "chaos": {"admission": "Allowed"}}));
        for name in SERVICES {
            shop.spawn(name);
        }
        for name in SERVICES {
            shop.ready(name).await;
        }
        shop
    }

    /// One more process called `name` of a service, on the same database and with the same documents.
    pub async fn replica(&mut self, service: &str, name: &'static str) {
        let (port, report) = (free_port(), free_port());
        let part = &self.parts[service];
        let (database, mut environment) = (Arc::clone(&part.database), part.environment.clone());
        let state = self.folder.path().join(name);
        std::fs::create_dir_all(&state).unwrap();
        for (variable, value) in [
            ("LISTEN_ADDRESS", format!("127.0.0.1:{port}")),
            ("VALERIX_REPORT_PORT", report.to_string()),
            ("VALERIX_POD_UID", format!("uid-{name}")),
            ("POD_NAME", name.to_owned()),
            ("VALERIX_STATE_DIR", state.display().to_string()),
        ] {
            environment.insert(variable.to_owned(), value);
        }
        let part = Part {
            port,
            database,
            environment,
            process: None,
        };
        self.parts.insert(name, part);
        self.spawn(name);
        self.ready(name).await;
    }

    /// `kill -9` and a new start.
    pub async fn restart(&mut self, service: &'static str) {
        self.kill(service);
        self.spawn(service);
        self.ready(service).await;
    }

    /// Closes every connection to a service's database and lets nobody in, as a restart of Postgres does.
    pub async fn shut_database(&self, service: &str) {
        let database = &self.parts[service].database;
        let name = database.name();
        let sessions = format!("FROM pg_stat_activity WHERE datname = '{name}'");
        database
            .admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await;
        database
            .admin(&format!("SELECT pg_terminate_backend(pid) {sessions}"))
            .await;
    }

    /// Undoes [`Self::shut_database`].
    pub async fn open_database(&self, service: &str) {
        let database = &self.parts[service].database;
        database
            .admin(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", database.name()))
            .await;
    }

    /// All databases at once.
    pub async fn restart_postgres(&self) {
        for service in SERVICES {
            self.shut_database(service).await;
        }
        self.until("order notices", || async {
            let order = json!({"item_id": "switch", "quantity": 1});
            let answer = self.try_place("nobody-home", &order).await;
            answer.is_ok_and(|answer| answer.status == 503).then_some(())
        })
        .await;
        for service in SERVICES {
            self.open_database(service).await;
        }
    }

    /// A variable of a service; counts from its next start.
    pub fn set(&mut self, service: &str, variable: &str, value: &str) {
        self.part(service)
            .environment
            .insert(variable.to_owned(), value.to_owned());
    }

    /// Writes a document of a service as the kubelet would find it.
    pub fn policy(&self, service: &str, policy: &Value) {
        self.document(service, "policy.v1.json", policy);
    }

    pub fn document(&self, service: &str, name: &str, document: &Value) {
        let folder = self.folder.path().join(service).join("policy");
        let new = folder.join(format!(".{name}.new"));
        std::fs::write(&new, document.to_string()).unwrap();
        std::fs::rename(new, folder.join(name)).unwrap();
    }

    fn part(&mut self, service: &str) -> &mut Part {
        self.parts.get_mut(service).unwrap()
    }

    pub fn url(&self, service: &str) -> String {
        format!("http://127.0.0.1:{}", self.parts[service].port)
    }

    /// A pool beside the service's own.
    pub async fn pool(&self, service: &str) -> PgPool {
        self.parts[service].database.pool().await
    }

    pub fn log(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("{service}.log"))
    }

    pub fn spawn(&mut self, service: &'static str) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(service))
            .unwrap();
        let part = self.part(service);
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["shop::service_process", "--exact", "--nocapture"])
            .envs(&part.environment)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        part.process = Some(process);
    }

    /// `kill -9`.
    pub fn kill(&mut self, service: &str) {
        let mut process = self.part(service).process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// `kill -9` without waiting for the end, so that requests to it may be under way.
    pub fn signal_kill(&self, service: &str) {
        self.signal(service, "-9");
    }

    /// A signal to a service, as `kill` spells it.
    pub fn signal(&self, service: &str, signal: &str) {
        let process = self.parts[service].process.as_ref().unwrap();
        let done = Command::new("kill")
            .args([signal, &process.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// The key of a topic's stream in Redis.
    pub fn stream(&self, topic: &str) -> String {
        format!("{}{topic}", self.parts["order"].environment["REDIS_PREFIX"])
    }

    pub async fn ready(&self, service: &str) {
        let url = format!("{}/ready", self.url(service));
        self.until(&format!("{service} is ready"), || async {
            self.http
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(())
        })
        .await;
    }

    /// Asks until `probe` gives a value; a minute is the longest that the shop may need for anything.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut probe: impl FnMut() -> F) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            if begun.elapsed() > Duration::from_secs(60) {
                for service in self.parts.keys() {
                    let log = std::fs::read_to_string(self.log(service)).unwrap_or_default();
                    let tail = log.lines().rev().take(40).collect::<Vec<_>>();
                    eprintln!(
                        "--- {service}\n{}",
                        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                    );
                }
                panic!("waited in vain until {what}");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// One POST.
    pub async fn try_place(&self, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        self.try_place_at("order", key, body).await
    }

    /// One POST to a replica.
    pub async fn try_place_at(&self, replica: &str, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let request = self.http.post(format!("{}/api/orders", self.url(replica)));
        Self::answer(request.header("idempotency-key", key).json(body)).await
    }

    /// As a caller that gives up after `milliseconds`.
    pub async fn place_within(&self, milliseconds: u64) -> Answer {
        let request = self.http.post(format!("{}/api/orders", self.url("order")));
        let request = request
            .header("idempotency-key", Uuid::now_v7().to_string())
            .header("valerix-timeout-ms", milliseconds)
            .json(&json!({"item_id": "ps5", "quantity": 1}));
        Self::answer(request).await.unwrap()
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        Answer::try_of(request.timeout(Duration::from_secs(10))).await
    }

    pub async fn place(&self, item: &str, quantity: u32) -> Answer {
        let body = json!({"item_id": item, "quantity": quantity});
        self.try_place(&Uuid::now_v7().to_string(), &body).await.unwrap()
    }

    /// A POST without a key: `cancel` or `refund` of an order.
    pub async fn undo(&self, order: Uuid, verb: &str) -> Answer {
        self.try_undo_at("order", order, verb).await.unwrap()
    }

    /// The same at a replica, which may be dead.
    pub async fn try_undo_at(&self, replica: &str, order: Uuid, verb: &str) -> Result<Answer, reqwest::Error> {
        let url = format!("{}/api/orders/{order}/{verb}", self.url(replica));
        Self::answer(self.http.post(url)).await
    }

    pub async fn get(&self, service: &str, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url(service)));
        Self::answer(request).await.unwrap()
    }

    pub async fn available(&self, item: &str) -> i64 {
        self.get("inventory", &format!("/api/inventory/{item}")).await.body()["available"]
            .as_i64()
            .unwrap()
    }

    /// Waits until the order has reached `status`.
    pub async fn reaches(&self, order: Uuid, status: &str) {
        self.until(&format!("order {order} is {status}"), || async {
            let body = self.get("order", &format!("/api/orders/{order}")).await.body();
            (body["status"] == status).then_some(())
        })
        .await;
    }

    /// Waits until nothing is under way: no open order, no open command, nothing unpublished, nothing to be settled.
    pub async fn comes_to_rest(&self) {
        let (order, payment, inventory) = (
            self.pool("order").await,
            self.pool("payment").await,
            self.pool("inventory").await,
        );
        let zero = |pool: PgPool, statement: &'static str| async move {
            sqlx::query_scalar::<_, i64>(statement).fetch_one(&pool).await.unwrap() == 0
        };
        const UNPUBLISHED: &str = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
        const OPEN: &str = "SELECT count(*) FROM orders WHERE state NOT IN ('CONFIRMED', 'CANCELLED', 'REFUNDED')";
        self.until("the shop comes to rest", || async {
            let rest = zero(order.clone(), OPEN).await
                && zero(order.clone(), "SELECT count(*) FROM commands").await
                && zero(
                    payment.clone(),
                    "SELECT count(*) FROM payments WHERE due_at IS NOT NULL",
                )
                .await
                && zero(order.clone(), UNPUBLISHED).await
                && zero(payment.clone(), UNPUBLISHED).await
                && zero(inventory.clone(), UNPUBLISHED).await;
            rest.then_some(())
        })
        .await;
    }

    /// At rest: money and stock add up, from the databases of all four.
    pub async fn adds_up(&self, stock: i64) {
        self.comes_to_rest().await;
        let orders: Vec<(Uuid, String, i32, Option<i64>)> =
            sqlx::query_as("SELECT id, state, quantity, amount_minor FROM orders WHERE item_id = 'ps5'")
                .fetch_all(&self.pool("order").await)
                .await
                .unwrap();
        let payments: BTreeMap<Uuid, (Uuid, String)> = sqlx::query_as("SELECT order_id, id, state FROM payments")
            .fetch_all(&self.pool("payment").await)
            .await
            .unwrap()
            .into_iter()
            .map(|(order, id, state): (Uuid, Uuid, String)| (order, (id, state)))
            .collect();
        let ledger = self.ledger().await;
        let mut sold = 0;
        for (order, state, quantity, amount) in &orders {
            let payment = payments.get(order);
            let charge = payment.and_then(|(id, _)| ledger.get(&id.to_string()));
            if state == "CONFIRMED" {
                sold += i64::from(*quantity);
                assert_eq!(
                    payment.map(|(_, state)| state.as_str()),
                    Some("CHARGED"),
                    "order {order}"
                );
                assert_eq!(
                    charge,
                    Some(&("SUCCEEDED".to_owned(), amount.unwrap())),
                    "order {order}"
                );
            } else if state == "REFUNDED" {
                assert_eq!(charge, Some(&("REFUNDED".to_owned(), amount.unwrap())), "order {order}");
            } else {
                assert_ne!(
                    charge.map(|(status, _)| status.as_str()),
                    Some("SUCCEEDED"),
                    "order {order} is {state}"
                );
            }
        }
        let settled = ledger.values().filter(|(status, _)| status == "SUCCEEDED").count();
        let confirmed = orders.iter().filter(|(_, state, ..)| state == "CONFIRMED").count();
        assert_eq!(settled, confirmed, "a charge belongs to no confirmed order");
        assert_eq!(stock - self.available("ps5").await, sold, "stock does not add up");
        let terminal: Vec<Uuid> = orders.iter().map(|(order, ..)| *order).collect();
        let held: i64 =
            sqlx::query_scalar("SELECT count(*) FROM reservations WHERE order_id = ANY($1) AND state = 'RESERVED'")
                .bind(&terminal)
                .fetch_one(&self.pool("inventory").await)
                .await
                .unwrap();
        assert_eq!(held, 0, "stock is held for orders that are over");
    }

    /// The processor's own word: key -> (status, amount; 0 of a cancelled key).
    pub async fn ledger(&self) -> BTreeMap<String, (String, i64)> {
        let mut ledger = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get("processor", &format!("/charges?limit=1000{cursor}"))
                .await
                .body();
            for charge in page["charges"].as_array().unwrap() {
                let text = |member: &str| charge[member].as_str().unwrap().to_owned();
                let known = ledger.insert(
                    text("key"),
                    (text("status"), charge["amount_minor"].as_i64().unwrap_or(0)),
                );
                assert_eq!(known, None, "two charges of one key");
            }
            let Some(next) = page["next_cursor"].as_str() else {
                return ledger;
            };
            cursor = format!("&cursor={next}");
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for part in self.parts.values_mut() {
            if let Some(mut process) = part.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// The times that the chart gives order.
pub fn order_policy() -> Value {
    let breaker = json!({"consecutiveFailures": 3, "openDuration": "1s", "maxOpenDuration": "2s"});
    // A key of a killed process is free again soon.
    let inbound = json!({"timeout": "3s", "idempotency": {"lockTimeout": "4s"}});
    json!({"version": 1, "chaos": {"admission": "Allowed"}, "inbound": inbound, "targets": [
        {"name": "inventory", "timeout": {"request": "1s", "attempt": "500ms"}, "circuitBreaker": breaker,
         "idempotentRoutes": ["POST /api/inventory/deduct"]},
        {"name": "payment", "timeout": {"request": "1s", "attempt": "900ms"}, "circuitBreaker": breaker,
         "idempotentRoutes": ["POST /payments"]},
    ]})
}

/// The times that the chart gives payment, all of them shorter.
pub fn hasty_payment_policy() -> Value {
    json!({"version": 1, "targets": [
        {"name": "processor", "timeout": {"request": "500ms", "attempt": "200ms"},
         "circuitBreaker": {"consecutiveFailures": 5, "openDuration": "1s", "maxOpenDuration": "2s"},
         "idempotentRoutes": ["POST /charges"]},
    ]})
}

/// Without a breaker: a processor that fails half of the time on purpose would open it again and again.
fn payment_policy() -> Value {
    json!({"version": 1, "mode": "Disabled"})
}
