//! Work that nobody needs to wait for: it has a task of its own from when nobody does, and none until then. It is one of
//! the tasks that an end waits for from its beginning: whoever waits for it may leave when that end has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// Work that goes on when this is dropped.
pub(super) struct Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// None once it has ended.
    work: Option<Pin<Box<TrackedFuture<F>>>>,
}

impl<F> Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `work`, which is one of `tasks` until it has ended. It must not panic.
    pub(super) fn new(work: F, tasks: &TaskTracker) -> Self {
        Self {
            work: Some(Box::pin(tasks.track_future(work))),
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
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn an_end_that_begins_before_its_caller_leaves_waits_for_it() {
        let (tasks, (answer, answered)) = (TaskTracker::new(), tokio::sync::oneshot::channel());
        let mut work = Outliving::new(answered, &tasks);
        assert!((&mut work).now_or_never().is_none());
        tasks.close();
        let mut end = Box::pin(tasks.wait());
        assert!((&mut end).now_or_never().is_none(), "its caller waits");
        drop(work);
        assert!((&mut end).now_or_never().is_none(), "it goes on");
        answer.send(()).unwrap();
        end.await;
    }
}
