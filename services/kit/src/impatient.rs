//! A connection whose client may take nothing of what it is sent only for a while, and may not flood it. It can be asked for the
//! first bytes that come before anybody reads them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, timeout_at};

use crate::activity::Activity;
use crate::frames::{Frames, PREFACE};

/// A connection that breaks when for a while nothing can be written to it, or when it is flooded, with the place that it
/// occupies.
pub(crate) struct Impatient<S> {
    stream: S,
    /// What came and nobody has read.
    before: Bytes,
    activity: Activity,
    patience: Duration,
    /// Runs while nothing is taken.
    idle: Option<Pin<Box<Sleep>>>,
    frames: Frames,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Impatient<S> {
    pub(crate) const fn new(
        stream: S,
        patience: Duration,
        place: Option<OwnedSemaphorePermit>,
        activity: Activity,
    ) -> Self {
        Self {
            stream,
            before: Bytes::new(),
            activity,
            patience,
            idle: None,
            frames: Frames::new(),
            _place: place,
        }
    }

    /// `written`, or an error where that has been pending for too long.
    fn taken<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.idle.take().is_some() {
                self.activity.waits_to_write(false);
            }
            return written;
        }
        let (patience, activity) = (self.patience, &self.activity);
        let idle = self.idle.get_or_insert_with(|| {
            activity.waits_to_write(true);
            Box::pin(tokio::time::sleep(patience))
        });
        ready!(idle.as_mut().poll(context));
        let cause = format!("the client took nothing for {} ms", patience.as_millis());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, cause)))
    }
}

impl<S: AsyncRead + Unpin> Impatient<S> {
    /// Gives back bytes that were read and not used: they come first.
    pub(crate) fn give_back(&mut self, bytes: Bytes) {
        self.before = match (bytes.is_empty(), self.before.is_empty()) {
            (true, _) => return,
            (false, true) => bytes,
            (false, false) => [bytes, std::mem::take(&mut self.before)].concat().into(),
        };
    }

    /// Waits for the first bytes, and says whether they begin a connection of HTTP/2. False where there are none. Who has sent a
    /// part of such a beginning has `patience` for the rest.
    pub(crate) async fn begins_http2(&mut self, patience: Duration) -> io::Result<bool> {
        let (mut bytes, mut come) = ([0; PREFACE.len()], 0);
        let mut end = None;
        while let Some(free @ [_, ..]) = bytes.get_mut(come..) {
            let more = match end {
                None => self.stream.read(free).await?,
                Some(end) => timeout_at(end, self.stream.read(free)).await??,
            };
            end.get_or_insert_with(|| Instant::now() + patience);
            come += more;
            if more == 0 || bytes.get(..come) != PREFACE.get(..come) {
                break;
            }
        }
        let bytes = bytes.get(..come).unwrap_or_default();
        self.before = Bytes::copy_from_slice(bytes);
        Ok(bytes == PREFACE)
    }

    /// Waits for more bytes, and says whether some came. Nothing is held meanwhile.
    pub(crate) async fn more(&mut self) -> io::Result<bool> {
        if self.before.is_empty() {
            // A few are enough: the rest is read with them.
            let mut bytes = [0; 16];
            let come = self.stream.read(&mut bytes).await?;
            self.before = Bytes::copy_from_slice(bytes.get(..come).unwrap_or_default());
        }
        Ok(!self.before.is_empty())
    }

    /// Reads what came and nobody has read, and what there is beside.
    fn read_on(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let first = self.before.split_to(self.before.remaining().min(buffer.remaining()));
        buffer.put_slice(&first);
        if self.before.is_empty() {
            // Not kept for the life of the connection.
            self.before = Bytes::new();
            if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
                read?;
            }
        }
        Poll::Ready(Ok(()))
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
        ready!(this.read_on(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        this.activity.came();
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
