//! What the guard costs as a process: its start, at rest, with many idle connections, and with a large body on its way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use valerix_proxy::testing::{
    Recorder, a_gigabyte_passes_each_way, floods_end_their_connection_and_no_other, slow_clients_are_let_go_of,
    takes_and_gives_a_gigabyte, who_reads_nothing_asks,
};

use super::process::Guard;
use super::support::{eventually, raw, read_head, serve};

/// Not optimised, as tests are, it takes more than it does in its image.
const AT_REST: u64 = 40 * 1024 * 1024;
/// While each is served, and once nothing has been on it for a while.
const FOR_EACH: u64 = 32 * 1024;
const FOR_EACH_PARKED: u64 = 8 * 1024;
const IDLE: u64 = 1_000;

/// Readers that do not read, and what may be held for each: far less than the body.
const READERS: u64 = 200;
const OF_EACH: u64 = 384 * 1024;
const LARGE: usize = 2 * 1024 * 1024;

/// What a container may use, and what clients may hold of it: the rest is the guard's own, which is more here than in its
/// image.
const LIMIT: &str = "67108864";
const OF_CLIENTS: u64 = 32 * 1024 * 1024;

/// What may be held of bodies on their way, each way.
const ON_THE_WAY: u64 = 20 * 1024 * 1024;

#[tokio::test]
async fn a_thousand_idle_connections_cost_little() {
    let application = serve(Router::new().route("/", get(|| async { "well" }))).await;
    let guard = Guard::start(application, &[]).await;
    assert!(guard.started < Duration::from_secs(5), "{:?}", guard.started);
    let at_rest = guard.resident();
    assert!(at_rest < AT_REST, "{at_rest} bytes at rest");
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut stream = guard.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    let held = guard.resident().saturating_sub(at_rest);
    println!(
        "start {:?}, at rest {at_rest} bytes, {IDLE} idle connections {held} bytes",
        guard.started
    );
    assert!(held < IDLE * FOR_EACH, "{held} bytes are held for {IDLE} connections");
    eventually("they hold next to nothing", || async {
        // What asks for memory gives back what is not needed.
        assert!(reqwest::get(guard.base()).await.unwrap().status().is_success());
        let held = guard.resident().saturating_sub(at_rest);
        (held < IDLE * FOR_EACH_PARKED).then_some(())
    })
    .await;
    for stream in &mut idle {
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        assert!(read_head(stream).await.starts_with("HTTP/1.1 200"));
    }
}

/// Readers that have taken the head of an answer and look away. What is on its way to each comes to rest, and is bounded.
#[tokio::test]
async fn readers_that_do_not_read_hold_little_of_what_they_asked_for() {
    let body = vec![7_u8; LARGE];
    let application = serve(Router::new().route("/", get(move || std::future::ready(body.clone())))).await;
    let guard = Guard::start(application, &[]).await;
    let at_rest = guard.resident();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut stream = guard.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        readers.push(stream);
    }
    // One that reads gets all of it, beside all that do not.
    let mut last = readers.pop().unwrap();
    let taken = tokio::io::copy(&mut (&mut last).take(LARGE as u64), &mut tokio::io::sink()).await;
    assert_eq!(taken.unwrap(), LARGE as u64);
    let held = guard.most().saturating_sub(at_rest);
    println!("{held} bytes were held for {READERS} readers at most");
    assert!(held < READERS * OF_EACH, "{held} bytes were held");
}

/// An application that answers as many requests at a time as anybody asks, each with a body of `LARGE` bytes.
async fn generous(asked: &Arc<AtomicU64>) -> SocketAddr {
    let (body, asked) = (Bytes::from(vec![7_u8; LARGE]), Arc::clone(asked));
    raw(move |stream| {
        let (body, asked) = (body.clone(), Arc::clone(&asked));
        let answer = service_fn(move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, Infallible>(http::Response::new(Full::new(body.clone()))))
        });
        async move {
            let mut connection = Builder::new(TokioExecutor::new());
            connection.http2().max_concurrent_streams(None);
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        }
    })
    .await
}

