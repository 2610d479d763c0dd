//! Each layer alone, around services that are as strict as tower's contract allows.

mod breaker;
mod limits;
mod retry;
mod stack;
mod timeout;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tower::{BoxError, Service};

/// A service that panics when it is called without having been polled ready itself, and whose clones are not ready:
/// the least that tower promises.
pub(super) struct Strict<F> {
    answer: F,
    ready: bool,
    pub(super) seen: Arc<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: AtomicUsize,
    in_flight: AtomicUsize,
    pub(super) most: AtomicUsize,
}

impl<F> Strict<F> {
    pub(super) fn new(answer: F) -> Self {
        Self {
            answer,
            ready: false,
            seen: Arc::default(),
        }
    }
}

impl Seen {
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl<F: Clone> Clone for Strict<F> {
    fn clone(&self) -> Self {
        Self {
            answer: self.answer.clone(),
            ready: false,
            seen: self.seen.clone(),
        }
    }
}

struct InFlight(Arc<Seen>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<F, R, A, Fut> Service<R> for Strict<F>
where
    F: Fn(R) -> Fut,
    Fut: Future<Output = Result<A, BoxError>> + Send + 'static,
{
    type Response = A;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<A, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been polled ready"
        );
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most.fetch_max(now, Ordering::SeqCst);
        let held = InFlight(self.seen.clone());
        let answer = (self.answer)(request);
        Box::pin(async move {
            let _held = held;
            answer.await
        })
    }
}

/// A service that is never ready.
#[derive(Clone)]
pub(super) struct NeverReady;

impl<R> Service<R> for NeverReady {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: R) -> Self::Future {
        panic!("called although never ready")
    }
}

/// Lets every other task run.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
