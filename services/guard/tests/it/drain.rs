//! The end of a guard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use valerix_kit::testing::free_port;
use valerix_policy::guard::{Protocol, TargetListener, WIRING_ENV, Wiring};

use super::process::Guard;
use super::support::{PATIENCE, Setup, closed, echo, eventually, nobody, read_head, say, serve};

#[tokio::test]
async fn what_is_in_flight_ends_and_may_still_call_others() {
    let stock = serve(Router::new().route("/", get(|| async { "in stock" }))).await;
    let target = Arc::new(std::sync::OnceLock::<String>::new());
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (target, entered, go_on) = (Arc::clone(&target), Arc::clone(&entered), Arc::clone(&go_on));
        get(move || async move {
            entered.notify_one();
            go_on.notified().await;
            let url = target.get().unwrap();
            reqwest::get(url).await.unwrap().text().await.unwrap()
        })
    };
    let application = serve(Router::new().route("/", slow)).await;
    let mut guard = Setup::new()
        .inbound("http", Protocol::Http, application)
        .target("stock", Protocol::Http, &format!("http://{stock}"))
        .start()
        .await;
    target.set(guard.target()).unwrap();
    let request = tokio::spawn(reqwest::get(guard.base()));
    entered.notified().await;
    guard.stop.cancel();
    let address = *guard.inbound.values().next().unwrap();
    eventually("nothing new is taken", || async {
        TcpStream::connect(address).await.err()
    })
    .await;
    assert!(!guard.ended.is_finished());
    go_on.notify_one();
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "in stock");
    tokio::time::timeout(PATIENCE, &mut guard.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_of_http2_is_told_to_go_away() {
    let application = serve(Router::new().route("/", get(|| async { "well" }))).await;
    let guard = Setup::new().inbound("http", Protocol::Http, application).start().await;
    let stream = TokioIo::new(guard.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(guard.base()).body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    guard.stop.cancel();
    // An orderly end, with the sender still there.
    tokio::time::timeout(PATIENCE, connection)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(sender.is_closed());
}

#[tokio::test]
async fn what_was_upgraded_or_relayed_is_closed_at_the_end_of_the_grace() {
    let address = echo().await;
    let grace = Duration::from_millis(400);
    let mut guard = Setup::new()
        .inbound("redis", Protocol::Tcp, address)
        .change(|config| config.service.drain_timeout = grace)
        .start()
        .await;
    let mut client = guard.connect().await;
    assert_eq!(say(&mut client, "one").await.unwrap(), "one");
    let began = Instant::now();
    guard.stop.cancel();
    assert_eq!(say(&mut client, "two").await.unwrap(), "two", "until then it goes on");
    closed(&mut client).await;
    assert!(began.elapsed() >= grace, "{:?}", began.elapsed());
    tokio::time::timeout(PATIENCE, &mut guard.ended).await.unwrap().unwrap();
}

/// The application takes nothing new from the moment on at which it was told to end, and finishes what it has begun.
#[tokio::test]
async fn what_was_asked_with_a_key_is_waited_for_although_its_client_has_left() {
    for (grace, answers) in [(Duration::from_millis(400), false), (Duration::from_secs(600), true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (called, released) = (Arc::clone(&entered), Arc::clone(&go_on));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            read_head(&mut stream).await;
            called.notify_one();
            released.notified().await;
            let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        });
        let mut guard = Setup::new()
            .inbound("http", Protocol::Http, address)
            .policy(|policy| policy.inbound.idempotency.required_routes = vec!["POST /orders".to_owned()])
            .change(|config| config.service.drain_timeout = grace)
            .start()
            .await;
        let mut client = guard.connect().await;
        let request = b"POST /orders HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: one\r\nContent-Length: 0\r\n\r\n";
        client.write_all(request).await.unwrap();
        entered.notified().await;
        drop(client);
        let began = Instant::now();
        guard.stop.cancel();
        if answers {
            let port = *guard.inbound.values().next().unwrap();
            eventually("nothing new is taken", || async {
                TcpStream::connect(port).await.err()
            })
            .await;
            assert!(!guard.ended.is_finished());
            go_on.notify_one();
        }
        tokio::time::timeout(PATIENCE, &mut guard.ended).await.unwrap().unwrap();
        assert!(answers || began.elapsed() >= grace, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn nobody_waits_for_an_application_that_is_gone() {
    let address = nobody();
    let long = Duration::from_secs(600);
    let mut guard = Setup::new()
        .inbound("http", Protocol::Http, address)
        .change(|config| {
            config.service.drain_wait = long;
            config.service.drain_timeout = long;
        })
        .start()
        .await;
    let mut idle = guard.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    assert!(read_head(&mut idle).await.starts_with("HTTP/1.1 503"));
    guard.stop.cancel();
    tokio::time::timeout(PATIENCE, &mut guard.ended).await.unwrap().unwrap();
}

/// Beside a service that has ended, and beside the program of a Job, which listens nowhere: the pod is done once its guard is.
#[tokio::test]
async fn a_process_ends_well_and_at_once_where_nobody_needs_it_any_more() {
    let of_a_job = Wiring {
        targets: vec![TargetListener {
            name: "ledger".to_owned(),
            protocol: Protocol::Http,
            listen: free_port(),
            url: Some(format!("http://{}", nobody())),
            authorities: None,
            server_name: None,
        }],
        ..Wiring::default()
    };
    let of_a_job = serde_json::to_string(&of_a_job).unwrap();
    // More than the test waits for.
    let patient = [("DRAIN_WAIT", "10m"), ("DRAIN_TIMEOUT", "10m")];
    for wiring in [None, Some((WIRING_ENV, of_a_job.as_str()))] {
        let environment: Vec<_> = patient.into_iter().chain(wiring).collect();
        let guard = Guard::start(nobody(), &environment).await;
        let status = guard.ended().await;
        assert_eq!(status.code(), Some(0), "{wiring:?}");
    }
}
