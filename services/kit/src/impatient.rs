//! Clients that ask and take nothing of the answer, or that connect and ask nothing: what they hold is let go of after a
//! while.
//!
//! [`Impatient`] sees it of a connection as a whole, [`Deliveries`] of one request among those of a connection of HTTP/2, whose
//! client may take all other answers. What HTTP/1.1 needs beside the first is in hyper.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::frames::Frames;

/// A connection that breaks when for a while nothing can be written to it, or when it is flooded, with the place that it
/// occupies.
pub(crate) struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Runs while nothing is taken.
    idle: Option<Pin<Box<Sleep>>>,
    frames: Frames,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Impatient<S> {
    pub(crate) const fn new(stream: S, patience: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            patience,
            idle: None,
            frames: Frames::new(),
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
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let counted = this.frames.read(read, Instant::now);
        Poll::Ready(counted.map_err(|flood| io::Error::new(io::ErrorKind::InvalidData, flood)))
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

/// The answers of one connection of HTTP/2 that are under way. Clones are one.
#[derive(Clone)]
pub(crate) struct Deliveries(Arc<Mutex<State>>);

struct State {
    /// Since when each of them waits for its client.
    waiting: Vec<Since>,
    /// Requests that are being answered.
    requests: usize,
    /// When the last one ended.
    quiet: Instant,
    /// Whether it is a connection of HTTP/1.1 after all.
    http1: bool,
}

/// Since when a body waits to be asked for more; none while it is the body that is waited for.
type Since = Arc<Mutex<Option<Instant>>>;

impl Default for Deliveries {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            waiting: Vec::new(),
            requests: 0,
            quiet: Instant::now(),
            http1: false,
        })))
    }
}

impl Deliveries {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request came; none where it did so by HTTP/1.1.
    pub(crate) fn begin(&self, version: Version) -> Option<Delivery> {
        let mut state = self.state();
        if version != Version::HTTP_2 {
            state.http1 = true;
            return None;
        }
        state.requests += 1;
        drop(state);
        Some(Delivery(self.clone()))
    }

    /// Returns once one of the answers has waited for so long for its client.
    pub(crate) async fn untaken_for(&self, patience: Duration) {
        loop {
            let end = self.oldest().unwrap_or_else(Instant::now) + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// Returns once nothing has been asked for so long and nothing is under way.
    pub(crate) async fn idle_for(&self, patience: Duration) {
        loop {
            let end = {
                let state = self.state();
                if state.http1 {
                    None
                } else {
                    let since = if state.requests == 0 {
                        state.quiet
                    } else {
                        Instant::now()
                    };
                    Some(since + patience)
                }
            };
            match end {
                Some(end) if end <= Instant::now() => return,
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let state = self.state();
        let since = state.waiting.iter().filter(|answer| Arc::strong_count(answer) > 1);
        since
            .filter_map(|since| *since.lock().unwrap_or_else(PoisonError::into_inner))
            .min()
    }
}

/// A request that is being answered.
pub(crate) struct Delivery(Deliveries);

impl Delivery {
    /// Watches over the body of the answer.
    pub(crate) fn watch<B>(self, body: B) -> Watched<B> {
        let since = Since::new(Mutex::new(Some(Instant::now())));
        let mut state = self.0.state();
        // Those that have ended are nobody else's any more.
        state.waiting.retain(|answer| Arc::strong_count(answer) > 1);
        state.waiting.push(Arc::clone(&since));
        drop(state);
        Watched {
            body,
            since,
            _answering: self,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.quiet = Instant::now();
    }
}

/// The body of an answer that is watched over.
pub(crate) struct Watched<B> {
    body: B,
    since: Since,
    _answering: Delivery,
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
