//! A request's body on its way in: cut off when it stands still, and read to its end although nobody wants the rest.
//!
//! A handler that refuses a body gives it up half-read. Closing the connection then resets it: a client or proxy that
//! is still writing sees a broken pipe and never the refusal that was sent. So what is left is read and thrown away
//! beside the answer, within bounds of bytes and time; only who sends more or slower than that is cut off.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::Buf;
use futures::future::poll_fn;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// The largest body that a service reads, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;
/// The most that is read of a body that nobody wants: what a body may have, and as much again several times over.
const MOST_BYTES: u64 = 8 * MAX_BODY as u64;
/// The longest that it is read for.
const MOST_TIME: Duration = Duration::from_secs(5);
/// What a body must bring, in bytes, in the time for which it may stand still: a byte now and then is no progress.
const LEAST_BYTES: u64 = 1024;

/// The body stood still for too long, or as good as.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the body: next to nothing came for {} ms", .0.as_millis())]
pub(crate) struct Stalled(Duration);

/// A body that is drained when it is dropped before its end.
pub(crate) struct RequestBody<B: Body + Send + Unpin + 'static> {
    /// None once it has ended.
    body: Option<B>,
    patience: Duration,
    /// Runs while nothing comes.
    idle: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long it was waited for, and the bytes that came meanwhile, since there was progress.
    waited: Duration,
    came: u64,
    /// The client sends nothing until somebody reads (`Expect: 100-continue`).
    unasked: bool,
}

impl<B: Body + Send + Unpin + 'static> RequestBody<B> {
    /// `body`, which may stand still for `patience`; `asks_first` when the client waits to be told to send it.
    pub(crate) fn new(body: B, patience: Duration, asks_first: bool) -> Self {
        Self {
            body: Some(body),
            patience,
            idle: None,
            waited: Duration::ZERO,
            came: 0,
            unasked: asks_first,
        }
    }
}

impl<B: Body + Send + Unpin + 'static> Body for RequestBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        this.unasked = false;
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                // Only time in which somebody waited for the client counts, not that in which nobody read.
                this.waited += this.idle.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
                this.came += frame.data_ref().map_or(0, Buf::remaining) as u64;
                if this.came >= LEAST_BYTES {
                    (this.waited, this.came) = (Duration::ZERO, 0);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => {
                this.body = None;
                Poll::Ready(end.map(|end| end.map_err(Into::into)))
            }
            Poll::Pending => {
                let patience = this.patience;
                let left = patience.saturating_sub(this.waited);
                let begin = || (Instant::now(), Box::pin(tokio::time::sleep(left)));
                let (_, idle) = this.idle.get_or_insert_with(begin);
                if idle.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                // Given up without being drained: the connection closes with the answer.
                this.body = None;
                Poll::Ready(Some(Err(Stalled(patience).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for RequestBody<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // One that says beforehand that it is longer than what is read of it needs no reading at all, and one that waits
        // to be asked for would only be asked by being read.
        if self.unasked || body.size_hint().lower() > MOST_BYTES {
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
