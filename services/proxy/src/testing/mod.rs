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
mod large;
mod oddities;
mod peers;
mod pseudo_headers;
mod recorder;
mod slow;
mod smuggling;
mod unread;

use std::time::Duration;

pub use self::floods::floods_end_their_connection_and_no_other;
pub use self::frugal::{kilobytes, memory_is_asked_for};
pub use self::grpc::{ECHO, calls_of_every_kind_pass, grpc_echo};
pub use self::h2spec::{OTHER_BEGINNING, keeps_to_the_standard_of_http2};
pub use self::large::{a_gigabyte_passes_each_way, takes_and_gives_a_gigabyte};
pub use self::peers::{exchange, most_resident, raw, read_head, resident};
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
