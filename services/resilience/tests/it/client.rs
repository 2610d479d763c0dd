//! The client against real servers: what is sent how often, what comes back, what the breaker learns.

use std::time::{Duration, Instant};

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode};
use valerix_resilience::policy::{BreakerScope, CircuitState, Policy};
use valerix_resilience::{CallError, Deadline, Problem, RequestBuilder, Resilience, ResilientClient};

use crate::support::{Seen, dead_address, eventually, policy, serve, with_policy};

async fn client(policy: &Policy, url: String) -> (Resilience, ResilientClient) {
    let resilience = with_policy(policy).await;
    let client = resilience.client("upstream").url(url).build().unwrap();
    (resilience, client)
}

/// A server that answers with the statuses given, the last one for good.
async fn upstream(statuses: &'static [u16]) -> (String, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = any(move |headers: HeaderMap| async move {
        let number = noted.note(&headers).min(statuses.len());
        StatusCode::from_u16(statuses[number - 1]).unwrap()
    });
    let address = serve(Router::new().fallback(handler)).await;
    (format!("http://{address}"), seen)
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// How a call fails that is never answered: its time is over once it has arrived as the `number`th, and not before, however
/// long a busy machine takes to send it.
async fn ended_once_it_arrived(call: RequestBuilder, seen: &Seen, number: usize) -> CallError {
    let call = tokio::spawn(call.send());
    eventually("it arrives", || seen.count() == number).await;
    pass(Duration::from_secs(5)).await;
    call.await.unwrap().unwrap_err()
}

fn state(client: &ResilientClient) -> CircuitState {
    client.target().breaker().snapshot().state
}

#[tokio::test]
async fn a_safe_request_is_repeated_until_it_succeeds() {
    let (url, seen) = upstream(&[503, 502, 200]).await;
    let (_resilience, client) = client(&policy(|_, target| target.retry.budget.min_per_second = 1_000), url).await;
    // The budget begins empty and grows by the floor.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let answer = client.get("/items").query("name", "a b&c").send().await.unwrap();
    assert_eq!((answer.status(), seen.count()), (StatusCode::OK, 3));
    assert_eq!(seen.header(0, "valerix-client").unwrap(), "shop/test");
    let times: Vec<u64> = (0..3)
        .map(|request| seen.header(request, "valerix-timeout-ms").unwrap().parse().unwrap())
        .collect();
    assert!(times.iter().all(|time| *time <= 10_000 && *time > 8_000), "{times:?}");
}

