//! The server: start, malformed requests, slow clients, drain.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use valerix_kit::postgres::Database;
use valerix_kit::problem::{Problem, from_sqlx};
use valerix_kit::service::Service;
use valerix_kit::testing::log::Log;
use valerix_kit::testing::{TestDatabase, eventually, service_args};

use crate::app::{app, problem, spawn, write_document};

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_problem_and_never_a_500() {
    let app = app().await;
    let things = format!("{}/things", app.base);
    let send = |content_type: Option<&'static str>, body: Vec<u8>| {
        let mut request = app.client.post(&things).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        async move { problem(request.send().await.unwrap()).await }
    };
    let json_type = Some("application/json");
    assert_eq!(send(None, b"{}".to_vec()).await.0, 415);
    assert_eq!(send(Some("text/plain"), b"{}".to_vec()).await.0, 415);
    for body in [&b""[..], b"{", b"\xff\xfe", b"nul", b"{\"count\": 1} x"] {
        assert_eq!(send(json_type, body.to_vec()).await.0, 400, "{body:?}");
    }
    for body in [
        "[]",
        "null",
        "{}",
        r#"{"count": "1"}"#,
        r#"{"count": -1}"#,
        r#"{"count": 256}"#,
        r#"{"count": 1.5}"#,
    ] {
        let (status, problem) = send(json_type, body.into()).await;
        assert_eq!(status, 422, "{body}");
        assert!(problem["errors"][0]["detail"].is_string(), "{problem}");
    }
    let (_, named) = send(json_type, b"{}".to_vec()).await;
    assert_eq!(named["errors"], json!([{"field": "/count", "detail": "is missing"}]));
    assert_eq!(send(json_type, vec![b' '; 1024 * 1024 + 1]).await.0, 413);
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(
        (0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024 * 1024])),
    ));
    let request = app
        .client
        .post(&things)
        .header("content-type", "application/json")
        .body(streamed);
    assert_eq!(
        problem(request.send().await.unwrap()).await.0,
        413,
        "without a Content-Length too"
    );

    let get = |path: &'static str| {
        let request = app.client.get(format!("{}{path}", app.base));
        async move { problem(request.send().await.unwrap()).await }
    };
    assert_eq!(get("/nothing").await.0, 404);
    assert_eq!(get("/things/300").await.0, 400);
    assert_eq!(get("/things/%ff").await.0, 400);
    let (status, query) = get("/search?count=x").await;
    assert_eq!(
        (status, query["errors"][0]["field"].as_str()),
        (400, Some("count")),
        "{query}"
    );
    assert_eq!(get("/search").await.0, 400);
    let wrong_method = app.client.delete(&things).send().await.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "POST");
    assert_eq!(problem(wrong_method).await.0, 405);
}

