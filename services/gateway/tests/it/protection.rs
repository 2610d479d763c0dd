//! What protects the services behind: breaker, retries, limits, times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{any, post};
use http::StatusCode;
use valerix_kit::testing::{Answer, eventually};

use super::support::{PATIENCE, Setup, raw, read_head, serve};

#[tokio::test]
async fn three_failures_in_a_row_open_the_circuit() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let failing = any(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        std::future::ready(StatusCode::INTERNAL_SERVER_ERROR)
    });
    let address = serve(Router::new().fallback(failing)).await;
    let healthy = serve(Router::new().fallback(any(|| std::future::ready("fine")))).await;
    let setup = Setup::new().target("inventory", address).target("analytics", healthy);
    let gateway = setup.start().await.server;
    for _ in 0..3 {
        assert_eq!(gateway.get("/api/inventory/ps5").await.status, 500);
    }
    let begun = Instant::now();
    let refused = gateway.get("/api/inventory/ps5").await;
    assert_eq!(
        (refused.status, refused.problem()),
        (503, "circuit-open".to_owned()),
        "{refused:?}"
    );
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((9..=15).contains(&wait), "{wait}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(asked.load(Ordering::Relaxed), 3, "the target is left alone");
    assert_eq!(
        gateway.get("/analytics/summary").await.text,
        "fine",
        "others are not meant"
    );
}

#[tokio::test]
async fn a_target_that_hangs_opens_its_circuit_however_impatient_its_clients_are() {
    let hanging = any(std::future::pending::<StatusCode>);
    let address = serve(Router::new().fallback(hanging)).await;
    let gateway = Setup::new().target("inventory", address).start().await.server;
    for _ in 0..3 {
        let request = gateway.request("/api/inventory/ps5");
        let left = request.timeout(Duration::from_millis(200)).send().await.unwrap_err();
        assert!(left.is_timeout(), "{left}");
    }
    eventually("the circuit opens", || async {
        let request = gateway.request("/api/inventory/ps5").timeout(PATIENCE);
        (Answer::of(request).await.problem() == "circuit-open").then_some(())
    })
    .await;
}

#[tokio::test]
async fn five_orders_in_ten_seconds_for_each_client() {
    let address = serve(Router::new().fallback(any(|| std::future::ready("made")))).await;
    let trusted = "127.0.0.1".parse().unwrap();
    let setup = Setup::new().target("order", address).target("payment", address);
    let gateway = setup
        .change(|config| config.trusted_proxies = vec![trusted])
        .start()
        .await
        .server;
    let order = |client: &'static str| {
        let request = gateway.request("/api/orders").header("x-forwarded-for", client);
        async { Answer::of(request).await }
    };
    for left in (0..5).rev() {
        let answer = order("6.6.6.6, 198.51.100.1").await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "made"));
        let limit = answer.headers["ratelimit"].to_str().unwrap();
        assert!(limit.starts_with(&format!("\"orders\";r={left};")), "{limit}");
    }
    // What stands further left was written by the client itself.
    let refused = order("7.7.7.7, 198.51.100.1").await;
    assert_eq!(
        (refused.status, &refused.headers["valerix-problem"]),
        (429, &"quota-exceeded".parse().unwrap())
    );
    assert_eq!(refused.headers["ratelimit-policy"], "\"orders\";q=5;w=10");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    // A request is remembered for up to a sixth of the window too long.
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!(order("198.51.100.2").await.status, 200, "another client");
    let payment = gateway.request("/payments").header("x-forwarded-for", "198.51.100.1");
    assert_eq!(Answer::of(payment).await.status, 200, "payments are counted apart");
    assert_eq!(gateway.get("/api/orders").await.status, 200, "reading is not limited");
}

#[tokio::test]
async fn a_request_is_sent_again_where_that_is_safe_and_its_body_is_small() {
    let bodies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&bodies);
    let flaky = post(move |headers: HeaderMap, body: Bytes| {
        let mut log = log.lock().unwrap();
        log.push(body.len());
        assert!(headers.contains_key("valerix-timeout-ms"), "the deadline goes along");
        let status = if log.len() == 1 {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::CREATED
        };
        std::future::ready(status)
    });
    let address = serve(Router::new().route("/api/orders", flaky)).await;
    let setup = Setup::new().target("order", address);
    let setup = setup.target_policy("order", |order| order.retry.budget.min_per_second = 1_000);
    let gateway = setup.start().await.server;
    let send = |length: usize, key: Option<&str>| {
        let request = gateway.request("/api/orders").body("a".repeat(length));
        let request = key
            .iter()
            .fold(request, |request, key| request.header("idempotency-key", *key));
        let bodies = Arc::clone(&bodies);
        async move {
            bodies.lock().unwrap().clear();
            let status = Answer::of(request).await.status;
            (status, bodies.lock().unwrap().clone())
        }
    };
    assert_eq!(send(16_384, Some("a")).await, (201, vec![16_384, 16_384]));
    assert_eq!(
        send(16_385, Some("b")).await,
        (503, vec![16_385]),
        "a stream is sent once"
    );
    assert_eq!(
        send(10, None).await,
        (503, vec![10]),
        "without a key it might be done twice"
    );
}

#[tokio::test]
async fn an_attempt_that_meets_its_forerunner_waits_for_it() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let busy = post(move || {
        let answer = match counter.fetch_add(1, Ordering::Relaxed) {
            // The first attempt is lost, though not its work.
            0 => StatusCode::BAD_GATEWAY.into_response(),
            1 => valerix_resilience::refusals::in_progress().into_response(),
            _ => StatusCode::CREATED.into_response(),
        };
        std::future::ready(answer)
    });
    let address = serve(Router::new().route("/payments", busy)).await;
    let setup = Setup::new().target("payment", address);
    let setup = setup.target_policy("payment", |payment| payment.retry.budget.min_per_second = 1_000);
    let gateway = setup.start().await.server;
    let answer = Answer::of(gateway.request("/payments").header("idempotency-key", "a")).await;
    assert_eq!((answer.status, asked.load(Ordering::Relaxed)), (201, 3));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let address = raw(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    })
    .await;
    let setup = Setup::new().target("order", address).target_policy("order", |order| {
        order.timeout.attempt = valerix_policy::Duration::from_millis(300);
        order.retry.max_attempts = 1;
    });
    let gateway = setup.start().await.server;
    let answer = gateway.get("/api/orders/1").await;
    assert_eq!(
        (answer.status, answer.problem()),
        (504, "deadline-exceeded".to_owned()),
        "{answer:?}"
    );
    assert!(answer.took < PATIENCE / 5, "{:?}", answer.took);
    // A streamed body has its time; the answer is waited for from its end on.
    let answer = Answer::of(gateway.request("/api/orders/1").body("a".repeat(100_000))).await;
    assert_eq!(
        (answer.status, answer.problem()),
        (504, "deadline-exceeded".to_owned()),
        "{answer:?}"
    );
    assert!(answer.took < PATIENCE / 5, "{:?}", answer.took);
}

#[tokio::test]
async fn a_service_that_is_gone_is_said_to_be() {
    let gateway = Setup::new().start().await.server;
    let answer = Answer::of(gateway.request("/payments")).await;
    assert_eq!((answer.status, answer.problem()), (502, "unreachable".to_owned()));
    assert_eq!(answer.body()["target"], "payment");
}
