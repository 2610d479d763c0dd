//! Frames without end. Each flood must end its connection, while others are served.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frames::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use super::{PATIENCE, exchange};

/// Frames of a flood that are written at once.
const AT_ONCE: usize = 1_000;

/// What comes before a flood, and what it is made of, by the number of the frame.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>);

fn floods() -> Vec<Flood> {
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "shop"),
        (":path", "/api/orders/a"),
    ];
    let open = frame(HEADERS, END_HEADERS, 1, &block(&head));
    let parts = frame(HEADERS, 0, 1, &block(&head));
    vec![
        ("requests taken back", Vec::new(), |number| {
            let stream = number * 2 + 1;
            // GET http / with the authority "a", as the standard's tables number them; then its end by CANCEL.
            let head = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &[0x82, 0x86, 0x84, 0x41, 1, b'a'],
            );
            [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        }),
        // Each asks for room that is too much, and so for a reset.
        ("resets that are asked for", Vec::new(), |number| {
            let stream = number * 2 + 1;
            let head = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &[0x82, 0x86, 0x84, 0x41, 1, b'a'],
            );
            [head, frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())].concat()
        }),
        ("settings", Vec::new(), |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        // A request that is under way is no excuse.
        ("settings beside a request", open.clone(), |_| {
            frame(SETTINGS, 0, 0, &[])
        }),
        ("pings", Vec::new(), |_| frame(PING, 0, 0, &[0; 8])),
        ("priorities", Vec::new(), |number| {
            frame(PRIORITY, 0, number * 2 + 1, &[0, 0, 0, 0, 1])
        }),
        ("frames that nobody knows", Vec::new(), |_| frame(99, 0, 0, &[])),
        ("pieces of nothing", open, |_| frame(DATA, 0, 1, &[])),
        ("parts of a head", parts, |_| {
            frame(CONTINUATION, 0, 1, &block(&[("x-a", "b")]))
        }),
        ("parts of nothing", frame(HEADERS, 0, 1, &block(&head)), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
    ]
}

/// Floods the hop at `address`, whose path `/api/orders/a` answers 200. Whoever floods takes what comes back, and goes on
/// until the connection breaks.
///
/// # Panics
/// When a flood is borne, or keeps others from being served.
pub async fn floods_end_their_connection_and_no_other(address: SocketAddr) {
    for (name, before, flood) in floods() {
        let Connection(stream) = Connection::open(address).await;
        let (read, mut write) = stream.into_split();
        let drained = tokio::spawn(drain(read));
        let pouring = async {
            if write.write_all(&before).await.is_err() {
                return;
            }
            let mut numbers = 0_u32..;
            loop {
                let frames: Vec<u8> = numbers.by_ref().take(AT_ONCE).flat_map(flood).collect();
                if write.write_all(&frames).await.is_err() {
                    return;
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, pouring).await;
        assert!(ended.is_ok(), "{name}: the connection stays open");
        let _ = drained.await;
        let other = "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
        let answer = exchange(address, other.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
    }
}

async fn drain(mut read: impl AsyncReadExt + Unpin) {
    let mut buffer = vec![0; 64 * 1024];
    while read.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
