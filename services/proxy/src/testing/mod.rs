//! For tests of who stands on this crate: what peers that mean harm send, and a service that tells what came through. A
//! gateway and a guard are judged by the same rows.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that does not hold has to fail loudly"
)]

mod floods;
mod frames;
mod frugal;
mod grpc;
mod h2spec;
mod oddities;
mod pseudo_headers;
mod recorder;
mod slow;
mod smuggling;
mod unread;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use self::floods::floods_end_their_connection_and_no_other;
pub use self::frugal::{ask_for_a_kilobyte, kilobytes};
pub use self::grpc::{ECHO, calls_of_every_kind_pass, grpc_echo};
pub use self::h2spec::{OTHER_BEGINNING, keeps_to_the_standard_of_http2};
pub use self::pseudo_headers::heads_of_http2_are_read_in_one_way;
pub use self::recorder::{Recorder, Seen};
pub use self::slow::{slow_clients_are_let_go_of, who_waits_to_send_is_told_to};
pub use self::smuggling::no_request_hides_in_another;
pub use self::unread::who_reads_nothing_asks;

/// More than anything in a test takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Who is at the edge, and decides by paths.
    Edge,
    /// Who stands beside an application that has its own ways with paths.
    Guard,
}

/// What comes back for these bytes until the connection ends.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the hop listens");
    // Who refuses may close before all was written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(read.is_ok(), "the connection stays open after: {text}");
    text
}
