//! How much clients of HTTP/2 may send before anybody has read of it.

use std::net::SocketAddr;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use valerix_kit::server::serve;
use valerix_kit::testing::{eventually, service_args};

/// The setting of the window that each request has.
const INITIAL_WINDOW: [u8; 2] = [0, 4];

/// A connection, and what it may send of each upload.
async fn connect(address: SocketAddr) -> (TcpStream, u32) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    stream.write_all(&hello).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!((head[3], head[4]), (4, 0), "settings come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.unwrap();
    let mut settings = settings.chunks(6);
    let window = settings.find(|setting| setting[..2] == INITIAL_WINDOW).unwrap();
    (stream, u32::from_be_bytes(window[2..].try_into().unwrap()))
}

#[tokio::test]
async fn only_so_many_connections_may_send_much_before_it_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut limits = service_args("test").limits();
    limits.wide = 1;
    tokio::spawn(serve(listener, Router::new(), limits, CancellationToken::new()));
    let (first, wide) = connect(address).await;
    assert_eq!(wide, 64 * 1024);
    assert_eq!(connect(address).await.1, 16 * 1024);
    drop(first);
    eventually("its place is another's", || async {
        (connect(address).await.1 == wide).then_some(())
    })
    .await;
}
