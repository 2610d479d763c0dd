//! Peers that mean harm: what they can make a guard, or a gateway, which has the same server, hold.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use valerix_kit::testing::service_args;
use valerix_policy::guard::Protocol;
use valerix_proxy::{Sending, Upstream};

use super::support::{PATIENCE, Setup, closed, eventually, raw, read_head, serve};

const SHORT: Duration = Duration::from_millis(500);

/// A service whose answer never ends, and that tells when nobody takes it any more.
async fn endless() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<()>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let chunk = [b"10000\r\n".as_slice(), &[7; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {}
            let _ = tell.send(());
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn one_connection_too_many_waits_for_another_to_end() {
    let application = serve(Router::new().route("/", get(|| async { "well" }))).await;
    let guard = Setup::new()
        .inbound("http", Protocol::Http, application)
        .change(|config| config.service.max_connections = 2)
        .start()
        .await;
    let idle = [guard.connect().await, guard.connect().await];
    let mut third = guard.connect().await;
    third
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    let waits = tokio::time::timeout(Duration::from_millis(100), third.peek(&mut byte)).await;
    assert!(waits.is_err(), "it was let in");
    drop(idle);
    assert!(closed(&mut third).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_that_was_upgraded_counts_as_long_as_it_lasts() {
    let application = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let guard = Setup::new()
        .inbound("http", Protocol::Http, application)
        .change(|config| config.service.max_connections = 1)
        .start()
        .await;
    let asked = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut first = guard.connect().await;
    first.write_all(asked).await.unwrap();
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 101"));
    let mut second = guard.connect().await;
    second.write_all(asked).await.unwrap();
    let mut byte = [0];
    let waits = tokio::time::timeout(Duration::from_millis(100), second.peek(&mut byte)).await;
    assert!(waits.is_err(), "it was let in");
    drop(first);
    assert!(read_head(&mut second).await.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn an_upload_of_a_byte_now_and_then_holds_no_place_for_long() {
    let take =
        any(|body: Body| async move { body.collect().await.map_or(0, |body| body.to_bytes().len()).to_string() });
    let address = serve(Router::new().fallback(take)).await;
    let guard = Setup::new()
        .target("stock", Protocol::Http, &format!("http://{address}"))
        .change(|config| config.service.body_read_timeout = SHORT)
        .start()
        .await;
    let mut client = guard.connect_target().await;
    let head = b"POST / HTTP/1.1\r\nHost: stock\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let in_use = || async {
        let report = guard.report().await;
        report["limits"][0]["inUse"].as_u64().unwrap()
    };
    eventually("the upload has a place", || async {
        (in_use().await == 1).then_some(())
    })
    .await;
    let (mut read, mut write) = client.split();
    let trickle = async {
        // Never still for as long as a body may be.
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 5).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        () = trickle => {}
        read = tokio::time::timeout(PATIENCE, read.read_exact(&mut answer)) => {
            read.unwrap().unwrap();
            assert_eq!(&answer, b"HTTP/1.1 400");
        }
        () = tokio::time::sleep(PATIENCE) => panic!("the upload goes on"),
    }
    eventually("the place is free", || async { (in_use().await == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_answer_is_let_go_of() {
    let (address, mut told) = endless().await;
    let guard = Setup::new()
        .inbound("http", Protocol::Http, address)
        .change(|config| config.service.body_read_timeout = SHORT)
        .start()
        .await;
    let mut client = guard.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200"));
    tokio::time::timeout(PATIENCE, told.recv())
        .await
        .expect("the application is held")
        .unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_one_answer_among_others_is_let_go_of() {
    let (address, mut told) = endless().await;
    let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    let upstream = Upstream::new(&resilience, "stock", &format!("http://{address}").parse().unwrap()).unwrap();
    let pass = any(move |request: axum::extract::Request| {
        let upstream = upstream.clone();
        async move {
            let sending = Sending {
                max_body: 0,
                idle: PATIENCE,
            };
            upstream.send(request, sending).await.unwrap().map(Body::new)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut limits = service_args("gateway").limits();
    limits.body_read_timeout = SHORT;
    let (router, stop) = (Router::new().fallback(pass), CancellationToken::new());
    tokio::spawn(valerix_kit::server::serve(listener, router, limits, stop));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{address}/"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let held = sender.send_request(request).await.unwrap();
    assert_eq!(held.status(), 200);
    tokio::time::timeout(PATIENCE, told.recv())
        .await
        .expect("the target is held")
        .unwrap();
    drop(held);
}

#[tokio::test]
async fn a_connection_of_http2_on_which_nothing_is_asked_is_told_to_go_away_and_a_long_request_is_not_idle() {
    let application = serve(Router::new().route(
        "/",
        get(|| async {
            tokio::time::sleep(SHORT * 3).await;
            "well"
        }),
    ))
    .await;
    let guard = Setup::new()
        .inbound("http", Protocol::Http, application)
        .change(|config| config.service.header_read_timeout = SHORT)
        .start()
        .await;
    let stream = TokioIo::new(guard.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(guard.base()).body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "well");
    // An orderly end, with the sender still there.
    tokio::time::timeout(PATIENCE, connection)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(sender.is_closed());
}
