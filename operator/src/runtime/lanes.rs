//! When a reconcile may begin: a bounded number at a time, no more than half of them for one namespace, what changed
//! before what is merely looked at again, and not twice in a moment for one object.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// An object that changes without end is looked at no more often than this.
const PACE: Duration = Duration::from_millis(50);

/// Places for reconciles. A namespace whose writes all hang (one slow admission webhook is enough) keeps half of them
/// and leaves the others alone. What nobody asked for by name (the thousands that a list brings) waits in a queue of its
/// own for three quarters of them, in its namespace and in all: no more than those are ever before an object that
/// changed, and since both wait in turn from there on, changes without end keep none of the thousands out.
pub struct Lanes {
    all: Share,
    /// Of each namespace.
    share: usize,
    namespaces: Mutex<HashMap<String, Share>>,
}

/// Places of one namespace, or of all.
#[derive(Clone)]
struct Share {
    places: Arc<Semaphore>,
    unasked: Arc<Semaphore>,
}

impl Share {
    fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            unasked: Arc::new(Semaphore::new(places - places / 4)),
        }
    }

    /// Whether somebody else holds a place or waits for one.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.places) > 1 || Arc::strong_count(&self.unasked) > 1
    }
}

/// A place that is taken until this is dropped.
pub struct Place {
    _unasked: Option<[Option<OwnedSemaphorePermit>; 2]>,
    _asked: [Option<OwnedSemaphorePermit>; 2],
}

impl Lanes {
    /// So many places in all.
    pub fn new(places: u16) -> Self {
        let places = usize::from(places.max(1));
        Self {
            all: Share::new(places),
            share: places.div_ceil(2),
            namespaces: Mutex::default(),
        }
    }

    /// Waits for a place, behind all that nobody asked for until this object `is_asked` for.
    pub async fn enter(&self, namespace: &str, is_asked: impl Future<Output = ()>) -> Place {
        let own = {
            let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            namespaces.retain(|_, share| share.is_used());
            namespaces
                .entry(namespace.to_owned())
                .or_insert_with(|| Share::new(self.share))
                .clone()
        };
        // In this order: who waits for its own namespace holds no place of the others meanwhile. None is ever closed.
        let unasked = tokio::select! {
            biased;
            () = is_asked => None,
            places = async {
                let namespace = own.unasked.acquire_owned().await.ok();
                [namespace, self.all.unasked.clone().acquire_owned().await.ok()]
            } => Some(places),
        };
        let namespace = own.places.acquire_owned().await.ok();
        let all = self.all.places.clone().acquire_owned().await.ok();
        Place {
            _unasked: unasked,
            _asked: [namespace, all],
        }
    }
}

/// Which objects were asked for by name, and have not been looked at since.
#[derive(Debug)]
pub struct Asked<K> {
    objects: Mutex<HashMap<K, Arc<Notify>>>,
}

impl<K> Default for Asked<K> {
    fn default() -> Self {
        Self {
            objects: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq> Asked<K> {
    /// Asks for it, also where it waits already.
    pub fn ask(&self, key: K) {
        self.notify(key).notify_one();
    }

    /// Ends when it is asked for, at once if it was, and the asking is done with.
    pub async fn taken(&self, key: K) {
        self.notify(key).notified().await;
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &K) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn notify(&self, key: K) -> Arc<Notify> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.entry(key).or_default().clone()
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
    use futures::{FutureExt, future::BoxFuture};
    use std::future::{pending, ready};
    use tokio::task::unconstrained;

    #[tokio::test]
    async fn a_namespace_that_hangs_keeps_half_of_the_places_and_another_goes_on() {
        let lanes = Lanes::new(4);
        let enter = |namespace| lanes.enter(namespace, ready(()));
        let mut hanging = vec![enter("slow").await, enter("slow").await];
        assert!(enter("slow").now_or_never().is_none());
        let quick = [enter("quick").await, enter("quick").await];
        assert!(enter("third").now_or_never().is_none(), "more than four at once");
        drop(quick);
        assert!(enter("third").now_or_never().is_some());
        hanging.pop();
        assert!(enter("slow").now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_namespace_that_hangs_leaves_what_nobody_asked_for_elsewhere_alone() {
        let lanes = Lanes::new(16);
        let mut slow: Vec<_> = (0..100).map(|_| Box::pin(lanes.enter("slow", pending()))).collect();
        let hanging: Vec<Place> = slow.iter_mut().filter_map(FutureExt::now_or_never).collect();
        assert_eq!(hanging.len(), 6);
        for _ in 0..10 {
            assert!(lanes.enter("quick", pending()).now_or_never().is_some());
        }
        // Those of the namespace that changed have its other places.
        let changed = [
            lanes.enter("slow", ready(())).now_or_never(),
            lanes.enter("slow", ready(())).now_or_never(),
        ];
        assert!(changed.iter().all(Option::is_some));
        assert!(lanes.enter("slow", ready(())).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_changed_finds_a_place_while_thousands_wait_and_keeps_none_of_them_out() {
        let lanes = Lanes::new(4);
        let asked = Asked::default();
        let names: Vec<String> = (0..1_000).map(|number| format!("namespace-{number}")).collect();
        let unasked = names.iter().map(|name| {
            // A thousand in one turn are more than the runtime lets go on.
            let place = unconstrained(lanes.enter(name, asked.taken(name.as_str())));
            Box::pin(place) as BoxFuture<'_, Place>
        });
        let mut waiting: Vec<_> = unasked.collect();
        let mut begun: Vec<Place> = waiting.iter_mut().filter_map(FutureExt::now_or_never).collect();
        assert_eq!(begun.len(), 3);

        let changed = lanes
            .enter("new", ready(()))
            .now_or_never()
            .expect("one place is kept free");
        asked.ask("namespace-998");
        assert!(waiting[998].as_mut().now_or_never().is_none(), "all places are taken");
        drop(changed);
        let hastened = waiting[998].as_mut().now_or_never();
        assert!(hastened.is_some(), "it waited with the others when it was asked for");

        // Changes without end: each of them waits in turn with one of the thousands.
        let mut changes: Vec<_> = (0..8).map(|_| Box::pin(lanes.enter("busy", ready(())))).collect();
        assert!(
            changes
                .iter_mut()
                .all(|change| change.as_mut().now_or_never().is_none())
        );
        begun.pop();
        assert!(waiting[3].as_mut().now_or_never().is_none(), "the changes come first");
        for _ in 0..8 {
            changes.retain_mut(|change| change.as_mut().now_or_never().is_none());
        }
        assert!(waiting[3].as_mut().now_or_never().is_some());
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
