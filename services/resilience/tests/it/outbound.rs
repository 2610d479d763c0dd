//! What must hold for calls, on real sockets: how often a request is sent, who opens a circuit, who may probe it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::{HeaderMap, Method, StatusCode, header};
use valerix_resilience::idempotency::{Idempotency, IdempotentRequest, Local, SCHEMA, StoredAnswer, refusals};
use valerix_resilience::policy::{CircuitState, Hedge, Policy};
use valerix_resilience::{CallError, Deadline, Problem, Resilience, ResilientClient, key_from_headers};

use crate::support::{Seen, database, eventually, policy, serve, with_policy};

/// A server whose answer to its n-th request (from 1) is the function's.
pub(crate) async fn server<F, Fut>(answer: F) -> (SocketAddr, Seen)
where
    F: Fn(usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send,
{
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = any(move |headers: HeaderMap| {
        let number = noted.note(&headers);
        answer(number)
    });
    (serve(Router::new().fallback(handler)).await, seen)
}

pub(crate) async fn client(policy: &Policy, addresses: Vec<SocketAddr>) -> (Resilience, ResilientClient) {
    let resilience = with_policy(policy).await;
    let client = resilience
        .client("upstream")
        .url("http://upstream.test")
        .resolver(addresses)
        .build()
        .unwrap();
    (resilience, client)
}

pub(crate) fn state(client: &ResilientClient) -> CircuitState {
    client.target().state()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_under_load_stay_within_share_and_floor() {
    let hedge = Some(Hedge::after("1ms".parse().unwrap()));
    for (addresses, hedge) in [(1, None), (3, None), (3, hedge)] {
        let mut servers = Vec::new();
        for _ in 0..addresses {
            servers.push(server(|_| async { StatusCode::SERVICE_UNAVAILABLE.into_response() }).await);
        }
        let settings = policy(|_, target| {
            target.retry.budget.percent = 20;
            target.retry.budget.min_per_second = 10;
            target.retry.max_attempts = 10;
            target.hedge = hedge;
            // The breaker would hide what is measured.
            target.circuit_breaker.minimum_requests = 10_000;
        });
        let began = Instant::now();
        let (_resilience, client) = client(&settings, servers.iter().map(|(address, _)| *address).collect()).await;
        let callers = (0..20).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let _ = client.get("/").send().await;
                }
            })
        });
        futures::future::join_all(callers).await;
        let arrived: usize = servers.iter().map(|(_, seen)| seen.count()).sum();
        let retries = arrived - 1_000;
        let allowed = 0.2 * 1_000.0 + 10.0 * began.elapsed().as_secs_f64();
        assert!(
            retries as f64 <= allowed,
            "{retries} retries at {addresses} addresses, {allowed} allowed"
        );
        assert!(retries >= 150, "{retries} retries: the budget is there to be used");
    }
}

