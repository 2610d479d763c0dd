//! A bound on calls at a time whose size can change while calls run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// So many calls at a time, and no more. Clones share the places.
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    freed: Notify,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct BulkheadPermit(Arc<Shared>);

/// All places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} places are taken")]
pub struct BulkheadFull {
    /// The places there are.
    pub limit: usize,
}

impl Bulkhead {
    /// A bulkhead of `limit` places.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit: AtomicUsize::new(limit),
            in_flight: AtomicUsize::new(0),
            freed: Notify::new(),
        }))
    }

    /// Takes a place if one is free.
    ///
    /// # Errors
    /// When none is.
    pub fn try_acquire(&self) -> Result<BulkheadPermit, BulkheadFull> {
        let mut in_flight = self.0.in_flight.load(Ordering::Relaxed);
        loop {
            let limit = self.limit();
            if in_flight >= limit {
                return Err(BulkheadFull { limit });
            }
            match self
                .0
                .in_flight
                .compare_exchange_weak(in_flight, in_flight + 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(BulkheadPermit(Arc::clone(&self.0))),
                Err(found) => in_flight = found,
            }
        }
    }

    /// Takes a place, waiting at most `wait` for one. Cancel-safe.
    ///
    /// # Errors
    /// When none became free in time.
    pub async fn acquire(&self, wait: Duration) -> Result<BulkheadPermit, BulkheadFull> {
        match self.try_acquire() {
            Err(_) if !wait.is_zero() => {}
            result => return result,
        }
        let waiting = async {
            loop {
                let freed = self.0.freed.notified();
                if let Ok(permit) = self.try_acquire() {
                    return permit;
                }
                freed.await;
            }
        };
        tokio::time::timeout(wait, waiting)
            .await
            .map_err(|_| BulkheadFull { limit: self.limit() })
    }

    /// Changes the number of places. Calls under way keep theirs.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Release);
        self.0.freed.notify_waiters();
    }

    /// Places there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Places taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}
