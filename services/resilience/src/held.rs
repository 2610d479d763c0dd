//! A body that holds something until it has been sent or given up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};

pin_project_lite::pin_project! {
    /// A body that gives a place back when it has been read to its end, failed, or was dropped.
    #[derive(Debug)]
    pub struct HeldBody<B, T> {
        #[pin]
        body: B,
        held: Option<T>,
    }
}

impl<B, T> HeldBody<B, T> {
    pub(crate) const fn new(body: B, held: T) -> Self {
        Self { body, held: Some(held) }
    }
}

impl<B: Body, T> Body for HeldBody<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            *this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