#[tokio::test]
async fn a_post_without_a_key_is_sent_exactly_once_however_it_fails() {
    let hang: fn(usize) -> futures::future::BoxFuture<'static, Response> = |_| Box::pin(std::future::pending());
    let refuse: fn(usize) -> futures::future::BoxFuture<'static, Response> =
        |_| Box::pin(async { StatusCode::SERVICE_UNAVAILABLE.into_response() });
    for (behaviour, hangs) in [(hang, true), (refuse, false)] {
        let (one, seen_one) = server(behaviour).await;
        let (two, seen_two) = server(behaviour).await;
        let settings = policy(|_, target| {
            target.timeout.attempt = "5s".parse().unwrap();
            target.retry.budget.min_per_second = 1_000;
            target.idempotent_routes = vec!["POST /".to_owned()];
            target.circuit_breaker.minimum_requests = 1_000;
        });
        let (_resilience, client) = client(&settings, vec![one, two]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        for calls in 1..=3 {
            let call = tokio::spawn(client.post("/").json(&1).send());
            if hangs {
                // Its time is over once it has arrived, and not before, however long a busy machine takes to send it.
                eventually("it arrives", || seen_one.count() + seen_two.count() == calls).await;
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(5)).await;
                tokio::time::resume();
            }
            let _ = call.await.unwrap();
            assert_eq!(seen_one.count() + seen_two.count(), calls);
        }
    }
    // A connection that breaks after the request was read.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 4_096]).await;
            counts.fetch_add(1, Ordering::SeqCst);
        }
    });
    let settings = policy(|_, target| target.retry.budget.min_per_second = 1_000);
    let (_resilience, client) = client(&settings, vec![address]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = client.post("/").json(&1).send().await.unwrap_err();
    assert!(
        matches!(error, CallError::Reset { attempts: 1, .. }) && error.may_have_acted(),
        "{error}"
    );
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    let error = client.get("/").send().await.unwrap_err();
    assert!(matches!(error, CallError::Reset { attempts: 3, .. }), "{error}");
    assert_eq!(accepted.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn with_a_key_on_a_declared_route_it_is_repeated_and_executed_once() {
    let pool = database().await;
    sqlx::raw_sql(SCHEMA).execute(&pool).await.unwrap();
    sqlx::query("CREATE TABLE effects (key text NOT NULL)")
        .execute(&pool)
        .await
        .unwrap();
    let arrived = Arc::new(AtomicUsize::new(0));
    let (counts, store) = (Arc::clone(&arrived), pool.clone());
    let handler = post(move |headers: HeaderMap, body: bytes::Bytes| async move {
        let number = counts.fetch_add(1, Ordering::SeqCst);
        let idempotency = Idempotency::new(Duration::from_secs(3_600), Duration::from_secs(30));
        let key = key_from_headers(&headers).unwrap().unwrap();
        let request = IdempotentRequest::new(&key, "order", &Method::POST, "/charge", "/charge", &body);
        let answer = match idempotency.begin(&store, &request).await.unwrap() {
            Local::Fresh(mut claim) => {
                let effect = sqlx::query("INSERT INTO effects VALUES ($1)").bind(&key);
                effect.execute(claim.transaction()).await.unwrap();
                let answer = StoredAnswer::json(StatusCode::CREATED, &"charged").unwrap();
                claim.commit(answer).await.unwrap().into_answer()
            }
            Local::Replay(answer) => answer,
            Local::InProgress => StoredAnswer::problem(&refusals::in_progress()),
            Local::Mismatch => StoredAnswer::problem(&refusals::mismatch()),
        };
        // The work is done, and the first two answers are lost: one to an error, one to a timeout.
        match number {
            0 => StatusCode::BAD_GATEWAY.into_response(),
            1 => std::future::pending().await,
            _ => answer.into_response(),
        }
    });
    let address = serve(Router::new().route("/charge", handler)).await;
    let settings = policy(|_, target| {
        target.idempotent_routes = vec!["POST /charge".to_owned()];
        target.timeout.attempt = "1s".parse().unwrap();
        target.retry.budget.min_per_second = 1_000;
    });
    let (_resilience, client) = client(&settings, vec![address]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let answer = client
        .post("/charge")
        .idempotency_key("order:1:charge")
        .json(&42)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status(), arrived.load(Ordering::SeqCst)),
        (StatusCode::CREATED, 3)
    );
    assert_eq!(answer.json::<String>().await.unwrap(), "charged");
    let effects: i64 = sqlx::query_scalar("SELECT count(*) FROM effects")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(effects, 1);
}

#[tokio::test]
async fn retry_after_is_waited_out_and_not_dodged_at_another_address() {
    let asks = |number| async move {
        if number == 1 {
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
        }
        StatusCode::OK.into_response()
    };
    let (one, seen_one) = server(asks).await;
    let (two, seen_two) = server(asks).await;
    let settings = policy(|_, target| target.retry.budget.min_per_second = 1_000);
    let (_resilience, client) = client(&settings, vec![one, two]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let hurried = Deadline::after(Duration::from_millis(900));
    let answer = client.get("/").deadline(hurried).send().await.unwrap();
    assert_eq!(
        answer.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "no time to wait: the answer at hand is returned"
    );
    assert_eq!(seen_one.count() + seen_two.count(), 1);
    let began = Instant::now();
    let answer = client.get("/").send().await.unwrap();
    let sent = seen_one.count() + seen_two.count() - 1;
    match sent {
        // The other address was next and asked for a second as well.
        2 => assert!(began.elapsed() >= Duration::from_secs(1)),
        sent => assert_eq!(sent, 1),
    }
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_draining_replica_is_left_at_once_and_a_final_answer_is_final() {
    let (one, seen_one) = server(|_| async { Problem::draining().into_response() }).await;
    let (two, seen_two) = server(|_| async { StatusCode::OK.into_response() }).await;
    let settings = policy(|_, target| {
        target.retry.budget.min_per_second = 1_000;
        target.circuit_breaker.consecutive_failures = Some(1);
    });
    let (_resilience, first) = client(&settings, vec![one, two]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(first.get("/").send().await.unwrap().status(), StatusCode::OK);
    }
    assert!(seen_one.count() > 0 && seen_two.count() == 20);
    // Each would have to wait for a second otherwise.
    assert!(began.elapsed() < Duration::from_secs(1) * u32::try_from(seen_one.count()).unwrap());
    assert_eq!(state(&first), CircuitState::Closed);

    let (three, seen_three) = server(|_| async { Problem::overloaded("full").into_response() }).await;
    let (four, seen_four) = server(|_| async { Problem::overloaded("full").into_response() }).await;
    let (_resilience, second) = client(&settings, vec![three, four]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    for calls in 1..=30 {
        assert_eq!(
            second.get("/").send().await.unwrap().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(seen_three.count() + seen_four.count(), calls);
    }
    assert_eq!(
        state(&second),
        CircuitState::Closed,
        "who protects himself has not failed"
    );
}

#[tokio::test]
async fn callers_in_a_hurry_never_open_the_circuit() {
    let (address, seen) = server(|number| async move {
        if number % 2 == 0 {
            std::future::pending::<()>().await;
        }
        // What a target says whose own deadline this call set.
        Problem::deadline_exceeded("handler").into_response()
    })
    .await;
    let settings = policy(|_, target| {
        target.circuit_breaker.consecutive_failures = Some(1);
        target.circuit_breaker.minimum_requests = 1;
    });
    let (_resilience, client) = client(&settings, vec![address]).await;
    // A busy machine takes its time to send one: who did not arrive says nothing of the target.
    let mut hurry = Duration::from_millis(20);
    while seen.count() <= 20 {
        let before = seen.count();
        let _ = client.get("/").deadline(Deadline::after(hurry)).send().await;
        assert_eq!(state(&client), CircuitState::Closed);
        if seen.count() == before {
            hurry = (hurry * 2).min(Duration::from_secs(5));
        }
    }
    // The same answer to a call in no hurry is the target's failure.
    let _ = client.get("/").send().await;
    let _ = client.get("/").send().await;
    assert_eq!(state(&client), CircuitState::Open);
}

#[tokio::test]
async fn the_deadline_shrinks_along_the_calls() {
    let (last, seen_last) = server(|_| async { StatusCode::OK.into_response() }).await;
    let (resilience, onward) = client(&policy(|_, _| {}), vec![last]).await;
    let seen_first = Seen::default();
    let noted = seen_first.clone();
    let handler = any(move |headers: HeaderMap| async move {
        noted.note(&headers);
        tokio::time::sleep(Duration::from_millis(50)).await;
        onward.get("/").send().await.unwrap().status()
    });
    let first = serve(Router::new().fallback(handler).layer(resilience.server_layer())).await;
    let (_other, client) = client(&policy(|_, _| {}), vec![first]).await;
    let answer = client
        .get("/")
        .deadline(Deadline::after(Duration::from_secs(5)))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let millis = |seen: &Seen| seen.header(0, "valerix-timeout-ms").unwrap().parse::<u64>().unwrap();
    let (told_first, told_last) = (millis(&seen_first), millis(&seen_last));
    assert!(
        told_first <= 5_000 && told_last + 50 <= told_first,
        "{told_first}, then {told_last}"
    );
}
