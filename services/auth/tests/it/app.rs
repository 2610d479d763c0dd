//! A service of its own for each test, and what the tests ask of it.

use clap::Parser;
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use valerix_auth::config::Config;
use valerix_auth::startup::build;
use valerix_kit::args::BusArgs;
use valerix_kit::testing::access::TestAuth;
use valerix_kit::testing::{Answer, TestDatabase, TestServer, bus_args, service_args};

pub const PASSWORD: &str = "correct horse battery";
pub const ADMIN: &str = "admin@example.com";

pub struct App {
    pub server: TestServer,
    pub pool: PgPool,
    pub bus: BusArgs,
    database: TestDatabase,
}

impl App {
    pub async fn spawn() -> Self {
        Self::with(&[]).await
    }

    /// A service with an admin, cheap hashes and more arguments.
    pub async fn with(more: &[&str]) -> Self {
        let (database, bus) = (TestDatabase::create().await, bus_args());
        let server = start(&database, &bus, more).await;
        Self {
            server,
            pool: database.pool().await,
            bus,
            database,
        }
    }

    /// One more instance on the same database and Redis.
    pub async fn replica(&self, more: &[&str]) -> TestServer {
        start(&self.database, &self.bus, more).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.server.post(path, &body).await
    }

    pub async fn register(&self, email: &str) -> Value {
        let answer = self
            .post("/auth/register", json!({"email": email, "password": PASSWORD}))
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body()
    }

    pub async fn try_login(&self, email: &str, password: &str) -> Answer {
        self.post("/auth/login", json!({"email": email, "password": password}))
            .await
    }

    pub async fn login(&self, email: &str) -> Value {
        let answer = self.try_login(email, PASSWORD).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body()
    }

    pub async fn refresh(&self, tokens: &Value) -> Answer {
        self.post("/auth/refresh", json!({"refresh_token": tokens["refresh_token"]}))
            .await
    }

    pub async fn as_user(&self, method: Method, path: &str, tokens: &Value, body: Option<Value>) -> Answer {
        let request = self.server.call(method, path).header("authorization", bearer(tokens));
        Answer::of(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }
}

pub fn bearer(tokens: &Value) -> String {
    format!("Bearer {}", tokens["access_token"].as_str().unwrap())
}

async fn start(database: &TestDatabase, bus: &BusArgs, more: &[&str]) -> TestServer {
    let url = database.url();
    let arguments = [
        "auth",
        "--database-url",
        &url,
        "--redis-url",
        bus.redis_url.expose(),
        "--admin-email",
        ADMIN,
    ];
    let mut arguments: Vec<&str> = arguments.into_iter().chain(more.iter().copied()).collect();
    for default in [
        "--auth-key-secret=a-secret-that-only-this-test-knows",
        "--admin-password=correct horse battery",
        "--argon2-memory-kib=8",
        "--argon2-passes=1",
        "--argon2-wait=10s",
    ] {
        let name = default.split('=').next().unwrap();
        if !more.iter().any(|given| given.starts_with(name)) {
            arguments.push(default);
        }
    }
    let mut config = Config::parse_from(arguments);
    config.service = service_args("auth");
    config.bus = bus.clone();
    // Its callers are those of every test; whom it believes about users is nobody but itself.
    TestAuth::start().await.close(&mut config.service);
    TestServer::start(build(config).await.unwrap()).await
}
