//! What cuts a request, a call or a body that is under way: a fault that begins meanwhile. In: which faults do that. Out:
//! the moment, or a body that breaks off in it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};

use super::Faults;

/// What is told of whatever a partition cuts.
pub(crate) const CUT_OFF: &str = "cut off by a partition fault";

/// An error of any kind, as bodies have it.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Ends when a fault cuts what it watches over, and has ended from then on.
pub(crate) enum Severed {
    /// No fault may begin.
    Never,
    Watching(Pin<Box<dyn Future<Output = ()> + Send + Sync>>),
    Done,
}

impl Faults {
    /// Watches from now on for a fault that cuts, as the function that `by` makes says of those in force; where the policy
    /// lets none begin, nobody watches.
    pub(crate) fn severed<C>(self: &Arc<Self>, by: impl FnOnce() -> C) -> Severed
    where
        C: Fn(&Self) -> bool + Send + Sync + 'static,
    {
        if !self.may_begin() {
            return Severed::Never;
        }
        let (faults, mut changes, cuts) = (Arc::clone(self), self.changes(), by());
        Severed::Watching(Box::pin(async move {
            while changes.changed().await.is_ok() {
                if cuts(&faults) {
                    return;
                }
            }
        }))
    }
}

impl Future for Severed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Never => Poll::Pending,
            Self::Watching(watching) => {
                ready!(watching.as_mut().poll(context));
                *self = Self::Done;
                Poll::Ready(())
            }
            Self::Done => Poll::Ready(()),
        }
    }
}

impl fmt::Debug for Severed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Never => "Never",
            Self::Watching(_) => "Watching",
            Self::Done => "Done",
        })
    }
}

pin_project_lite::pin_project! {
    /// A body that breaks off when a fault cuts it, though there were more to come at once.
    #[derive(Debug)]
    pub(crate) struct SeveredBody<B> {
        #[pin]
        body: B,
        severed: Severed,
    }
}

impl<B> SeveredBody<B> {
    pub(crate) const fn new(body: B, severed: Severed) -> Self {
        Self { body, severed }
    }

    /// The body, which nothing cuts from here on.
    pub(crate) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body> Body for SeveredBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        if Pin::new(this.severed).poll(context).is_ready() {
            return Poll::Ready(Some(Err("cut off by a fault".into())));
        }
        this.body
            .poll_frame(context)
            .map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