#[tokio::test]
async fn an_unsafe_request_is_sent_once_unless_key_and_route_allow_more() {
    let declare = |_: &mut Policy, target: &mut valerix_resilience::policy::Target| {
        target.idempotent_routes = vec!["POST /declared/{id}".to_owned()];
        target.retry.budget.min_per_second = 1_000;
        target.circuit_breaker.minimum_requests = 1_000;
    };
    let (url, seen) = upstream(&[503]).await;
    let (_resilience, client) = client(&policy(declare), url).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut sent = 0;
    for (path, key, attempts) in [
        ("/declared/1", None, 1),
        ("/other", Some("k"), 1),
        ("/declared/1", Some("k"), 3),
        ("/declared/1/2", Some("k"), 1),
    ] {
        let request = client.post(path).json(&1);
        let request = if let Some(key) = key {
            request.idempotency_key(key)
        } else {
            request
        };
        assert_eq!(request.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(seen.count() - sent, attempts, "{path} {key:?}");
        sent = seen.count();
    }
}

#[tokio::test]
async fn a_stream_is_never_sent_twice() {
    let (url, seen) = upstream(&[503]).await;
    let (_resilience, client) = client(&policy(|_, target| target.retry.budget.min_per_second = 1_000), url).await;
    let answer = client
        .get("/")
        .stream(reqwest::Body::from("once"))
        .send()
        .await
        .unwrap();
    assert_eq!((answer.status(), seen.count()), (StatusCode::SERVICE_UNAVAILABLE, 1));
}

#[tokio::test]
async fn a_final_answer_is_not_repeated() {
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = get(move |headers: HeaderMap| async move {
        noted.note(&headers);
        Problem::overloaded("full").into_response()
    });
    let address = serve(Router::new().route("/", handler)).await;
    let settings = policy(|_, target| target.circuit_breaker.consecutive_failures = Some(1));
    let (_resilience, client) = client(&settings, format!("http://{address}")).await;
    let answer = client.get("/").send().await.unwrap();
    assert_eq!((answer.status(), seen.count()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    assert_eq!(
        state(&client),
        CircuitState::Closed,
        "a service that protects itself has not failed"
    );
}

#[tokio::test]
async fn retries_stay_within_the_budget() {
    let (url, seen) = upstream(&[503]).await;
    let settings = policy(|_, target| {
        target.retry.budget.min_per_second = 1;
        target.circuit_breaker.minimum_requests = 10_000;
    });
    let began = Instant::now();
    let (_resilience, client) = client(&settings, url).await;
    let mut refused = 0;
    for _ in 0..300 {
        // Also when the budget is spent, the answer at hand is what the caller gets; nobody further up is to repeat it.
        let answer = client.get("/").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        refused += usize::from(answer.headers().get("valerix-retry").is_some_and(|value| value == "no"));
    }
    let retries = seen.count() - 300;
    let allowed = 0.2 * 300.0 + began.elapsed().as_secs_f64();
    assert!(refused > 0 && retries > 50, "{retries} retries, {refused} refused");
    assert!(retries as f64 <= allowed, "{retries} retries, {allowed} allowed");
}

#[tokio::test]
async fn the_breaker_opens_and_says_when_to_come_back() {
    let (url, seen) = upstream(&[500]).await;
    let settings = policy(|_, target| target.circuit_breaker.consecutive_failures = Some(3));
    let (resilience, client) = client(&settings, url).await;
    for _ in 0..3 {
        client.get("/").send().await.unwrap();
    }
    let error = client.get("/").send().await.unwrap_err();
    let CallError::CircuitOpen { retry_after, .. } = &error else {
        panic!("{error}")
    };
    assert!((Duration::from_secs(9)..=Duration::from_secs(15)).contains(retry_after));
    assert_eq!(seen.count(), 3, "silent while open");
    let problem = error.problem();
    assert_eq!(
        (problem.status(), problem.name()),
        (StatusCode::SERVICE_UNAVAILABLE, "circuit-open")
    );
    assert_eq!(problem.headers()["valerix-retry"], "no");
    let report = resilience.report();
    assert_eq!(report.circuit_breakers[0].state, CircuitState::Open);
    assert!(report.circuit_breakers[0].next_probe_at.unwrap() > report.now);
}

#[tokio::test]
async fn an_answer_below_500_is_no_failure() {
    for status in [&[400_u16], &[404], &[429]] {
        let (url, _) = upstream(status).await;
        let settings = policy(|_, target| target.circuit_breaker.consecutive_failures = Some(1));
        let (_resilience, client) = client(&settings, url).await;
        client.get("/").send().await.unwrap();
        assert_eq!(state(&client), CircuitState::Closed, "{status:?}");
    }
}

#[tokio::test]
async fn own_timeout_counts_and_the_callers_does_not() {
    let seen = Seen::default();
    let counted = seen.clone();
    let silent = move |headers: HeaderMap| {
        counted.note(&headers);
        std::future::pending::<()>()
    };
    let address = serve(Router::new().fallback(silent)).await;
    let settings = policy(|_, target| {
        target.timeout.attempt = "5s".parse().unwrap();
        target.retry.max_attempts = 1;
        target.circuit_breaker.consecutive_failures = Some(1);
    });
    let (_resilience, client) = client(&settings, format!("http://{address}")).await;
    let hurried = client.get("/").deadline(Deadline::after(Duration::from_secs(4)));
    let hurried = ended_once_it_arrived(hurried, &seen, 1).await;
    assert!(
        matches!(hurried, CallError::DeadlineExceeded { attempts: 1, .. }),
        "{hurried}"
    );
    assert_eq!(state(&client), CircuitState::Closed);
    let slow = ended_once_it_arrived(client.get("/"), &seen, 2).await;
    assert!(matches!(slow, CallError::AttemptTimeout { .. }), "{slow}");
    assert_eq!(state(&client), CircuitState::Open);
}

#[tokio::test]
async fn a_patient_call_outlasts_the_targets_own_times_but_not_its_deadline() {
    let slow = get(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "late"
    });
    let address = serve(Router::new().route("/", slow)).await;
    let short = policy(|_, target| {
        target.timeout.request = "50ms".parse().unwrap();
        target.timeout.attempt = "50ms".parse().unwrap();
    });
    let (_resilience, client) = client(&short, format!("http://{address}")).await;
    let patient = || client.get("/").patience(Duration::from_secs(60));
    assert_eq!(patient().send().await.unwrap().status(), StatusCode::OK);
    assert!(client.get("/").send().await.is_err());
    let bounded = patient().deadline(Deadline::after(Duration::from_millis(50)));
    assert!(bounded.send().await.is_err());
}

#[tokio::test]
async fn a_past_deadline_sends_nothing_and_a_task_inherits_its_own() {
    let (url, seen) = upstream(&[200]).await;
    let (_resilience, client) = client(&policy(|_, _| {}), url).await;
    let past = Deadline::after(Duration::ZERO);
    let error = past.scope(client.get("/").send()).await.unwrap_err();
    assert!(
        matches!(error, CallError::DeadlineExceeded { attempts: 0, .. }),
        "{error}"
    );
    assert_eq!(seen.count(), 0);
    Deadline::after(Duration::from_secs(10))
        .scope(client.get("/").send())
        .await
        .unwrap();
    let sent: u64 = seen.header(0, "valerix-timeout-ms").unwrap().parse().unwrap();
    assert!((5_000..=10_000).contains(&sent), "{sent}");
}

#[tokio::test]
async fn nobody_there_is_a_connect_error_that_opens_the_circuit() {
    let url = format!("http://{}", dead_address());
    let settings = policy(|_, target| {
        target.circuit_breaker.consecutive_failures = Some(1);
        target.retry.max_attempts = 1;
    });
    let (_resilience, client) = client(&settings, url).await;
    let error = client.post("/").send().await.unwrap_err();
    assert!(matches!(error, CallError::Connect { attempts: 1, .. }), "{error}");
    assert!(!error.may_have_acted());
    assert_eq!(state(&client), CircuitState::Open);
}

#[tokio::test]
async fn a_poll_beside_the_circuits_neither_opens_one_nor_minds_one_that_is_open() {
    for scope in [BreakerScope::Target, BreakerScope::Host] {
        let (url, seen) = upstream(&[503]).await;
        let settings = policy(|_, target| {
            target.circuit_breaker.consecutive_failures = Some(1);
            target.circuit_breaker.scope = scope;
            target.retry.max_attempts = 1;
        });
        let (resilience, client) = client(&settings, url).await;
        let open = || {
            let breakers = resilience.report().circuit_breakers.into_iter();
            breakers.filter(|breaker| breaker.state == CircuitState::Open).count()
        };
        for polls in 1..=5 {
            let answer = client.get("/keys").beside_circuits().send().await.unwrap();
            assert_eq!(
                (answer.status(), seen.count()),
                (StatusCode::SERVICE_UNAVAILABLE, polls)
            );
        }
        assert_eq!(open(), 0, "{scope:?}");
        assert_eq!(
            client.get("/").send().await.unwrap().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(open(), 1, "{scope:?}");
        let refused = client.get("/").send().await.unwrap_err();
        assert!(matches!(refused, CallError::CircuitOpen { .. }));
        assert!(client.get("/keys").beside_circuits().send().await.is_ok());
        assert_eq!(open(), 1, "{scope:?}");
    }
}

#[tokio::test]
async fn the_bulkhead_holds_until_the_body_is_read() {
    let chunks = || {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"a"))]);
        axum::body::Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()))
    };
    let address = serve(Router::new().fallback(move || async move { chunks() })).await;
    let (resilience, client) = client(
        &policy(|_, target| target.bulkhead.max_concurrent = 1),
        format!("http://{address}"),
    )
    .await;
    let held = client.get("/").send().await.unwrap();
    let error = client.get("/").send().await.unwrap_err();
    assert!(matches!(error, CallError::Overloaded { limit: 1, .. }), "{error}");
    assert_eq!(resilience.report().limits[0].in_use, 1);
    drop(held);
    client.get("/").send().await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4_096]).await;
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
                .await;
        }
    });
    let settings = policy(|_, target| target.circuit_breaker.consecutive_failures = Some(1));
    let (_resilience, client) = client(&settings, format!("http://{address}")).await;
    let error = client.get("/").send().await.unwrap().bytes().await.unwrap_err();
    assert!(matches!(error, CallError::Body { .. }), "{error}");
    assert_eq!(state(&client), CircuitState::Open);
}

