//! A body of a gigabyte, each way.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{raw, read_head};

const GIGABYTE: u64 = 1024 * 1024 * 1024;

/// A service that takes a body of a gigabyte and answers with another, until the test's runtime ends.
///
/// # Panics
/// When there is no free port.
pub async fn takes_and_gives_a_gigabyte() -> SocketAddr {
    raw(|mut stream| async move {
        read_head(&mut stream).await;
        let mut sink = tokio::io::sink();
        let taken = tokio::io::copy(&mut (&mut stream).take(GIGABYTE), &mut sink).await;
        let taken = taken.expect("the body comes");
        let head = format!("HTTP/1.1 200 OK\r\nX-Taken: {taken}\r\nContent-Length: {GIGABYTE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the hop takes a head");
        pour(&mut stream).await;
    })
    .await
}

/// Sends a gigabyte to `path` by the hop at `address`, behind which is such a service, and takes one.
///
/// # Panics
/// When less comes at either end.
pub async fn a_gigabyte_passes_each_way(address: SocketAddr, path: &str) {
    let mut client = TcpStream::connect(address).await.expect("the hop listens");
    let head = format!("POST {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {GIGABYTE}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("the hop takes a head");
    pour(&mut client).await;
    let head = read_head(&mut client).await.to_lowercase();
    assert!(head.contains(&format!("x-taken: {GIGABYTE}\r\n")), "{head}");
    let came = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    assert_eq!(came.expect("the answer comes"), GIGABYTE);
}

/// Writes as much as a body has, fast.
async fn pour(stream: &mut TcpStream) {
    let piece = vec![7; 1024 * 1024];
    for _ in 0..GIGABYTE / piece.len() as u64 {
        stream.write_all(&piece).await.expect("the body is taken");
    }
}
