//! Requests that are sent twice and act once, on an application that knows of no keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use valerix_kit::args::Secret;
use valerix_policy::guard::Protocol;

use super::support::{PATIENCE, Running, Setup, eventually, nobody, raw, read_head, serve};

/// An application that counts what it does, and does as its path says.
async fn application(done: &Arc<AtomicUsize>) -> std::net::SocketAddr {
    let done = Arc::clone(done);
    let act = move |Path(what): Path<String>, body: Bytes| {
        let number = done.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            match what.as_str() {
                "wait" => std::future::pending().await,
                "fail" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                "decline" => StatusCode::PAYMENT_REQUIRED.into_response(),
                "long" => Response::new(Body::from(vec![b'a'; 100_000])),
                _ => {
                    let text = format!("{number}: {}", String::from_utf8_lossy(&body));
                    (StatusCode::CREATED, [("location", "/orders/7"), ("x-own", "1")], text).into_response()
                }
            }
        }
    };
    serve(Router::new().route("/orders/{what}", post(act))).await
}

async fn guard(application: std::net::SocketAddr, redis: Option<&str>) -> Running {
    Setup::new()
        .inbound("http", Protocol::Http, application)
        .change(|config| config.service.redis_limits_url = redis.map(|url| Secret::from(url.to_owned())))
        .policy(|policy| policy.inbound.idempotency.required_routes = vec!["POST /orders/{what}".to_owned()])
        .start()
        .await
}

