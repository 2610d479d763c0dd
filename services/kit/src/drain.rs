//! A request's body that is read to its end although nobody wants the rest.
//!
//! A handler that refuses a body gives it up half-read. Closing the connection then resets it: a client or proxy that
//! is still writing sees a broken pipe and never the refusal that was sent. So what is left is read and thrown away
//! beside the answer, within bounds of bytes and time; only who sends more or slower than that is cut off.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use futures::future::poll_fn;
use http_body::{Body, Frame, SizeHint};

/// The most that is read of a body that nobody wants: what a body may have, and as much again several times over.
const MOST_BYTES: u64 = 8 * crate::http_layers::MAX_BODY as u64;
/// The longest that it is read for.
const MOST_TIME: Duration = Duration::from_secs(5);

/// A body that is drained when it is dropped before its end.
pub(crate) struct Drained<B: Body + Send + Unpin + 'static>(Option<B>);

impl<B: Body + Send + Unpin + 'static> Drained<B> {
    pub(crate) fn new(body: B) -> Self {
        Self(Some(body))
    }
}

impl<B: Body + Send + Unpin + 'static> Body for Drained<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for Drained<B> {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // One that says beforehand that it is longer than what is read of it needs no reading at all.
        if body.size_hint().lower() > MOST_BYTES {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(MOST_TIME, drain(body)));
        }
    }
}

async fn drain<B: Body + Send + Unpin>(mut body: B) {
    let mut left = MOST_BYTES;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let read = frame.data_ref().map_or(0, Buf::remaining) as u64;
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
