//! A client and a service that take no memory for a request: what is taken is taken by who stands between them.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of each answer's body.
const BODY: usize = 1_024;

/// A service that answers a kilobyte to whatever has no body, until the test's runtime ends.
///
/// # Panics
/// When there is no free port.
pub async fn kilobytes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port has an address");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n");
    let answer: Arc<[u8]> = [head.into_bytes(), vec![b'x'; BODY]].concat().into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                while read(&mut stream, 0).await.is_some() {
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Sends a request without a body, again and again, to who passes it on to such a service: on behalf of each, memory is asked
/// for at `most` times. `taken` tells how often it was until now.
///
/// # Panics
/// When it is asked for more often.
pub async fn memory_is_asked_for(most: usize, stream: &mut TcpStream, request: &[u8], taken: impl Fn() -> usize) {
    const REQUESTS: usize = 1_000;
    let mut times = 0;
    // The first time opens connections and whatever else is kept.
    for _ in 0..2 {
        let before = taken();
        for _ in 0..REQUESTS {
            ask_for_a_kilobyte(stream, request).await;
        }
        times = taken() - before;
    }
    let each = times / REQUESTS;
    eprintln!("{times} times for {REQUESTS} requests");
    assert!(
        each <= most,
        "memory is asked for {each} times for a request, which is more than {most}"
    );
}

async fn ask_for_a_kilobyte(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.expect("the hop reads");
    let good = read(stream, BODY).await;
    assert_eq!(good, Some(true), "an answer with status 200");
}

/// Reads a head and as many bytes behind it, and says whether it is one of success; none where the connection has ended.
async fn read(stream: &mut TcpStream, body: usize) -> Option<bool> {
    let (mut bytes, mut come) = ([0; 4_096], 0);
    loop {
        let more = stream.read(bytes.get_mut(come..)?).await.ok()?;
        come += more;
        let seen = bytes.get(..come).filter(|_| more > 0)?;
        let end = seen.windows(4).position(|four| four == b"\r\n\r\n");
        if end.is_some_and(|end| come >= end + 4 + body) {
            return Some(seen.starts_with(b"HTTP/1.1 200"));
        }
    }
}