/// Status, problem or text, and whether it was given before.
async fn ask(guard: &Running, path: &str, key: &str, identity: &str, body: &'static str) -> (u16, String, bool) {
    let request = reqwest::Client::new()
        .post(format!("{}{path}", guard.base()))
        .body(body);
    let request = request.header("idempotency-key", key).header("authorization", identity);
    let answer = request.send().await.unwrap();
    let replayed = answer.headers().contains_key("idempotent-replayed");
    assert!(
        !replayed || answer.headers().get("x-own").is_none(),
        "all else is fresh"
    );
    let problem = answer
        .headers()
        .get("valerix-problem")
        .map(|name| name.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    if status == 201 {
        assert_eq!(answer.headers()["location"], "/orders/7");
    }
    let text = answer.text().await.unwrap();
    (status, problem.unwrap_or(text), replayed)
}

#[tokio::test]
async fn a_request_that_is_sent_twice_acts_once() {
    let done = Arc::default();
    let guard = guard(application(&done).await, None).await;
    assert_eq!(
        ask(&guard, "/orders/a", "one", "me", "x").await,
        (201, "1: x".to_owned(), false)
    );
    assert_eq!(
        ask(&guard, "/orders/a", "one", "me", "x").await,
        (201, "1: x".to_owned(), true)
    );
    let reused = (422, "idempotency-key-reused".to_owned(), false);
    assert_eq!(ask(&guard, "/orders/a", "one", "me", "y").await, reused);
    assert_eq!(ask(&guard, "/orders/b", "one", "me", "x").await, reused);
    // Others have keys of their own.
    assert_eq!(
        ask(&guard, "/orders/a", "one", "you", "x").await,
        (201, "2: x".to_owned(), false)
    );
    assert_eq!(
        ask(&guard, "/orders/a", "two", "me", "x").await,
        (201, "3: x".to_owned(), false)
    );
    // A refusal for good is an answer, a failure is none.
    for (path, status, replayed) in [("/orders/decline", 402, true), ("/orders/fail", 500, false)] {
        let key = path.trim_start_matches("/orders/");
        assert_eq!(ask(&guard, path, key, "me", "").await, (status, String::new(), false));
        assert_eq!(
            ask(&guard, path, key, "me", "").await,
            (status, String::new(), replayed)
        );
    }
    assert_eq!(done.load(Ordering::Relaxed), 6);
    // What is too long to be kept is passed on whole.
    let (status, text, _) = ask(&guard, "/orders/long", "long", "me", "").await;
    assert_eq!((status, text.len()), (200, 100_000));
    let missing = reqwest::Client::new().post(format!("{}/orders/a", guard.base()));
    assert_eq!(
        missing.send().await.unwrap().headers()["valerix-problem"],
        "idempotency-key-missing"
    );
}

/// Clients that write their JSON anew do not keep its order; what they ask for is the same.
#[tokio::test]
async fn the_same_json_in_another_order_is_the_same_request() {
    let done = Arc::default();
    let guard = guard(application(&done).await, None).await;
    let first = r#"{"item": 7, "amount": 18446744073709551617}"#;
    let answer = (201, format!("1: {first}"));
    for (body, replayed) in [(first, false), (r#"{"amount":18446744073709551617,"item":7}"#, true)] {
        let (status, text, again) = ask(&guard, "/orders/a", "one", "me", body).await;
        assert_eq!(((status, text), again), (answer.clone(), replayed));
    }
    let another = r#"{"amount":18446744073709551616,"item":7}"#;
    let refused = ask(&guard, "/orders/a", "one", "me", another).await;
    assert_eq!(refused, (422, "idempotency-key-reused".to_owned(), false));
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn while_the_first_is_under_way_a_second_is_told_to_wait() {
    let done = Arc::<AtomicUsize>::default();
    let guard = Arc::new(guard(application(&done).await, None).await);
    let first = Arc::clone(&guard);
    let first = tokio::spawn(async move { ask(&first, "/orders/wait", "one", "me", "x").await });
    eventually("the first has begun", || async {
        (done.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    let second = ask(&guard, "/orders/wait", "one", "me", "x").await;
    assert_eq!(second, (409, "idempotency-in-progress".to_owned(), false));
    first.abort();
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_guards_of_two_pods_share_what_they_know_by_redis() {
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL");
    let done = Arc::default();
    let application = application(&done).await;
    let (one, two) = (
        guard(application, Some(&url)).await,
        guard(application, Some(&url)).await,
    );
    let key = uuid::Uuid::new_v4().to_string();
    assert_eq!(
        ask(&one, "/orders/a", &key, "me", "x").await,
        (201, "1: x".to_owned(), false)
    );
    assert_eq!(
        ask(&two, "/orders/a", &key, "me", "x").await,
        (201, "1: x".to_owned(), true)
    );
    assert_eq!(ask(&two, "/orders/a", &key, "me", "y").await.0, 422);
}

#[tokio::test]
async fn without_its_redis_nobody_knows_and_nothing_is_done() {
    let done = Arc::<AtomicUsize>::default();
    let guard = guard(application(&done).await, Some(&format!("redis://{}/", nobody()))).await;
    let refused = ask(&guard, "/orders/a", "one", "me", "x").await;
    assert_eq!(refused, (503, "idempotency-unavailable".to_owned(), false));
    assert_eq!(done.load(Ordering::Relaxed), 0);
}

/// Halves of bodies that stand still: they take the room that there is, and no more.
#[tokio::test]
async fn bodies_that_never_end_take_no_more_than_their_room() {
    const HALF: usize = 512 * 1024;
    const ROOM: usize = 1024 * 1024;
    let done = Arc::default();
    let guard = Setup::new()
        .inbound("http", Protocol::Http, application(&done).await)
        // The least that there is.
        .change(|config| config.memory_limit = Some(1))
        .policy(|policy| policy.inbound.idempotency.required_routes = vec!["POST /orders/{what}".to_owned()])
        .start()
        .await;
    let mut held = Vec::new();
    for number in 0..ROOM / HALF + 3 {
        let mut stream = guard.connect().await;
        let head = format!(
            "POST /orders/new HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: {number}\r\nContent-Length: {}\r\n\r\n",
            2 * HALF
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // One that is refused may be closed before all was written.
        let _ = stream.write_all(&vec![b' '; HALF]).await;
        held.push(stream);
    }
    let refused = async {
        let mut heads = held
            .iter_mut()
            .map(|stream| Box::pin(read_head(stream)))
            .collect::<Vec<_>>();
        let mut refused = Vec::new();
        while refused.len() < 3 {
            let (head, _, rest) = futures::future::select_all(heads).await;
            refused.push(head);
            heads = rest;
        }
        refused
    };
    for head in tokio::time::timeout(PATIENCE, refused).await.unwrap() {
        assert!(
            head.starts_with("HTTP/1.1 503") && head.contains("idempotency-unavailable"),
            "{head}"
        );
    }
    // With those that stood still the room is there again.
    drop(held);
    eventually("there is room", || async {
        let (status, _, _) = ask(&guard, "/orders/new", "another", "", "body").await;
        (status == 201).then_some(())
    })
    .await;
}

/// An application that says when a request comes and when its caller has left, and answers once it may.
async fn patient(gate: &Arc<Semaphore>) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let gate = Arc::clone(gate);
    let address = raw(move |mut stream| {
        let (tell, gate) = (tell.clone(), Arc::clone(&gate));
        async move {
            read_head(&mut stream).await;
            let _ = tell.send("came");
            tokio::select! {
                _ = stream.read_u8() => drop(tell.send("left")),
                _ = gate.acquire() => {
                    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone";
                    let _ = stream.write_all(answer).await;
                }
            }
        }
    })
    .await;
    (address, told)
}

/// A client that leaves ends its call. What is asked with a key goes on: its answer is there for the next time.
#[tokio::test]
async fn only_a_request_with_a_key_is_finished_for_a_client_that_has_left() {
    let gate = Arc::new(Semaphore::new(0));
    let (application, mut told) = patient(&gate).await;
    let guard = Setup::new()
        .inbound("http", Protocol::Http, application)
        .policy(|policy| policy.inbound.idempotency.required_routes = vec!["POST /orders/{what}".to_owned()])
        .start()
        .await;
    for (route, key) in [("/orders/a", "Idempotency-Key: one\r\n"), ("/free", "")] {
        let mut client = guard.connect().await;
        let head = format!("POST {route} HTTP/1.1\r\nHost: shop\r\n{key}Content-Length: 0\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(), Some("came"));
        drop(client);
    }
    assert_eq!(
        tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(),
        Some("left"),
        "the one without a key"
    );
    gate.add_permits(1);
    eventually("the answer is kept", || async {
        let request = reqwest::Client::new().post(format!("{}/orders/a", guard.base()));
        let answer = request.header("idempotency-key", "one").send().await.unwrap();
        (answer.status() == 201 && answer.headers().contains_key("idempotent-replayed")).then_some(())
    })
    .await;
    assert!(told.try_recv().is_err(), "it came once, and nobody left");
}
