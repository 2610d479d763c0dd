//! Connections of HTTP/1.1 on which nothing has been for a while, and whose next request is answered all the same.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::{any, get};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use valerix_kit::server::{Limits, serve};
use valerix_kit::testing::service_args;

/// After which a connection is parked, with room for a machine that has other things to do.
const PARKED: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);
const LARGE: usize = 4 * 1024 * 1024;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<usize>,
}

async fn running(change: impl FnOnce(&mut Limits)) -> Running {
    let length = any(|request: Request| async move {
        let (path, body) = (request.uri().path().to_owned(), request.into_body());
        let body = axum::body::to_bytes(body, LARGE).await.unwrap();
        format!("{path} {}", body.len())
    });
    let routes = Router::new()
        .route("/large", get(|| async { vec![7_u8; LARGE] }))
        .fallback(length);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let mut limits = service_args("test").limits();
    change(&mut limits);
    let ended = tokio::spawn(serve(listener, routes, limits, stop.clone()));
    Running { address, stop, ended }
}

/// What an answer says; it is read to its end and no further.
async fn answer(stream: &mut TcpStream) -> String {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        String::from_utf8(body).unwrap()
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer")
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(answer(stream).await, format!("{path} 0"));
}

/// How long it took until the other side closed.
async fn closed(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let _ = read.expect("the connection is closed");
    assert_eq!(String::from_utf8_lossy(&rest), "");
    begun.elapsed()
}

