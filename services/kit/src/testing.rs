//! For tests alone: a fresh database and a fresh Redis prefix each, a service on free ports, what it answers, and a way to
//! wait for a condition.
//!
//! `TEST_DATABASE_URL` is a superuser's URL of a Postgres server, `TEST_REDIS_URL` a Redis. Without them a test fails:
//! a test that quietly did nothing would prove nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not be set up has to fail loudly"
)]

pub mod access;
pub mod chance;
pub mod collector;
pub mod log;
pub mod schemas;
pub mod values;
pub mod walker;

use std::fs::File;
use std::future::Future;
use std::net::TcpListener;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::args::{BusArgs, DatabaseArgs, ServiceArgs};
use crate::service::Server;

/// A port on which nobody listens and that the kernel gives to no connection, as it lies below those that it hands out
/// (from 32768), nor to another program of tests, as each has a block of its own: who binds it a moment later, or again
/// after a restart, finds it still free.
///
/// # Panics
/// When every block is taken.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static BLOCK: LazyLock<(u16, File)> = LazyLock::new(|| {
        let claim = |block: u16| {
            let file = File::create(std::env::temp_dir().join(format!("valerix-test-ports-{block}"))).ok()?;
            // Held until this process ends, however it ends.
            file.try_lock().ok().map(|()| (FIRST_PORT + block * PORTS, file))
        };
        (0..20_000 / PORTS)
            .find_map(claim)
            .expect("a block of ports is free; /tmp/valerix-test-ports-* are locked")
    });
    loop {
        let port = BLOCK.0 + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 250;

/// An empty database of its own, dropped with this value.
pub struct TestDatabase {
    admin: PgConnectOptions,
    name: String,
}

impl TestDatabase {
    /// Creates it.
    ///
    /// # Panics
    /// Without `TEST_DATABASE_URL` or when Postgres refuses.
    pub async fn create() -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL names a Postgres server for tests");
        let admin = PgConnectOptions::from_str(&url).expect("TEST_DATABASE_URL is a Postgres URL");
        let database = Self {
            admin,
            name: format!("test_{}", Uuid::now_v7().simple()),
        };
        database.admin(&format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    /// Runs one statement as superuser on the server (not inside this database).
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn admin(&self, statement: &str) {
        let mut connection = PgConnection::connect_with(&self.admin)
            .await
            .expect("connect to TEST_DATABASE_URL");
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await
            .expect("run as superuser");
        let _ = connection.close().await;
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.admin.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A pool beside the service's, to look from outside.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn pool(&self) -> PgPool {
        PgPool::connect_with(self.admin.clone().database(&self.name))
            .await
            .expect("connect to the test database")
    }

    /// The arguments that a service would get, with patience: many callers at once are no lost database.
    ///
    /// # Panics
    /// Never.
    pub fn args(&self) -> DatabaseArgs {
        #[derive(Parser)]
        struct Wrapper {
            #[command(flatten)]
            args: DatabaseArgs,
        }
        let url = self.url();
        Wrapper::parse_from(["test", "--database-url", &url, "--database-acquire-timeout", "10s"]).args
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        // Drop is not async and a runtime may be running on this thread. Leaving a database behind is no failure.
        let _ = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                if let Ok(mut connection) = PgConnection::connect_with(&admin).await {
                    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    let _ = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
                }
            });
        })
        .join();
    }
}

/// Redis under a prefix of its own. It is waited for as long as a test waits: a machine that stands still for a moment must
/// not look like a lost Redis. Nor a database, see [`TestDatabase::args`].
///
/// # Panics
/// Without `TEST_REDIS_URL`.
pub fn bus_args() -> BusArgs {
    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: BusArgs,
    }
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL names a Redis for tests");
    let prefix = format!("test:{}:", Uuid::now_v7().simple());
    Wrapper::parse_from([
        "test",
        "--redis-url",
        &url,
        "--redis-prefix",
        &prefix,
        "--redis-timeout",
        "20s",
    ])
    .args
}

/// How a test is connected to Redis to look at it from outside. It waits for an answer as long as the test does: a machine
/// that stands still for a moment must not look like a lost Redis.
#[must_use]
pub fn patient_redis() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

/// A connection to look at Redis from outside, a [patient](patient_redis) one.
///
/// # Panics
/// Without `TEST_REDIS_URL`, or when Redis does not answer.
pub async fn redis() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(bus_args().redis_url.expose()).expect("TEST_REDIS_URL is a Redis URL");
    client
        .get_multiplexed_async_connection_with_config(&patient_redis())
        .await
        .expect("connect to TEST_REDIS_URL")
}

/// Arguments of a service on free ports of 127.0.0.1 that drains at once and reads no documents.
///
/// # Panics
/// Never.
pub fn service_args(service: &str) -> ServiceArgs {
    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: ServiceArgs,
    }
    let folder = std::env::temp_dir().join(format!("valerix-test-{}", Uuid::now_v7().simple()));
    let mut args = Wrapper::parse_from(["test", "--listen-address", "127.0.0.1:0", "--service", service]).args;
    args.report_port = 0;
    args.policy_dir = folder.join("policy");
    args.state_dir = folder.join("state");
    args.drain_wait = Duration::ZERO;
    args.drain_timeout = Duration::from_secs(5);
    args.pod_name = format!("{service}-{}", Uuid::new_v4().simple());
    args
}

/// Asks `probe` again and again until it gives a value; panics with `what` after 20 s.
///
/// # Panics
/// When the condition does not come true.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A service that runs until this value is dropped.
pub struct TestServer {
    /// Where its API is, without a slash at the end.
    pub base: String,
    /// Where its report is, without a slash at the end.
    pub report: String,
    client: reqwest::Client,
    stop: CancellationToken,
}

impl TestServer {
    /// Runs `server`, and returns when it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(server: Server) -> Self {
        let running = Self {
            base: format!("http://{}", server.address()),
            report: format!("http://{}", server.report_address()),
            client: reqwest::Client::new(),
            stop: CancellationToken::new(),
        };
        tokio::spawn(server.run(running.stop.clone()));
        eventually("the service is ready", || async {
            (running.get("/ready").await.status == 200).then_some(())
        })
        .await;
        running
    }

    /// What it answers to a GET.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.base))).await
    }

    /// What it answers to a POST of JSON.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(path).json(body)).await
    }

    /// A POST under construction.
    pub fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.call(http::Method::POST, path)
    }

    /// A request under construction.
    pub fn call(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body as it came.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// Sends `request`.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        Self::try_of(request).await.expect("the service answers")
    }

    /// Sends `request`.
    ///
    /// # Errors
    /// When it is not answered.
    pub async fn try_of(request: reqwest::RequestBuilder) -> Result<Self, reqwest::Error> {
        let begun = Instant::now();
        let response = request.send().await?;
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
            took: begun.elapsed(),
        })
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The name of the problem, e.g. `unknown-item`.
    ///
    /// # Panics
    /// When it is none.
    pub fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let body = self.body();
        assert_eq!(body["status"], self.status, "{self:?}");
        let kind = body["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        kind.unwrap_or_else(|| panic!("no problem: {self:?}")).to_owned()
    }
}