/// The head comes at once and the body never: whose time runs out meanwhile is whose failure that is.
#[tokio::test]
async fn a_body_that_stands_still_in_the_targets_own_time_is_a_failure() {
    let chunks = || axum::body::Body::from_stream(futures::stream::pending::<std::io::Result<bytes::Bytes>>());
    let address = serve(Router::new().fallback(move || async move { chunks() })).await;
    let settings = policy(|_, target| {
        target.timeout.request = "5s".parse().unwrap();
        target.timeout.attempt = "5s".parse().unwrap();
        target.circuit_breaker.consecutive_failures = Some(2);
    });
    let (_resilience, client) = client(&settings, format!("http://{address}")).await;
    // The time runs out once the head is there, and not before, however long a busy machine takes to send it.
    for _ in 0..3 {
        let hasty = client.get("/").deadline(Deadline::after(Duration::from_secs(2)));
        let body = hasty.send().await.unwrap().bytes();
        let (error, ()) = tokio::join!(body, pass(Duration::from_secs(2)));
        let error = error.unwrap_err();
        assert!(matches!(error, CallError::Body { .. }), "{error}");
        let mut slowly_read = client.get("/").send().await.unwrap();
        pass(Duration::from_secs(6)).await;
        slowly_read.chunk().await.unwrap_err();
        assert_eq!(client.target().breaker().snapshot().failures, 0);
    }
    for _ in 0..2 {
        assert_eq!(state(&client), CircuitState::Closed);
        let body = client.get("/").send().await.unwrap().bytes();
        let (error, ()) = tokio::join!(body, pass(Duration::from_secs(5)));
        error.unwrap_err();
    }
    assert_eq!(state(&client), CircuitState::Open);
}

