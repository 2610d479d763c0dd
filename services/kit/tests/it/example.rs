//! The service of the guide for authors: it is the one that is shown there, and it does what the guide says.

use std::path::Path;

use clap::Parser;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::events::{Event, EventBus};
use valerix_kit::testing::access::TestAuth;
use valerix_kit::testing::{Answer, TestDatabase, TestServer, bus_args, eventually, service_args};

#[path = "../../examples/loyalty/main.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod loyalty;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_guide_shows_the_service_as_it_is() {
    let guide = read("../../docs/guide/service-author.md");
    for (language, path) in [
        ("rust", "examples/loyalty/main.rs"),
        ("sql", "examples/loyalty/migrations/0001_points.sql"),
    ] {
        let shown = format!("```{language}\n{}```", read(path));
        assert!(
            guide.contains(&shown),
            "docs/guide/service-author.md does not show {path} as it is"
        );
    }
    for (copy, origin) in [
        ("0002_outbox_inbox.sql", "migrations/outbox_inbox.sql"),
        ("0003_outbox_contract.sql", "migrations/outbox_contract.sql"),
        ("0005_marks.sql", "migrations/marks.sql"),
    ] {
        assert_eq!(
            read(&format!("examples/loyalty/migrations/{copy}")),
            read(origin),
            "{copy}"
        );
    }
    let keys = read("examples/loyalty/migrations/0004_idempotency.sql");
    assert_eq!(
        keys.split_once('\n').unwrap().1,
        valerix_resilience::idempotency::SCHEMA
    );
}

/// A migration is applied once and for ever: what all services have by it has to be one thing from the beginning.
#[test]
fn every_service_has_the_tables_of_kit_as_kit_has_them() {
    for service in ["analytics", "auth", "inventory", "notification", "order", "payment"] {
        let folder = format!("{}/../{service}/migrations", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).unwrap();
        let names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        for table in ["outbox_inbox.sql", "outbox_contract.sql", "marks.sql"] {
            let copy = names
                .iter()
                .find(|name| name.split_once('_').is_some_and(|(_, name)| name == table));
            let copy = copy.unwrap_or_else(|| panic!("{service} has no {table}"));
            let copied = read(&format!("../{service}/migrations/{copy}"));
            assert_eq!(copied, read(&format!("migrations/{table}")), "{service}: {copy}");
        }
    }
}

#[tokio::test]
async fn the_service_of_the_guide_does_what_the_guide_says() {
    let (database, bus, auth) = (TestDatabase::create().await, bus_args(), TestAuth::start().await);
    let mut config =
        loyalty::Config::parse_from(["loyalty", "--database-url=postgres://db", "--redis-url=redis://bus"]);
    config.service = service_args("loyalty");
    config.database = database.args();
    config.bus = bus.clone();
    auth.close(&mut config.service);
    let policy = json!({"version": 1, "inbound": {"rateLimit": {"rules": [
        {"name": "redeem", "routes": ["POST /api/points/redeem"], "requests": 4, "window": "1h"}]}}});
    std::fs::create_dir_all(&config.service.policy_dir).unwrap();
    std::fs::write(config.service.policy_dir.join("policy.v1.json"), policy.to_string()).unwrap();
    let server = TestServer::start(loyalty::build(config).await.unwrap()).await;

    let user = Uuid::now_v7();
    let bearer = auth.bearer(user, &[]);
    let ask = |method: Method, path: &str| server.call(method, path).header("authorization", &bearer);
    let points = async || Answer::of(ask(Method::GET, "/api/points")).await.body()["points"].clone();
    assert_eq!(server.get("/api/points").await.status, 401);
    assert_eq!(points().await, 0);

    // A purchase of 499.90, told twice, counts once.
    let streams = valerix_kit::events::redis_streams::RedisStreams::open(&bus);
    let order = Event {
        id: Uuid::from_u128(1),
        topic: "order.events".into(),
        event_type: "OrderConfirmed".into(),
        aggregate: "order:1".into(),
        version: 2,
        occurred_at: chrono::Utc::now(),
        payload: json!({"order_id": Uuid::nil(), "user_id": user, "amount_minor": 49_990, "currency": "EUR"}),
        traceparent: String::new(),
    };
    // Nor one of before there was this service.
    let before = Event {
        id: Uuid::from_u128(2),
        occurred_at: order.occurred_at - chrono::TimeDelta::hours(2),
        ..order.clone()
    };
    for outcome in streams.publish(&[before, order.clone(), order]).await {
        outcome.unwrap();
    }
    eventually("the points are there", || async {
        (points().await == 499).then_some(())
    })
    .await;

    let redeem = async |key: &str, body: Value| {
        let request = ask(Method::POST, "/api/points/redeem").header("idempotency-key", key);
        Answer::of(request.json(&body)).await
    };
    let first = redeem("a", json!({"points": 400})).await;
    assert_eq!((first.status, &first.body()["points"]), (200, &json!(99)), "{first:?}");
    let again = redeem("a", json!({"points": 400})).await;
    assert_eq!((again.status, &again.text), (200, &first.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(redeem("b", json!({"points": 100})).await.status, 409);
    let refused = redeem("c", json!({"points": 0})).await;
    assert_eq!(
        (refused.status, &refused.body()["errors"][0]["field"]),
        (422, &json!("/points"))
    );
    assert_eq!(
        redeem("d", json!({"points": 1})).await.status,
        429,
        "the limit of its policy"
    );
    assert_eq!(points().await, 99);

    let document = server.get("/openapi.json").await.body();
    assert_eq!(
        document["paths"]["/api/points/redeem"]["post"]["requestBody"]["required"],
        true
    );
    let told: Vec<(String, i64)> = sqlx::query_as("SELECT type, (payload->>'points')::bigint FROM outbox")
        .fetch_all(&database.pool().await)
        .await
        .unwrap();
    assert_eq!(told, [("PointsRedeemed".to_owned(), 400)]);
}

#[tokio::test]
async fn a_release_goes_on_with_the_schema_of_the_next_one() {
    let (database, bus) = (TestDatabase::create().await, bus_args());
    let start = async || {
        let mut config =
            loyalty::Config::parse_from(["loyalty", "--database-url=postgres://db", "--redis-url=redis://bus"]);
        config.service = service_args("loyalty");
        config.database = database.args();
        config.bus = bus.clone();
        TestServer::start(loyalty::build(config).await.unwrap()).await
    };
    drop(start().await);
    let next = "ALTER TABLE points ADD COLUMN tier text NOT NULL DEFAULT 'new';
        INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'of the next release', true, '\\x00', 1)";
    sqlx::raw_sql(next).execute(&database.pool().await).await.unwrap();
    let server = start().await;
    let answer = server.get("/api/points").await;
    assert_eq!(
        (answer.status, &answer.body()["points"]),
        (200, &json!(0)),
        "{answer:?}"
    );
}
