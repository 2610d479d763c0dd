//! Work that nobody needs to wait for: it has a task of its own from when nobody does, and none until then.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Work that goes on when this is dropped.
pub(super) struct Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// None once it has ended.
    work: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

impl<F> Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `work`, which goes on among `tasks`. It must not panic.
    pub(super) fn new(work: F, tasks: &TaskTracker) -> Self {
        Self {
            work: Some(Box::pin(work)),
            tasks: tasks.clone(),
        }
    }
}

impl<F> Future for Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let done = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<F> Drop for Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Where there is no runtime any more, nothing goes on.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            self.tasks.spawn_on(work, &runtime);
        }
    }
}