/// Connections of HTTP/2, each with as many answers as it may have at a time, none of which is taken.
#[tokio::test]
async fn clients_of_http2_that_do_not_read_cannot_have_a_guard_killed() {
    let asked = Arc::default();
    let application = generous(&asked).await;
    let guard = Guard::start(application, &[("MEMORY_LIMIT", LIMIT)]).await;
    let at_rest = guard.resident();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(who_reads_nothing_asks(guard.address(), "/", 250).await);
    }
    eventually("some of them are answered", || async {
        (asked.load(Ordering::Relaxed) > 200).then_some(())
    })
    .await;
    // One that reads gets all that it asks for, beside all that do not.
    for _ in 0..10 {
        let answer = reqwest::get(guard.base()).await.unwrap();
        assert_eq!(answer.bytes().await.unwrap().len(), LARGE);
    }
    let most = guard.most().saturating_sub(at_rest);
    println!("{most} bytes were held at most");
    assert!(most < OF_CLIENTS, "{most} bytes were held");
}

/// More connections than there is memory for: those that have no place wait.
#[tokio::test]
async fn connections_without_number_cannot_have_a_guard_killed() {
    const PLACES: usize = 512;
    let application = serve(Router::new().route("/", get(|| async { "well" }))).await;
    let guard = Guard::start(application, &[("MEMORY_LIMIT", LIMIT)]).await;
    let at_rest = guard.resident();
    let mut streams = Vec::new();
    // A few more than there are places: how many may wait, the kernel says.
    for _ in 0..PLACES + 8 {
        let mut stream = guard.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams[..PLACES] {
        assert!(read_head(stream).await.starts_with("HTTP/1.1 200"));
    }
    let mut waiting = streams.pop().unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(100), waiting.read_u8()).await;
    assert!(answer.is_err(), "it was let in");
    let most = guard.most().saturating_sub(at_rest);
    println!("{most} bytes were held at most");
    assert!(most < OF_CLIENTS, "{most} bytes were held");
    drop(streams);
    assert!(read_head(&mut waiting).await.starts_with("HTTP/1.1 200"));
}

/// Frames without end; and heads and bodies without end, by a guard that lets go of them soon.
#[tokio::test]
async fn floods_and_slow_clients_cannot_have_a_guard_killed() {
    let recorder = Recorder::start().await;
    let guard = Guard::start(recorder.address, &[("MEMORY_LIMIT", LIMIT)]).await;
    let at_rest = guard.resident();
    floods_end_their_connection_and_no_other(guard.address()).await;
    let flooded = guard.most().saturating_sub(at_rest);
    let soon = [
        ("MEMORY_LIMIT", LIMIT),
        ("HEADER_READ_TIMEOUT", "500ms"),
        ("BODY_READ_TIMEOUT", "500ms"),
    ];
    let guard = Guard::start(recorder.address, &soon).await;
    let at_rest = guard.resident();
    slow_clients_are_let_go_of(guard.address(), Duration::from_millis(500)).await;
    let slowed = guard.most().saturating_sub(at_rest);
    println!("{flooded} bytes were held at most in floods, {slowed} for slow clients");
    assert!(flooded < OF_CLIENTS, "{flooded} bytes were held");
    assert!(slowed < OF_CLIENTS, "{slowed} bytes were held");
}

#[tokio::test]
async fn a_gigabyte_passes_each_way_through_twenty_megabytes() {
    let guard = Guard::start(takes_and_gives_a_gigabyte().await, &[]).await;
    let at_rest = guard.resident();
    a_gigabyte_passes_each_way(guard.address(), "/").await;
    let held = guard.most().saturating_sub(at_rest);
    println!("{held} bytes were held at most");
    assert!(held < ON_THE_WAY, "{held} bytes were held");
}
