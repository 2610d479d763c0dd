//! A client of HTTP/2 that asks for much, has room for all of it, and reads nothing.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, block, frame};

/// The most that a window can be.
const ALL: u32 = 0x7fff_ffff;
/// What it is at the beginning of a connection.
const AT_FIRST: u32 = 65_535;
/// The setting of the window that each request has.
const INITIAL_WINDOW: [u8; 2] = [0, 4];

/// Asks so many times for `path` by one connection. What comes stays where it is as long as the connection is held.
///
/// # Panics
/// When nobody listens.
pub async fn who_reads_nothing_asks(address: SocketAddr, path: &str, requests: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    // What the kernel holds is not what is meant.
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("the hop listens");
    let settings = [&INITIAL_WINDOW[..], &ALL.to_be_bytes()].concat();
    let window = frame(WINDOW_UPDATE, 0, 0, &(ALL - AT_FIRST).to_be_bytes());
    let mut asked = [PREFACE, &frame(SETTINGS, 0, 0, &settings), &window].concat();
    let head = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "shop"),
        (":path", path),
    ];
    for number in 0..requests {
        asked.extend(frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &block(&head)));
    }
    stream.write_all(&asked).await.expect("a new connection takes bytes");
    stream
}
