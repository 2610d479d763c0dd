//! Clients that send a little now and then, and clients that wait to be told to send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::recorder::Recorder;
use super::{PATIENCE, exchange};

/// Slow clients at a time.
const CLIENTS: usize = 50;

/// How a slow client goes on after its first bytes: what it sends again and again, if anything.
type Slow = (&'static str, &'static str, Option<&'static str>);

const SLOW: [Slow; 5] = [
    ("nothing at all", "", None),
    (
        "a head, byte by byte",
        "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\nX-A: ",
        Some("a"),
    ),
    (
        "a head, line by line",
        "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\n",
        Some("X-A: a\r\n"),
    ),
    ("half a head", "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\n", None),
    (
        "half a body",
        "POST /api/orders/a HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nhello",
        None,
    ),
];

/// Asks the hop at `address` slowly, many at once: they are let go of, though no sooner than after `patience`, which the hop
/// has for heads and bodies alike, and others are served meanwhile.
///
/// # Panics
/// When one stays, or others are not served.
pub async fn slow_clients_are_let_go_of(address: SocketAddr, patience: Duration) {
    for (name, first, again) in SLOW {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(async move {
                let began = Instant::now();
                let mut stream = TcpStream::connect(address).await.expect("the hop listens");
                stream
                    .write_all(first.as_bytes())
                    .await
                    .expect("a new connection takes bytes");
                let (mut read, mut write) = stream.split();
                let trickle = async {
                    while let Some(again) = again {
                        tokio::time::sleep(patience / 10).await;
                        if write.write_all(again.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                let mut heard = Vec::new();
                tokio::select! {
                    () = trickle => {}
                    _ = read.read_to_end(&mut heard) => {}
                }
                began.elapsed()
            });
        }
        let other = "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
        let answer = exchange(address, other.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        let ended = tokio::time::timeout(PATIENCE, clients.join_all()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{name}: a client stays"));
        let soonest = ended.into_iter().min().unwrap_or_default();
        assert!(soonest >= patience * 9 / 10, "{name}: let go of after {soonest:?}");
    }
}

/// A client that waits to be told to send its body is told so, and whoever is behind hears nothing of that.
///
/// # Panics
/// When it is not.
pub async fn who_waits_to_send_is_told_to(address: SocketAddr, recorder: &Recorder) {
    for length in [5, 100_000] {
        recorder.forget();
        let mut stream = TcpStream::connect(address).await.expect("the hop listens");
        let head = format!(
            "POST /api/orders/a HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        stream
            .write_all(head.as_bytes())
            .await
            .expect("a new connection takes bytes");
        let mut told = [0; 25];
        let telling = tokio::time::timeout(PATIENCE, stream.read_exact(&mut told)).await;
        assert!(matches!(telling, Ok(Ok(_))), "{length}: nobody tells to go on");
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n", "{length}");
        stream
            .write_all(&vec![b'a'; length])
            .await
            .expect("the hop takes the body");
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            reading.is_ok() && answer.starts_with("HTTP/1.1 200"),
            "{length}: {answer}"
        );
        let seen = recorder.seen();
        assert!(seen.len() == 1 && seen[0].body.len() == length, "{length}: {seen:?}");
        assert!(
            !seen[0].head.to_lowercase().contains("expect"),
            "{length}: {}",
            seen[0].head
        );
    }
}
