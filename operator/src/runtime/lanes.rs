//! When a reconcile may begin: a bounded number at a time, no more than half of them for one namespace, and not twice
//! in a moment for one object.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// An object that changes without end is looked at no more often than this.
const PACE: Duration = Duration::from_millis(50);

/// Places for reconciles. A namespace whose writes all hang (one slow admission webhook is enough) keeps half of them
/// and leaves the others alone.
pub struct Lanes {
    all: Arc<Semaphore>,
    share: usize,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place that is taken until this is dropped.
pub struct Place {
    _namespace: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// So many places in all.
    pub fn new(places: u16) -> Self {
        let places = usize::from(places.max(1));
        Self {
            all: Arc::new(Semaphore::new(places)),
            share: places.div_ceil(2),
            namespaces: Mutex::default(),
        }
    }

    /// Waits for a place.
    pub async fn enter(&self, namespace: &str) -> Place {
        let own = {
            let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody else holds it: nothing is under way there.
            namespaces.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            namespaces
                .entry(namespace.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(self.share)))
                .clone()
        };
        // In this order: who waits for its own namespace holds no place meanwhile. Neither is ever closed.
        let namespace = own.acquire_owned().await.ok();
        let all = self.all.clone().acquire_owned().await.ok();
        Place {
            _namespace: namespace,
            _all: all,
        }
    }
}

/// When each object was last looked at.
#[derive(Debug)]
pub struct Pace<K> {
    begun: Mutex<HashMap<K, Instant>>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self {
            begun: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq> Pace<K> {
    /// None and noted if the object may be looked at now, else how long to wait.
    pub fn too_soon(&self, key: K, now: Instant) -> Option<Duration> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = begun
            .get(&key)
            .map(|last| PACE.saturating_sub(now.duration_since(*last)))
            .filter(|wait| !wait.is_zero());
        if wait.is_none() {
            begun.insert(key, now);
        }
        wait
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &K) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_namespace_that_hangs_keeps_half_of_the_places_and_another_goes_on() {
        let lanes = Lanes::new(4);
        let mut hanging = vec![lanes.enter("slow").await, lanes.enter("slow").await];
        assert!(lanes.enter("slow").now_or_never().is_none());
        let quick = [lanes.enter("quick").await, lanes.enter("quick").await];
        assert!(lanes.enter("third").now_or_never().is_none(), "more than four at once");
        drop(quick);
        assert!(lanes.enter("third").now_or_never().is_some());
        hanging.pop();
        assert!(lanes.enter("slow").now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_looked_at_at_once_and_then_at_its_pace() {
        let pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.too_soon("a", start), None);
        assert_eq!(pace.too_soon("b", start), None);
        let later = start + PACE / 5;
        assert_eq!(pace.too_soon("a", later), Some(PACE - PACE / 5));
        assert_eq!(pace.too_soon("a", start + PACE), None);
    }
}
