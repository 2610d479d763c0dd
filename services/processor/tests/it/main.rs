//! The processor against a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod access;

use clap::Parser;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::sync::Mutex;

use valerix_kit::testing::{Answer, TestDatabase, TestServer, eventually, service_args};
use valerix_processor::config::Config;
use valerix_processor::startup::build;

struct App {
    base: String,
    client: reqwest::Client,
    pool: PgPool,
    database: TestDatabase,
    servers: Mutex<Vec<TestServer>>,
}

impl App {
    async fn spawn(misbehaviour: &[&str]) -> Self {
        let database = TestDatabase::create().await;
        let pool = database.pool().await;
        let (client, servers) = (reqwest::Client::new(), Mutex::default());
        let mut app = Self {
            base: String::new(),
            client,
            pool,
            database,
            servers,
        };
        app.base = app.replica(misbehaviour).await;
        app
    }

    /// One more instance on the same ledger.
    async fn replica(&self, misbehaviour: &[&str]) -> String {
        let url = self.database.url();
        let arguments = ["processor", "--database-url", &url]
            .into_iter()
            .chain(misbehaviour.iter().copied());
        let mut config = Config::parse_from(arguments);
        config.service = service_args("processor");
        let server = TestServer::start(build(config).await.unwrap()).await;
        let base = server.base.clone();
        self.servers.lock().unwrap().push(server);
        base
    }

    async fn charge(&self, key: &str, amount: i64) -> (u16, Value) {
        self.post(
            "/charges",
            Some(json!({"key": key, "amount_minor": amount, "currency": "EUR"})),
        )
        .await
    }

    async fn refund(&self, key: &str) -> (u16, Value) {
        self.post(&format!("/charges/{key}/refund"), None).await
    }

    async fn cancel(&self, key: &str) -> (u16, Value) {
        self.post(&format!("/charges/{key}/cancel"), None).await
    }

    async fn post(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = Answer::of(request).await;
        (answer.status, answer.body())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = Answer::of(self.client.get(format!("{}{path}", self.base))).await;
        (answer.status, answer.body())
    }