#[tokio::test]
async fn an_answer_that_a_fault_aborts_closes_the_connection_without_a_byte() {
    let app = app().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream
        .write_all(b"GET /abort HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    // Closed or reset, as a process that died would leave it.
    let _ = closed.expect("the connection is closed");
    assert_eq!(String::from_utf8_lossy(&answer), "");
}

#[tokio::test]
async fn a_panic_is_answered_and_the_service_goes_on() {
    let app = app().await;
    let (status, problem) = problem(app.client.get(format!("{}/panic", app.base)).send().await.unwrap()).await;
    assert_eq!(status, 500);
    assert!(
        !problem.to_string().contains("on purpose"),
        "the caller does not see the cause: {problem}"
    );
    assert_eq!(
        app.client
            .get(format!("{}/health", app.base))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_request_is_traced_measured_and_described() {
    let app = app().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = app
        .client
        .get(format!("{}/trace", app.base))
        .header("traceparent", trace)
        .header("x-request-id", "mine");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine");
    let sent = response.text().await.unwrap();
    assert!(
        sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent != trace,
        "{sent}"
    );
    app.client.get(format!("{}/things/7", app.base)).send().await.unwrap();
    app.client
        .get(format!("{}/nothing/at/all", app.base))
        .send()
        .await
        .unwrap();

    let metrics = app
        .client
        .get(format!("{}/metrics", app.report))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains(r#"http_requests_total{method="GET",route="/things/{number}",status="200"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"http_requests_total{method="GET",route="unmatched",status="404"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"http_request_duration_seconds_count{method="GET",route="/trace"} 1"#),
        "{metrics}"
    );
    let document: Value = app
        .client
        .get(format!("{}/openapi.json", app.base))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let page = app.client.get(format!("{}/docs", app.base)).send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut args = service_args("test");
    // What has to happen within it takes milliseconds; a machine that stands still for a moment must not end it.
    args.drain_wait = Duration::from_secs(2);
    let service = Service::new(&args).await.unwrap();
    let app = spawn(args, service).await;
    let slow = tokio::spawn(app.client.get(format!("{}/slow", app.base)).send());
    app.entered.notified().await;
    let mut idle = TcpStream::connect(app.address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0_u8; 1024];
    assert!(idle.read(&mut answer).await.unwrap() > 0);

    app.stop.cancel();
    let ready = || async {
        let (status, body) = problem(app.client.get(format!("{}/ready", app.base)).send().await.ok()?).await;
        (status == 503 && body["type"].as_str()?.ends_with("/draining")).then_some(())
    };
    eventually("ready is off", ready).await;
    let served = app.client.get(format!("{}/things/1", app.base)).send().await.unwrap();
    assert_eq!(
        served.status(),
        200,
        "requests that come while everyone hears of the drain are served"
    );

    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), idle.read_to_end(&mut rest))
        .await
        .expect("the idle connection is closed")
        .unwrap();
    eventually("no new connection is taken", || async {
        TcpStream::connect(app.address).await.is_err().then_some(())
    })
    .await;
    assert!(!app.task.is_finished(), "a request is in flight");
    app.release.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "done");
    app.task.await.unwrap();
}