#[tokio::test]
async fn cancelled_probes_give_their_place_back() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waiting = gate.clone();
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = get(move |headers: HeaderMap| async move {
        if noted.note(&headers) == 1 {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        drop(waiting.acquire().await);
        StatusCode::OK
    });
    let address = serve(Router::new().route("/", handler)).await;
    let settings = policy(|_, target| {
        target.circuit_breaker.consecutive_failures = Some(1);
        target.circuit_breaker.half_open_permits = 1;
        target.circuit_breaker.open_duration = "10ms".parse().unwrap();
        target.circuit_breaker.max_open_duration = "10ms".parse().unwrap();
    });
    let (_resilience, client) = client(&settings, format!("http://{address}")).await;
    client.get("/").send().await.unwrap();
    for round in 0..3 {
        eventually("the open time passes", || {
            client
                .target()
                .breaker()
                .snapshot()
                .next_probe_in
                .is_none_or(|left| left.is_zero())
        })
        .await;
        let probing = client.clone();
        let probe = tokio::spawn(async move { probing.get("/").send().await.map(|answer| answer.status()) });
        eventually("the probe arrives", || seen.count() == round + 2).await;
        assert!(matches!(
            client.get("/").send().await,
            Err(CallError::CircuitOpen { .. })
        ));
        probe.abort();
        assert!(probe.await.unwrap_err().is_cancelled());
        assert_eq!(state(&client), CircuitState::HalfOpen);
    }
    gate.add_permits(10);
    client.get("/").send().await.unwrap();
    assert_eq!(state(&client), CircuitState::Closed);
}
