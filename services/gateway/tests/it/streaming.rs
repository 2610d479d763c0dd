//! Bodies on their way: large, slow, broken off, with something after them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::support::{Gateway, PATIENCE, Setup, raw, read_head};

/// Bytes of a large body: many times what may be held of it.
const LARGE: u64 = 256 * 1024 * 1024;
const MAY_BE_HELD: u64 = 48 * 1024 * 1024;

/// In front of a service that reads a head and then does as `script` says.
async fn in_front_of<F>(script: impl Fn(tokio::net::TcpStream) -> F + Clone + Send + Sync + 'static) -> Gateway
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = raw(move |mut stream| {
        let script = script.clone();
        async move {
            read_head(&mut stream).await;
            script(stream).await;
        }
    })
    .await;
    Setup::new()
        .target("order", address)
        .large_bodies("order")
        .start()
        .await
}

/// Reads to the end; the bytes that came.
async fn drain(stream: &mut (impl AsyncReadExt + Unpin)) -> u64 {
    tokio::io::copy(stream, &mut tokio::io::sink()).await.unwrap()
}

#[tokio::test]
async fn who_does_not_read_holds_back_who_sends() {
    let (sent, mut told) = mpsc::unbounded_channel();
    let gateway = in_front_of(move |mut stream| {
        let sent = sent.clone();
        async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let part = vec![7; 64 * 1024];
            let mut total = 0_u64;
            while stream.write_all(&part).await.is_ok() {
                total += part.len() as u64;
                let _ = sent.send(total);
            }
        }
    })
    .await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET /large HTTP/1.1\r\nHost: shop\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut client).await;
    // Until the sender gets no further.
    let mut total = 0;
    while let Ok(Some(more)) = tokio::time::timeout(Duration::from_millis(500), told.recv()).await {
        total = more;
    }
    assert!((1..MAY_BE_HELD).contains(&total), "{total} bytes were sent to nobody");
    // And on, once somebody reads again.
    let mut rest = vec![0; 32 * 1024 * 1024];
    client.read_exact(&mut rest).await.unwrap();
    assert!(told.recv().await.unwrap() > total);
}

#[tokio::test]
async fn each_part_of_an_answer_passes_as_it_comes() {
    let (go, wait) = mpsc::channel::<()>(1);
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let gateway = in_front_of(move |mut stream| {
        let wait = std::sync::Arc::clone(&wait);
        async move {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
            stream.write_all(head).await.unwrap();
            wait.lock().await.recv().await;
            stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let mut answer = reqwest::get(format!("{}/slow", gateway.server.base)).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "one");
    go.send(()).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "two");
    assert_eq!(answer.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut_and_a_stream_of_events_is_not() {
    let gateway = in_front_of(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(head).await.unwrap();
        drain(&mut stream).await;
    })
    .await;
    let begun = Instant::now();
    let answer = reqwest::get(format!("{}/still", gateway.server.base)).await.unwrap();
    let body = tokio::time::timeout(PATIENCE, answer.text()).await;
    assert!(body.expect("the body is cut").is_err(), "the body breaks off");
    assert!(
        (Duration::from_secs(1)..PATIENCE).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );

    let gateway = in_front_of(|mut stream| async move {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(head).await.unwrap();
        // Longer than any other body may stand still.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    let answer = reqwest::get(format!("{}/events", gateway.server.base)).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "onetwo");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let gateway = in_front_of(|mut stream| async move {
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut body).await.unwrap();
        }
        let body = String::from_utf8(body).unwrap().replace("\r\n", "|");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nX-Body: {body}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let answer = gateway
        .exchange(
            b"POST /trailers HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: close, TE\r\nTrailer: x-check\r\n\
              Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-check: 9\r\n\r\n",
        )
        .await;
    assert!(answer.contains("x-body: 5|hello|0|x-check: 9||"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_too_long_or_breaks_off_is_nobodys_failure_but_the_clients() {
    let gateway = in_front_of(|mut stream| async move {
        drain(&mut stream).await;
    })
    .await;
    for _ in 0..4 {
        let chunk = "A".repeat(70_000);
        let answer = gateway
            .exchange(
                format!(
                    "POST /short HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
                    chunk.len()
                )
                .as_bytes(),
            )
            .await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("body-too-large"), "{answer}");
        // Broken off in the middle.
        let mut client = gateway.connect().await;
        let part = b"POST /large HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nhello";
        client.write_all(part).await.unwrap();
        drop(client);
    }
    let report = reqwest::get(format!("{}/resilience", gateway.server.report))
        .await
        .unwrap();
    let report: serde_json::Value = report.json().await.unwrap();
    let breakers = report["circuitBreakers"].as_array().unwrap();
    let order = breakers.iter().find(|breaker| breaker["target"] == "order").unwrap();
    assert_eq!(order["state"], "Closed", "{report}");
}