#[tokio::test]
async fn a_request_that_takes_longer_than_the_drain_is_cut() {
    let mut args = service_args("test");
    args.drain_timeout = Duration::from_millis(200);
    let service = Service::new(&args).await.unwrap();
    let app = spawn(args, service).await;
    let slow = tokio::spawn(app.client.get(format!("{}/slow", app.base)).send());
    app.entered.notified().await;
    app.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), app.task)
        .await
        .expect("the server ends")
        .unwrap();
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn a_service_starts_before_its_database_and_outlives_its_loss() {
    let database = TestDatabase::create().await;
    let name = database.name().to_owned();
    database.admin(&format!("DROP DATABASE {name}")).await;
    let args = service_args("test");
    let service = Service::new(&args).await.unwrap();
    let mut database_args = database.args();
    database_args.database_acquire_timeout = Duration::from_millis(300);
    let opened = Database::open(&database_args, "test", &service.health).unwrap();
    let starting = opened.clone();
    service.tasks.spawn_droppable("start", move || {
        let database = starting.clone();
        async move { database.migrate(sqlx::migrate::Migrator::DEFAULT).await }
    });
    let routes = Router::new().route(
        "/now",
        get(|State(database): State<Database>| async move {
            sqlx::query("SELECT 1")
                .execute(database.pool())
                .await
                .map_err(|error| from_sqlx(&error))?;
            Ok::<_, Problem>("now")
        }),
    );
    let server = service.bind(routes.with_state(opened)).await.unwrap();
    let (base, report) = (
        format!("http://{}", server.address()),
        format!("http://{}", server.report_address()),
    );
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.run(stop.clone()));
    let client = reqwest::Client::new();
    let status = |path: &'static str| {
        let request = client.get(format!("{base}{path}"));
        async move { request.send().await.unwrap().status().as_u16() }
    };

    assert_eq!((status("/health").await, status("/ready").await), (200, 503));
    let early = client.get(format!("{base}/now")).send().await.unwrap();
    assert_eq!(early.headers()["retry-after"], "1");
    assert!(problem(early).await.1["type"].as_str().unwrap().ends_with("/not-ready"));

    database.admin(&format!("CREATE DATABASE {name}")).await;
    eventually("the service is ready", || async {
        (status("/ready").await == 200).then_some(())
    })
    .await;
    assert_eq!(status("/now").await, 200);

    database
        .admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        .await;
    database
        .admin(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    let lost = client.get(format!("{base}/now")).send().await.unwrap();
    let (lost_status, lost_problem) = problem(lost).await;
    assert_eq!((lost_status, status("/ready").await), (503, 200), "{lost_problem}");
    let deep: Value = client
        .get(format!("{report}/health/deep"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (deep["status"].as_str(), deep["checks"][0]["status"].as_str()),
        (Some("degraded"), Some("down"))
    );
    database
        .admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        .await;
    eventually("it serves again", || async {
        (status("/now").await == 200).then_some(())
    })
    .await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn faults_of_the_documents_hit_handlers_but_neither_probes_nor_the_report() {
    let mut args = service_args("test");
    args.pod_uid = "uid-1".into();
    write_document(
        &args.policy_dir,
        "policy.v1.json",
        &json!({"version": 1, "chaos": {"admission": "Allowed"}, "inbound": {"timeout": "300ms"}}),
    );
    let service = Service::new(&args).await.unwrap();
    let app = spawn(args.clone(), service).await;
    let report = || async {
        app.client
            .get(format!("{}/resilience", app.report))
            .send()
            .await
            .ok()?
            .json::<Value>()
            .await
            .ok()
    };
    assert_eq!(report().await.unwrap()["podUID"], "uid-1");
    assert_eq!(
        app.client
            .get(format!("{}/things/7", app.base))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let slow = problem(app.client.get(format!("{}/slow", app.base)).send().await.unwrap()).await;
    assert_eq!(slow.0, 504, "the deadline of the document is kept: {}", slow.1);

    let now = chrono::Utc::now();
    let fault = json!({"version": 1, "faults": [{
        "run": "run-1",
        "fault": {"errors": {"status": 503, "percent": 100}},
        "podUIDs": ["uid-1"],
        "duration": "60s",
        "intentAt": now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "notAfter": (now + chrono::Duration::seconds(120)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    }]});
    write_document(&args.policy_dir, "faults.json", &fault);
    eventually("the fault is active", || async {
        let report = report().await?;
        (report["faults"][0]["state"] == "Active").then_some(())
    })
    .await;
    let hit = app.client.get(format!("{}/things/7", app.base)).send().await.unwrap();
    assert_eq!(hit.status(), 503);
    assert_eq!(hit.headers()["valerix-fault"], "Errors");
    assert!(
        hit.headers().contains_key("x-request-id"),
        "an injected answer is traced and measured like any other"
    );
    for path in ["/health", "/ready", "/openapi.json"] {
        assert_eq!(
            app.client
                .get(format!("{}{path}", app.base))
                .send()
                .await
                .unwrap()
                .status(),
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_request_that_changed_something_leaves_one_line_with_its_trace() {
    let log = Log::listen("info");
    let app = app().await;
    for (method, trace_id) in [
        (reqwest::Method::POST, "4bf92f3577b34da6a3ce929d0e0e4736"),
        (reqwest::Method::GET, "5bf92f3577b34da6a3ce929d0e0e4736"),
    ] {
        let path = if method == "POST" { "things" } else { "things/7" };
        let request = app
            .client
            .request(method, format!("{}/{path}", app.base))
            .header("traceparent", format!("00-{trace_id}-00f067aa0ba902b7-01"))
            .json(&json!({"count": 1}));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let text = log.text();
    let lines = |trace_id: &str| text.lines().filter(|line| line.contains(trace_id)).count();
    assert_eq!(lines("4bf92f3577b34da6a3ce929d0e0e4736"), 1, "{text}");
    assert_eq!(
        lines("5bf92f3577b34da6a3ce929d0e0e4736"),
        0,
        "reading is not worth a line: {text}"
    );
}
