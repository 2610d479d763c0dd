//! Clients that ask and take nothing of the answer: what they hold is let go of after a while.
//!
//! [`Impatient`] sees it of a connection as a whole, [`Untaken`] of one request among those of a connection of HTTP/2, whose
//! client may take all other answers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// A connection that breaks when for a while nothing can be written to it, with the place that it occupies.
pub(crate) struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Runs while nothing is taken.
    idle: Option<Pin<Box<Sleep>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Impatient<S> {
    pub(crate) const fn new(stream: S, patience: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            patience,
            idle: None,
            _place: place,
        }
    }

    /// `written`, or an error where that has been pending for too long.
    fn taken<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.idle = None;
            return written;
        }
        let patience = self.patience;
        let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(idle.as_mut().poll(context));
        let cause = format!("the client took nothing for {} ms", patience.as_millis());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, cause)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.taken(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.taken(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.taken(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.taken(context, closed)
    }
}

/// Since when the answers of one connection wait for their client, each of them.
#[derive(Clone, Default)]
pub(crate) struct Untaken(Arc<Mutex<Vec<Since>>>);

/// Since when a body waits to be asked for more; none while it is the body that is waited for.
type Since = Arc<Mutex<Option<Instant>>>;

impl Untaken {
    /// Watches over the body of an answer.
    pub(crate) fn watch<B>(&self, body: B) -> Watched<B> {
        let since = Since::new(Mutex::new(Some(Instant::now())));
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are nobody else's any more.
        answers.retain(|answer| Arc::strong_count(answer) > 1);
        answers.push(Arc::clone(&since));
        Watched { body, since }
    }

    /// Returns once one of the answers has waited for so long.
    pub(crate) async fn for_longer_than(&self, patience: Duration) {
        loop {
            let oldest = self.oldest().unwrap_or_else(Instant::now);
            let end = oldest + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = answers.iter().filter(|answer| Arc::strong_count(answer) > 1);
        since
            .filter_map(|since| *since.lock().unwrap_or_else(PoisonError::into_inner))
            .min()
    }
}

/// The body of an answer that is watched over.
pub(crate) struct Watched<B> {
    body: B,
    since: Since,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let since = frame.is_ready().then(Instant::now);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