    async fn ledger(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT key, status FROM charges ORDER BY key")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

fn name(problem: &Value) -> &str {
    problem["type"]
        .as_str()
        .and_then(|kind| kind.rsplit('/').next())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_is_charged_once_on_two_replicas_however_often_it_is_asked() {
    let app = App::spawn(&[]).await;
    let second = app.replica(&[]).await;
    let answers = join_all((0..30).map(|number| {
        let base = if number % 2 == 0 { &app.base } else { &second };
        let request = app.client.post(format!("{base}/charges"));
        let request = request.json(&json!({"key": "payment:1", "amount_minor": 100, "currency": "EUR"}));
        async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    }))
    .await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 29);
    assert!(
        answers.iter().all(|(_, charge)| *charge == answers[0].1),
        "all tell the same charge"
    );
    assert_eq!(app.ledger().await, [("payment:1".to_owned(), "SUCCEEDED".to_owned())]);
    let (status, charge) = app.get("/charges/payment:1").await;
    assert_eq!((status, &charge), (200, &answers[0].1));
}

#[tokio::test]
async fn a_key_stands_for_one_amount_and_currency() {
    let app = App::spawn(&[]).await;
    app.charge("a", 100).await;
    let (status, problem) = app.charge("a", 101).await;
    assert_eq!((status, name(&problem)), (422, "key-reused"));
    let (status, _) = app
        .post(
            "/charges",
            Some(json!({"key": "a", "amount_minor": 100, "currency": "USD"})),
        )
        .await;
    assert_eq!(status, 422);
    assert_eq!(app.get("/charges/a").await.1["amount_minor"], 100);
}

#[tokio::test]
async fn a_refund_happens_once_and_is_answered_again_and_again() {
    let app = App::spawn(&[]).await;
    app.charge("a", 100).await;
    let (status, first) = app.refund("a").await;
    assert_eq!((status, &first["status"]), (200, &json!("REFUNDED")));
    assert_eq!(
        app.refund("a").await,
        (200, first.clone()),
        "the date of the first refund stays"
    );
    assert_eq!(
        app.charge("a", 100).await,
        (200, first),
        "charging again does not undo it"
    );
    let (status, problem) = app.refund("b").await;
    assert_eq!((status, name(&problem)), (404, "unknown-charge"));
    assert_eq!(app.get("/charges/b").await.0, 404, "a refund makes no charge");
}

#[tokio::test]
async fn a_decline_is_an_answer_that_stays() {
    let app = App::spawn(&["--decline-percent", "100"]).await;
    let (status, charge) = app.charge("a", 100).await;
    assert_eq!(
        (status, &charge["status"], &charge["reason"]),
        (201, &json!("DECLINED"), &json!("CARD_DECLINED"))
    );
    assert_eq!(app.charge("a", 100).await, (200, charge));
    let (status, problem) = app.refund("a").await;
    assert_eq!((status, name(&problem)), (409, "charge-declined"));
}

#[tokio::test]
async fn a_key_that_is_cancelled_before_its_charge_is_never_charged() {
    let app = App::spawn(&["--delay", "300ms"]).await;
    // One charge is under way already, one comes later.
    let (under_way, cancelled) = tokio::join!(app.charge("a", 100), app.cancel("a"));
    assert_eq!((cancelled.0, &cancelled.1["status"]), (200, &json!("CANCELLED")));
    assert_eq!(under_way, (200, cancelled.1.clone()));
    assert_eq!(app.charge("a", 100).await, (200, cancelled.1.clone()));
    assert_eq!(app.cancel("a").await, (200, cancelled.1.clone()));
    assert_eq!(app.get("/charges/a").await, (200, cancelled.1));
    let (status, problem) = app.refund("a").await;
    assert_eq!((status, name(&problem)), (409, "charge-cancelled"));
    assert_eq!(app.ledger().await, [("a".to_owned(), "CANCELLED".to_owned())]);
}

#[tokio::test]
async fn a_cancellation_after_the_charge_changes_nothing_and_tells_it() {
    let app = App::spawn(&[]).await;
    let (_, charge) = app.charge("a", 100).await;
    assert_eq!(app.cancel("a").await, (200, charge));
    let (_, refunded) = app.refund("a").await;
    assert_eq!(app.cancel("a").await, (200, refunded));
}

#[tokio::test]
async fn refunds_and_cancellations_misbehave_as_charges_do() {
    let after = App::spawn(&["--fail-after-percent", "100"]).await;
    let before = App::spawn(&["--fail-percent", "100"]).await;
    for app in [&before, &after] {
        sqlx::query("INSERT INTO charges (key, amount_minor, currency, status) VALUES ('a', 1, 'EUR', 'SUCCEEDED')")
            .execute(&app.pool)
            .await
            .unwrap();
        for (status, problem) in [app.refund("a").await, app.cancel("b").await] {
            assert_eq!((status, name(&problem)), (500, "processor-failed"));
        }
    }
    assert_eq!(before.ledger().await, [("a".to_owned(), "SUCCEEDED".to_owned())]);
    let done = [
        ("a".to_owned(), "REFUNDED".to_owned()),
        ("b".to_owned(), "CANCELLED".to_owned()),
    ];
    assert_eq!(after.ledger().await, done);
}

#[tokio::test]
async fn failures_before_and_after_the_charge_look_the_same_and_differ_in_the_ledger() {
    let before = App::spawn(&["--fail-percent", "100"]).await;
    let after = App::spawn(&["--fail-after-percent", "100"]).await;
    for app in [&before, &after] {
        let (status, problem) = app.charge("a", 100).await;
        assert_eq!((status, name(&problem)), (500, "processor-failed"));
    }
    assert!(before.ledger().await.is_empty());
    assert_eq!(after.ledger().await, [("a".to_owned(), "SUCCEEDED".to_owned())]);
}

#[tokio::test]
async fn a_late_answer_comes_after_the_charge_was_made_and_a_caller_that_leaves_does_not_undo_it() {
    let app = App::spawn(&["--late-percent", "100", "--late-by", "1h"]).await;
    let made = eventually("the charge is in the ledger", || async {
        (app.ledger().await.len() == 1).then_some(())
    });
    tokio::select! {
        answer = app.charge("a", 100) => panic!("an hour too early: {answer:?}"),
        () = made => {}
    }
    // The caller has left.
    assert_eq!(app.ledger().await, [("a".to_owned(), "SUCCEEDED".to_owned())]);
}

#[tokio::test]
async fn a_refund_that_is_refused_for_now_changes_nothing() {
    let app = App::spawn(&["--refund-decline-percent", "100"]).await;
    app.charge("a", 100).await;
    let (status, problem) = app.post("/charges/a/refund", None).await;
    assert_eq!((status, name(&problem)), (402, "refund-declined"));
    assert_eq!(app.ledger().await, [("a".to_owned(), "SUCCEEDED".to_owned())]);
}

#[tokio::test]
async fn the_ledger_is_listed_page_by_page() {
    let app = App::spawn(&[]).await;
    for number in 0..5 {
        app.charge(&format!("k{number}"), 100 + number).await;
    }
    let mut keys = Vec::new();
    let mut path = "/charges?limit=2".to_owned();
    loop {
        let (status, page) = app.get(&path).await;
        assert_eq!(status, 200);
        keys.extend(
            page["charges"]
                .as_array()
                .unwrap()
                .iter()
                .map(|charge| charge["key"].clone()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/charges?limit=2&cursor={cursor}");
    }
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("limit=1001", "limit"),
    ] {
        let (status, problem) = app.get(&format!("/charges?{query}")).await;
        assert_eq!(
            (status, problem["errors"][0]["field"].as_str()),
            (400, Some(field)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn malformed_requests_are_problems_that_name_the_field() {
    let app = App::spawn(&[]).await;
    let good = json!({"key": "a", "amount_minor": 1, "currency": "EUR"});
    let wrong = [
        (
            "key",
            vec![
                json!(1),
                json!(""),
                json!("a b"),
                json!("a/b"),
                json!("\u{0}"),
                json!("x".repeat(129)),
            ],
        ),
        (
            "amount_minor",
            vec![
                json!(0),
                json!(-1),
                json!(1.5),
                json!("1"),
                json!(u64::MAX),
                json!(null),
            ],
        ),
        (
            "currency",
            vec![json!("eur"), json!("EURO"), json!(1), json!("\u{0}\u{0}\u{0}")],
        ),
    ];
    for (field, values) in wrong {
        for value in values {
            let mut body = good.clone();
            body[field] = value.clone();
            let (status, problem) = app.post("/charges", Some(body)).await;
            assert_eq!(
                (status, problem["errors"][0]["field"].as_str()),
                (422, Some(format!("/{field}").as_str())),
                "{value}"
            );
        }
    }
    for path in ["/charges/%00", "/charges/a%20b", "/charges/a%2Fb"] {
        assert_eq!(app.get(path).await.0, 404, "{path}");
    }
    assert_eq!(app.get("/charges/%ff").await.0, 400);
    assert!(app.ledger().await.is_empty());
}
