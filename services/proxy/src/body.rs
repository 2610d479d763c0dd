//! Bodies on their way through: watched over, never gathered, but for the small ones of requests that may be sent again.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::Notify;
use tokio::time::Sleep;
use valerix_resilience::RequestBodyError;

use crate::BoxError;

/// The largest body of a request, in bytes, that is kept so that the request can be sent again. A longer one, or one that
/// does not say how long it is, is streamed and sent once.
pub const REPLAYED_BYTES: u64 = 16 * 1024;

/// A body as the connection takes it.
pub(crate) type WireBody = UnsyncBoxBody<Bytes, BoxError>;

/// What a request carries through its attempts.
#[derive(Clone)]
pub(crate) enum Replay {
    /// Here as a whole.
    Kept(Bytes, Option<HeaderMap>),
    /// Taken by the attempt that sends it.
    Once(Arc<Mutex<Option<WireBody>>>),
}

impl Replay {
    pub(crate) fn once(body: WireBody) -> Self {
        Self::Once(Arc::new(Mutex::new(Some(body))))
    }

    /// The body for one attempt; none where another has taken it.
    pub(crate) fn open(&self) -> Option<WireBody> {
        match self {
            // What most requests have: it takes no memory.
            Self::Kept(bytes, None) if bytes.is_empty() => {
                Some(Empty::new().map_err(|never| match never {}).boxed_unsync())
            }
            Self::Kept(bytes, trailers) => {
                let body = Full::new(bytes.clone()).map_err(|never| match never {});
                Some(match trailers.clone() {
                    Some(trailers) => body
                        .with_trailers(std::future::ready(Some(Ok(trailers))))
                        .boxed_unsync(),
                    None => body.boxed_unsync(),
                })
            }
            Self::Once(body) => body.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }
}

/// Why a request with a body has no answer, as far as the target's policy does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UploadFailure {
    /// It has more bytes than the route allows.
    TooLarge,
    /// The client broke it off, or sent nothing for too long.
    Broken(String),
    /// It was sent whole, and for so long nothing came.
    Unanswered(Duration),
}

/// What becomes of a request's body, for who waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct UploadState {
    failure: OnceLock<UploadFailure>,
    done: Notify,
}

impl UploadState {
    /// The first failure is the reason of any other.
    pub(crate) fn fail(&self, failure: UploadFailure) {
        let _ = self.failure.set(failure);
    }

    pub(crate) fn failure(&self) -> Option<&UploadFailure> {
        self.failure.get()
    }

    /// Returns once nothing more will be read of the body. For one who waits.
    pub(crate) async fn done(&self) {
        self.done.notified().await;
    }
}

/// The body of a request, counted and watched.
pub(crate) struct Upload<B> {
    body: B,
    /// Bytes that it may still have.
    left: u64,
    state: Arc<UploadState>,
}

impl<B> Upload<B> {
    pub(crate) fn new(body: B, most: u64, state: Arc<UploadState>) -> Self {
        Self {
            body,
            left: most,
            state,
        }
    }

    fn fail(&self, failure: UploadFailure, cause: String) -> BoxError {
        self.state.fail(failure);
        Box::new(RequestBodyError { cause })
    }
}

impl<B> Drop for Upload<B> {
    fn drop(&mut self) {
        // Who sends it lets go of it at its end: most bodies tell their length and are never asked past it.
        self.state.done.notify_one();
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                let cause = error.into().to_string();
                return Poll::Ready(Some(Err(this.fail(UploadFailure::Broken(cause.clone()), cause))));
            }
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Buf::remaining) as u64;
        Poll::Ready(Some(match this.left.checked_sub(bytes) {
            Some(left) => {
                this.left = left;
                Ok(frame)
            }
            None => Err(this.fail(UploadFailure::TooLarge, "it is longer than allowed".to_owned())),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, cut when nothing comes although somebody waits for it. A slow reader is waited for: what is not
/// asked for is not read either.
pub struct IdleBody<B> {
    body: B,
    /// What was read of it ahead.
    begun: Option<Frame<Bytes>>,
    /// How long it may stand still; none for as long as it likes.
    patience: Option<Duration>,
    idle: Option<Pin<Box<Sleep>>>,
}

impl<B> IdleBody<B> {
    pub(crate) const fn new(body: B, patience: Option<Duration>) -> Self {
        Self {
            body,
            begun: None,
            patience,
            idle: None,
        }
    }
}

impl<B> IdleBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads what comes first, which is given once more to whoever reads the body. The trailers, where it has nothing else.
    pub(crate) async fn begin(&mut self) -> Result<Option<&HeaderMap>, BoxError> {
        if self.begun.is_none() {
            self.begun = self.frame().await.transpose()?;
        }
        Ok(self.begun.as_ref().and_then(Frame::trailers_ref))
    }
}

/// The body of an answer stood still for too long.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the answer: nothing came for {} ms", .0.as_millis())]
struct Stalled(Duration);

impl<B> Body for IdleBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(begun) = this.begun.take() {
            return Poll::Ready(Some(Ok(begun)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.idle = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(patience) = this.patience else {
            return Poll::Pending;
        };
        let idle = this.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(idle.as_mut().poll(context));
        Poll::Ready(Some(Err(Stalled(patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (SizeHint::new(), self.body.size_hint());
        let begun = self.begun.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        hint.set_lower(rest.lower() + begun);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + begun);
        }
        hint
    }
}
