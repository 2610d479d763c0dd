//! What clients can make the guard hold, all of them together. In: the memory that its container may use. Out: bounds of
//! connections, of requests at a time, and of bytes, under which it stays below that whatever they do.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use valerix_kit::server::CONNECTION_WINDOW;

/// What the guard occupies without any client. Unit: bytes.
const AT_REST: u64 = 16 * 1024 * 1024;
/// What a connection occupies, with the one to the application and what both have read ahead. Unit: bytes.
const OF_EACH: u64 = 96 * 1024;
/// Enough for a container of which nobody says what it may use. Unit: bytes.
const UNTOLD: u64 = 1024 * 1024 * 1024;
/// No container is so small that it has less.
const FEWEST: u64 = 64;
/// A keyed request, and half of the answers that are kept, fit in this. Unit: bytes.
const LEAST: u64 = 1024 * 1024;

/// What may be held at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of all inbound ports together.
    pub connections: usize,
    /// Requests that came by HTTP/2, of which a connection may bring many.
    pub requests: usize,
    /// Bytes of answers that their clients have not taken.
    pub unsent: usize,
    /// Bytes of requests with keys, which are read as a whole.
    pub keyed: usize,
    /// Bytes of answers that are kept in memory.
    pub kept: usize,
    /// Connections of HTTP/2 of all inbound ports together that may send as much as others of uploads before the application
    /// has read of them.
    pub wide: usize,
}

impl Bounds {
    /// Those of a container that may use `limit` bytes; `most` is what is allowed of connections in any case.
    #[must_use]
    pub fn within(limit: Option<u64>, most: usize) -> Self {
        let spare = limit.unwrap_or(UNTOLD).saturating_sub(AT_REST);
        let eighth = bytes((spare / 8).max(LEAST));
        let wide = eighth / CONNECTION_WINDOW as usize;
        let places = bytes((spare / OF_EACH).max(FEWEST));
        Self {
            connections: places.min(most),
            requests: places,
            unsent: eighth,
            keyed: eighth,
            kept: eighth.min(8 * 1024 * 1024),
            wide,
        }
    }
}

fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The bytes of all answers that connections have and that were not sent yet. Clones are one.
#[derive(Clone)]
pub struct Unsent(Arc<All>);

struct All {
    held: AtomicUsize,
    most: usize,
}

/// The bytes of one answer.
#[derive(Default)]
struct Own {
    held: AtomicUsize,
    waits: AtomicWaker,
}

impl Unsent {
    /// At most so many bytes, and one piece of each answer.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        let held = AtomicUsize::new(0);
        Self(Arc::new(All { held, most }))
    }

    /// The body of an answer, of which no more is read than there is room for. Where there is none each answer still gets
    /// on by one piece at a time: who does not read keeps nobody waiting who does.
    pub fn bound<B>(&self, body: B) -> Bounded<B> {
        Bounded {
            body,
            all: Arc::clone(&self.0),
            own: None,
        }
    }
}

/// The body of an answer; see [`Unsent::bound`].
pub struct Bounded<B> {
    body: B,
    all: Arc<All>,
    /// None as long as nothing was counted: most answers are one piece.
    own: Option<Arc<Own>>,
}

impl<B> Bounded<B> {
    fn has_to_wait(&self, context: &Context<'_>) -> bool {
        let full =
            |own: &Own| own.held.load(Ordering::Acquire) > 0 && self.all.held.load(Ordering::Relaxed) >= self.all.most;
        self.own.as_ref().is_some_and(|own| {
            full(own) && {
                own.waits.register(context.waker());
                // It may have been sent meanwhile.
                full(own)
            }
        })
    }

    fn count(&mut self, bytes: Bytes) -> Bytes {
        let own = Arc::clone(self.own.get_or_insert_default());
        own.held.fetch_add(bytes.len(), Ordering::AcqRel);
        self.all.held.fetch_add(bytes.len(), Ordering::Relaxed);
        let all = Arc::clone(&self.all);
        Bytes::from_owner(Piece { bytes, own, all })
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.has_to_wait(context) {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // After the last one there is nothing to hold back.
        if self.body.is_end_stream() {
            return Poll::Ready(frame);
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.count(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that a connection has, until it lets go of them.
struct Piece {
    bytes: Bytes,
    own: Arc<Own>,
    all: Arc<All>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.all.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        let before = self.own.held.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        if before == self.bytes.len() {
            self.own.waits.wake();
        }
    }
}

/// The body of an answer, with the place of its request.
pub struct Placed<B> {
    body: B,
    _place: OwnedSemaphorePermit,
}

impl<B> Placed<B> {
    /// Gives the place back with the end of the body.
    pub const fn new(body: B, place: OwnedSemaphorePermit) -> Self {
        Self { body, _place: place }
    }
}

impl<B: Body + Unpin> Body for Placed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use futures::stream;
    use http_body_util::StreamBody;
    use valerix_kit::server::NARROW_STREAM_WINDOW;

    use super::*;

    #[test]
    fn what_clients_can_hold_fits_in_the_container() {
        const MIB: u64 = 1024 * 1024;
        for limit in [32, 64, 128, 1024] {
            let Bounds {
                connections,
                requests: _,
                unsent,
                keyed,
                kept,
                wide,
            } = Bounds::within(Some(limit * MIB), 1_000_000);
            // Half of what each connection may occupy is what it has read ahead, whichever version of HTTP it speaks.
            let uploads = wide as u64 * u64::from(CONNECTION_WINDOW);
            let narrow = connections as u64 * u64::from(NARROW_STREAM_WINDOW);
            assert!(narrow <= connections as u64 * OF_EACH / 4, "{narrow} bytes");
            let held = AT_REST + connections as u64 * OF_EACH / 2 + (unsent + keyed + kept) as u64 + uploads;
            assert!(held <= limit * MIB, "{held} bytes of {limit} MiB");
        }
        let places = |limit, most| {
            let bounds = Bounds::within(limit, most);
            (bounds.connections, bounds.requests)
        };
        assert_eq!(places(Some(64 * MIB), 10_000), (512, 512));
        assert_eq!(places(Some(64 * MIB), 100), (100, 512), "what is allowed counts");
        assert_eq!(places(None, 10_000), (10_000, 10_752));
        let tiny = Bounds::within(Some(1), 10_000);
        assert_eq!((tiny.connections, tiny.keyed), (64, 1024 * 1024));
    }

    #[test]
    fn while_there_is_no_room_each_answer_has_one_piece_under_way() {
        let all = Unsent::at_most(10);
        let answer = || {
            let pieces = (0..4).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[7; 8]))));
            all.bound(StreamBody::new(stream::iter(pieces)))
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut next = |answer: &mut Bounded<_>| match Pin::new(answer).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        };
        let (mut one, mut other) = (answer(), answer());
        let held = [next(&mut one), next(&mut one)];
        assert!(held.iter().all(Option::is_some));
        assert_eq!(next(&mut one), None, "it has its share");
        let first = next(&mut other);
        assert!(first.is_some(), "each gets on");
        assert_eq!(next(&mut other), None);
        drop(first);
        assert!(next(&mut other).is_some(), "what it had is sent");
        drop(held);
        assert!(next(&mut one).is_some());
        assert_eq!(all.0.held.load(Ordering::Relaxed), 0);
    }
}