#[tokio::test]
async fn a_parked_connection_answers_on_again_and_again() {
    let server = running(|_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for path in ["/a", "/b", "/c"] {
        ask(&mut stream, path).await;
        tokio::time::sleep(PARKED).await;
    }
    // Byte by byte, the first of which wakes it.
    for byte in b"POST /slowly HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(answer(&mut stream).await, "/slowly 3");
}

/// Requests that come just before, while and just after a connection is parked, whole, in parts, and more than one.
#[tokio::test]
async fn no_request_is_lost_whenever_it_comes() {
    let server = running(|_| {}).await;
    let each = (0..200_u64).map(|number| async move {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        ask(&mut stream, "/first").await;
        // 240 to 260 ms after the answer.
        tokio::time::sleep(Duration::from_micros(240_000 + number * 100)).await;
        let request =
            b"POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /third HTTP/1.1\r\nHost: x\r\n\r\n";
        let cut = usize::try_from(number).unwrap() % request.len();
        stream.write_all(&request[..cut]).await.unwrap();
        if number % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(number % 7)).await;
        }
        stream.write_all(&request[cut..]).await.unwrap();
        assert_eq!(answer(&mut stream).await, "/second 3", "{number}");
        assert_eq!(answer(&mut stream).await, "/third 0", "{number}");
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn what_is_half_said_waits_for_its_rest() {
    let server = running(|_| {}).await;
    // The second request begins with the bytes of the first.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let both = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\nGET /two HTTP/1.1\r\nHo";
    stream.write_all(both).await.unwrap();
    assert_eq!(answer(&mut stream).await, "/one 0");
    tokio::time::sleep(PARKED).await;
    stream.write_all(b"st: x\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await, "/two 0");
    // A body that comes late, and an answer that is taken late.
    stream
        .write_all(b"POST /three HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        .await
        .unwrap();
    tokio::time::sleep(PARKED).await;
    stream.write_all(b"def").await.unwrap();
    assert_eq!(answer(&mut stream).await, "/three 6");
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(PARKED).await;
    assert_eq!(answer(&mut stream).await.len(), LARGE);
    ask(&mut stream, "/four").await;
}

#[tokio::test]
async fn a_parked_connection_has_as_long_for_its_next_head_as_any_other() {
    const LIMIT: Duration = Duration::from_secs(1);
    let server = running(|limits| limits.header_read_timeout = LIMIT).await;
    // Nothing at all, half a head before it is parked, and after.
    for (wait, sent) in [
        (Duration::ZERO, ""),
        (Duration::ZERO, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        (PARKED, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        (PARKED, "G"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let begun = Instant::now();
        ask(&mut stream, "/").await;
        tokio::time::sleep(wait).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        closed(&mut stream).await;
        let took = begun.elapsed();
        assert!(took >= LIMIT, "{sent:?} was cut after {took:?}");
        assert!(took < 10 * LIMIT, "{sent:?} was cut after {took:?}");
    }
}

/// However long it might have idled.
#[tokio::test]
async fn a_head_that_has_begun_has_a_time_of_its_own() {
    const LIMIT: Duration = Duration::from_millis(500);
    let server = running(|limits| limits.head_timeout = LIMIT).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, "/").await;
    // At once, and when the connection is parked.
    for wait in [Duration::ZERO, PARKED] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        ask(&mut stream, "/").await;
        tokio::time::sleep(wait).await;
        let begun = Instant::now();
        let part = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ";
        stream.write_all(part).await.unwrap();
        closed(&mut stream).await;
        assert!(begun.elapsed() >= LIMIT, "it was cut after {:?}", begun.elapsed());
    }
    // One that was silent all the while is served.
    ask(&mut idle, "/").await;
}

/// A part of how HTTP/2 begins is a part of a head as well.
#[tokio::test]
async fn who_has_begun_to_speak_http2_has_the_time_of_a_head() {
    const LIMIT: Duration = Duration::from_millis(500);
    let server = running(|limits| limits.head_timeout = LIMIT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let took = closed(&mut stream).await;
    assert!(took < 20 * LIMIT, "it was cut after {took:?}");
}

/// Its time begins with it, and not with the silence before.
#[tokio::test]
async fn a_head_that_begins_late_is_not_cut_off() {
    const LIMIT: Duration = Duration::from_secs(4);
    let server = running(|limits| limits.header_read_timeout = LIMIT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/").await;
    for part in ["GET /late HTTP/1.1\r\n", "Host: x\r\n\r\n"] {
        tokio::time::sleep(LIMIT * 5 / 8).await;
        stream.write_all(part.as_bytes()).await.unwrap();
    }
    assert_eq!(answer(&mut stream).await, "/late 0");
}

#[tokio::test]
async fn each_request_begins_the_time_for_the_next_head_anew() {
    const LIMIT: Duration = Duration::from_secs(4);
    let server = running(|limits| limits.header_read_timeout = LIMIT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < LIMIT + PARKED {
        ask(&mut stream, "/").await;
        tokio::time::sleep(PARKED).await;
    }
}

/// The end of an answer waits for its client when all of it is under way, and there is no next head to wait for.
#[tokio::test]
async fn who_takes_the_end_of_an_answer_slowly_gets_it() {
    const LIMIT: Duration = Duration::from_millis(500);
    let server = running(|limits| limits.header_read_timeout = LIMIT).await;
    let socket = TcpSocket::new_v4().unwrap();
    // What the kernel holds is not what is meant.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut begun = vec![0; 1024];
    stream.read_exact(&mut begun).await.unwrap();
    tokio::time::sleep(3 * LIMIT).await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    read.expect("the connection is closed").unwrap();
    assert!(begun.len() + rest.len() > LARGE, "{} bytes came", rest.len());
}

#[tokio::test]
async fn a_drain_closes_parked_connections_at_once() {
    let server = running(|_| {}).await;
    let mut parked = TcpStream::connect(server.address).await.unwrap();
    ask(&mut parked, "/").await;
    tokio::time::sleep(PARKED).await;
    server.stop.cancel();
    let took = closed(&mut parked).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(server.ended.await.unwrap(), 0);
}

/// Half a head holds up no drain, and a request that was begun is answered.
#[tokio::test]
async fn a_drain_waits_a_moment_for_the_rest_of_a_head_and_for_an_answer_as_long_as_it_takes() {
    let server = running(|limits| limits.header_read_timeout = Duration::from_millis(500)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    ask(&mut silent, "/").await;
    tokio::time::sleep(PARKED).await;
    silent.write_all(b"G").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut slow = socket.connect(server.address).await.unwrap();
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut begun = vec![0; 1024];
    slow.read_exact(&mut begun).await.unwrap();
    server.stop.cancel();
    let took = closed(&mut silent).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest)).await;
    read.expect("the connection is closed").unwrap();
    assert!(begun.len() + rest.len() > LARGE, "{} bytes came", rest.len());
    assert_eq!(server.ended.await.unwrap(), 0);
}

/// What begins a connection of HTTP/2 is no request of one of HTTP/1.1.
#[tokio::test]
async fn a_connection_stays_with_the_version_that_it_began_with() {
    let server = running(|_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/").await;
    tokio::time::sleep(PARKED).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is closed");
    assert!(!answer.starts_with(&[0, 0]), "no settings: {answer:?}");
}
