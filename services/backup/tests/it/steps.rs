//! Where a test can stop a pod: each request to a loopback server has two places, before it takes and before it is answered.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Inner {
    passed: usize,
    /// The place to stop at, counted from 1.
    stop_at: Option<usize>,
    /// Whether a request that was held has not taken yet.
    open: bool,
}

/// Counts places, and holds what comes to a chosen one.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    inner: Arc<Mutex<Inner>>,
    bitten: Arc<Notify>,
    released: Arc<Notify>,
    taken: Arc<Notify>,
}

impl Steps {
    /// Holds what comes to this place next, counted from 1 and from now; nothing after it.
    pub fn stop_at(&self, place: usize) {
        *self.inner.lock().unwrap() = Inner {
            passed: 0,
            stop_at: Some(place),
            open: false,
        };
    }

    /// Nothing is held any more; what is held stays so.
    pub fn disarm(&self) {
        self.inner.lock().unwrap().stop_at = None;
    }

    /// How many places were passed.
    pub fn passed(&self) -> usize {
        self.inner.lock().unwrap().passed
    }

    /// Resolves when something is held.
    pub async fn bitten(&self) {
        self.bitten.notified().await;
    }

    /// Lets go what is held, and waits until it has taken.
    pub async fn release(&self) {
        self.released.notify_one();
        while self.inner.lock().unwrap().open {
            self.taken.notified().await;
        }
    }

    /// Says whether it was held.
    async fn pass(&self) -> bool {
        let held = {
            let mut inner = self.inner.lock().unwrap();
            inner.passed += 1;
            let held = inner.stop_at == Some(inner.passed);
            if held {
                inner.stop_at = None;
                inner.open = true;
            }
            held
        };
        if held {
            self.bitten.notify_one();
            self.released.notified().await;
        }
        held
    }
}

/// A request that was held has taken, or has ended otherwise.
struct Taken(Steps);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.inner.lock().unwrap().open = false;
        self.0.taken.notify_one();
    }
}

/// The layer of a server. A request that has arrived takes, whatever becomes of who has sent it.
pub async fn passing(State(steps): State<Steps>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        // It was sent in part.
        std::panic::resume_unwind(Box::new(()));
    };
    let request = Request::from_parts(parts, Body::from(body));
    let taken = tokio::spawn(async move {
        let before = steps.pass().await.then(|| Taken(steps.clone()));
        let response = next.run(request).await;
        let after = steps.pass().await.then(|| Taken(steps.clone()));
        drop((before, after));
        response
    });
    match taken.await {
        Ok(response) => response,
        // A server that cuts a connection ends its task.
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
