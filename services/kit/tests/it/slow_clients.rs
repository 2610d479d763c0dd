//! Clients that send slowly, too much, or nothing at all.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use valerix_kit::service::Service;
use valerix_kit::testing::{eventually, service_args};

use crate::app::{App, app, spawn, write_document};

/// Writes a request with a body of `sent` bytes, announced as `length`, before it reads anything; returns the answer, or
/// why there is none.
async fn write_then_read(app: &App, path: &str, length: usize, sent: usize) -> std::io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    // Small, so that what the server leaves unread is felt by who writes it.
    socket.set_send_buffer_size(16 * 1024)?;
    let mut stream = socket.connect(app.address).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let piece = vec![b' '; 64 * 1024];
    let mut left = sent;
    while left > 0 {
        let size = left.min(piece.len());
        stream.write_all(&piece[..size]).await?;
        left -= size;
    }
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn who_writes_everything_before_reading_gets_the_refusal() {
    let app = app().await;
    for (path, status) in [("/things", "413"), ("/nothing", "404"), ("/things/7", "405")] {
        for size in [2 * MIB, 7 * MIB] {
            let answer = write_then_read(&app, path, size, size).await;
            let answer = answer.unwrap_or_else(|error| panic!("{path}, {size} bytes: {error}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer:?}");
            assert!(answer.contains("application/problem+json"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_nobody_wants_is_read_within_bounds() {
    let app = app().await;
    // Longer than is read: cut off, and the sooner the better.
    let endless = write_then_read(&app, "/things", 1_000 * MIB, 1_000 * MIB);
    let cut = tokio::time::timeout(Duration::from_secs(10), endless).await.unwrap();
    assert!(cut.is_err(), "{cut:?}");
    // Announced and never sent: answered at once, and closed after a while.
    let begun = Instant::now();
    let answer = write_then_read(&app, "/nothing", 2 * MIB, 10).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "the answer did not wait for the rest"
    );
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_cut_off() {
    let mut args = service_args("test");
    args.header_read_timeout = Duration::from_millis(300);
    let service = Service::new(&args).await.unwrap();
    let app = spawn(args, service).await;
    for sent in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the connection that sent {sent:?} is still open");
        assert!(
            begun.elapsed() >= Duration::from_millis(250),
            "{sent:?} was cut too early"
        );
    }
}

/// A connection that has sent the head of a request whose body is `length` bytes long.
async fn announced(app: &App, length: usize, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// What comes until the server closes the connection.
async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut_off() {
    let mut args = service_args("test");
    args.body_read_timeout = Duration::from_millis(200);
    let service = Service::new(&args).await.unwrap();
    let app = spawn(args, service).await;
    let mut stream = announced(&app, 1000, "").await;
    stream.write_all(b"{").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    assert!(answer.contains("problems/body-too-slow"), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_trickles_ends_with_the_request_s_time_and_holds_up_no_drain() {
    let args = service_args("test");
    let policy = json!({"version": 1, "inbound": {"timeout": "600ms"}});
    write_document(&args.policy_dir, "policy.v1.json", &policy);
    let service = Service::new(&args).await.unwrap();
    let handlers = service.resilience.clone();
    let app = spawn(args, service).await;
    let (mut reader, mut writer) = announced(&app, MIB, "").await.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = read_to_end(&mut reader).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    trickle.await.unwrap();
    eventually("no handler is left", || async {
        handlers.tasks().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn bodies_that_are_never_finished_take_no_more_than_their_room_and_hold_nobody_up() {
    let app = app().await;
    let things = format!("{}/things", app.base);
    let piece = vec![b' '; MIB - 1];
    let mut slow = vec![];
    // More than find room, whoever comes first: none of them ends by itself.
    for _ in 0..70 {
        let mut stream = announced(&app, MIB, "Connection: close\r\n").await;
        // One that is refused is closed before all is written.
        let _ = stream.write_all(&piece).await;
        slow.push(stream);
    }
    let answers = slow.iter_mut().map(|stream| Box::pin(read_to_end(stream)));
    let (refused, ..) = futures::future::select_all(answers).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused:?}");
    assert!(refused.contains("problems/too-many-bodies"), "{refused:?}");
    assert!(refused.contains("retry-after: 1"), "{refused:?}");
    let small = app.client.post(&things).json(&json!({"count": 1}));
    assert_eq!(small.send().await.unwrap().status(), 200);
    drop(slow);
    eventually("there is room again", || async {
        let mut body = vec![b' '; MIB - 12];
        body.extend_from_slice(b"{\"count\": 1}");
        let large = app.client.post(&things).header("content-type", "application/json");
        let answer = large.body(body).send().await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() {
    let app = app().await;
    for (length, fields) in [
        (2 * MIB, "Expect: 100-continue\r\n"),
        (10_000 * MIB, "Expect: 100-continue\r\n"),
        (10_000 * MIB, ""),
    ] {
        let mut stream = announced(&app, length, fields).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{length} {fields}: {answer:?}");
    }
    // One that is small enough is asked for.
    let mut stream = announced(&app, 12, "Expect: 100-continue\r\n").await;
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{\"count\": 1}").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let app = app().await;
    for (hosts, status) in [("", "400"), ("Host: a\r\nHost: b\r\n", "400"), ("Host: a\r\n", "200")] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let request = format!("GET /health HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{hosts:?}: {answer:?}"
        );
    }
}
