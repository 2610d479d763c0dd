//! A bound on calls at a time whose size can change while calls run.
//!
//! Not tokio's semaphore: its size cannot shrink below the permits that are out, and it has one queue where the priorities
//! of incoming requests need two and shares of the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// So many calls at a time, and no more. Clones share the places.
///
/// ```
/// use valerix_resilience::{Bulkhead, BulkheadFull, BulkheadPermit};
///
/// let bulkhead = Bulkhead::new(1);
/// let place: BulkheadPermit = bulkhead.try_acquire()?;
/// assert_eq!(bulkhead.try_acquire().unwrap_err(), BulkheadFull { limit: 1 });
/// drop(place);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok::<(), BulkheadFull>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    /// Who waits in each line: how many, and what wakes them.
    waiting: [AtomicUsize; 2],
    freed: [Notify; 2],
}

/// The line in which a caller waits. A place that is freed goes to the first one as long as anyone stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    First,
    Second,
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
            waiting: [AtomicUsize::new(0), AtomicUsize::new(0)],
            freed: [Notify::new(), Notify::new()],
        }))
    }

    /// Takes a place if one is free that nobody waits for.
    ///
    /// # Errors
    /// When none is.
    pub fn try_acquire(&self) -> Result<BulkheadPermit, BulkheadFull> {
        if self.0.waiting[Line::First as usize].load(Ordering::SeqCst) > 0 {
            return Err(BulkheadFull { limit: self.limit() });
        }
        self.try_acquire_below(100)
    }

    /// Takes a place if less than `percent` of all places (rounded up) are taken.
    pub(crate) fn try_acquire_below(&self, percent: usize) -> Result<BulkheadPermit, BulkheadFull> {
        // Sequentially consistent with the count of those who wait: see `Shared::wake`.
        let mut in_flight = self.0.in_flight.load(Ordering::SeqCst);
        loop {
            let limit = self.limit();
            if in_flight >= limit.saturating_mul(percent).div_ceil(100) {
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

    /// Takes a place, waiting at most `wait` for one, behind those who wait already. Cancel-safe.
    ///
    /// # Errors
    /// When none became free in time.
    pub async fn acquire(&self, wait: Duration) -> Result<BulkheadPermit, BulkheadFull> {
        match self.try_acquire() {
            Err(_) if !wait.is_zero() => self.wait_below(100, Line::First, wait).await,
            result => result,
        }
    }

    /// Waits in `line`, behind those who stand there or in the line before, until less than `percent` of all places are
    /// taken, and takes one.
    pub(crate) async fn wait_below(
        &self,
        percent: usize,
        line: Line,
        wait: Duration,
    ) -> Result<BulkheadPermit, BulkheadFull> {
        let waiting = async {
            let waiting = Waiting::begin(&self.0, line);
            // A place that is free while others stand here is theirs: they have been woken for it, or are about to be,
            // and whoever of them leaves passes a wake on.
            let mut may_try = !waiting.stands_behind_others;
            loop {
                let freed = self.0.freed[line as usize].notified();
                if may_try && let Ok(permit) = self.try_acquire_below(percent) {
                    return permit;
                }
                freed.await;
                may_try = true;
            }
        };
        tokio::time::timeout(wait, waiting)
            .await
            .map_err(|_| BulkheadFull { limit: self.limit() })
    }

    /// Changes the number of places. Calls under way keep theirs.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Release);
        self.0.freed.iter().for_each(Notify::notify_waiters);
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
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

impl Shared {
    /// Wakes who may take a place that was freed. Either this sees the count of one who waits, or that one, having
    /// counted itself first, sees the place.
    fn wake(&self) {
        let line = self
            .waiting
            .iter()
            .position(|waiting| waiting.load(Ordering::SeqCst) > 0);
        if let Some(line) = line {
            self.freed[line].notify_one();
        }
    }
}

/// One who waits. Its end, with a place or without, passes a wake on: it may have been given one that it did not use,
/// or two may have been given while it alone stood in its line.
struct Waiting<'bulkhead> {
    shared: &'bulkhead Shared,
    line: Line,
    /// Whether anyone stood in this line or in the one before it when this one came.
    stands_behind_others: bool,
}

impl<'bulkhead> Waiting<'bulkhead> {
    fn begin(shared: &'bulkhead Shared, line: Line) -> Self {
        let before = shared.waiting[line as usize].fetch_add(1, Ordering::SeqCst);
        let first = &shared.waiting[..line as usize];
        Self {
            shared,
            line,
            stands_behind_others: before > 0 || first.iter().any(|waiting| waiting.load(Ordering::SeqCst) > 0),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.waiting[self.line as usize].fetch_sub(1, Ordering::SeqCst);
        self.shared.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_first_line_is_served_first_and_both_are_served() {
        let bulkhead = Bulkhead::new(1);
        let held = bulkhead.try_acquire().unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for line in [Line::Second, Line::First, Line::Second, Line::First] {
            let (bulkhead, order) = (bulkhead.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _place = bulkhead.wait_below(100, line, LONG).await.unwrap();
                order.lock().unwrap().push(line);
                tokio::task::yield_now().await;
            }));
            settle().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        use Line::{First, Second};
        assert_eq!(*order.lock().unwrap(), [First, First, Second, Second]);
    }

    /// Two places are freed at once while one stands in the first line: the second line must hear of the other one.
    #[tokio::test]
    async fn no_place_stays_free_while_someone_waits() {
        let bulkhead = Bulkhead::new(2);
        let held = [bulkhead.try_acquire().unwrap(), bulkhead.try_acquire().unwrap()];
        let wait = |line| {
            let bulkhead = bulkhead.clone();
            tokio::spawn(async move { bulkhead.wait_below(100, line, LONG).await })
        };
        let (second, first) = (wait(Line::Second), wait(Line::First));
        settle().await;
        drop(held);
        // Both hold their place: neither waited for the other to free it.
        let _places = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    }

    #[tokio::test]
    async fn who_gives_up_leaves_its_wake_to_the_other_line() {
        let bulkhead = Bulkhead::new(1);
        let held = bulkhead.try_acquire().unwrap();
        let impatient = {
            let bulkhead = bulkhead.clone();
            tokio::spawn(async move { bulkhead.wait_below(100, Line::First, LONG).await.is_ok() })
        };
        let patient = {
            let bulkhead = bulkhead.clone();
            tokio::spawn(async move { bulkhead.wait_below(100, Line::Second, LONG).await.is_ok() })
        };
        settle().await;
        drop(held);
        // Woken, but gone before it runs.
        impatient.abort();
        assert!(patient.await.unwrap());
        assert_eq!(bulkhead.in_flight(), 0, "an abandoned wait keeps no place");
    }

    /// Under load there is always one who comes just when a place is freed: it must not pass those who wait.
    #[tokio::test]
    async fn nobody_passes_those_who_wait() {
        let bulkhead = Bulkhead::new(1);
        let held = bulkhead.try_acquire().unwrap();
        let mut waiting = std::pin::pin!(bulkhead.acquire(LONG));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert_eq!(bulkhead.try_acquire().unwrap_err(), BulkheadFull { limit: 1 });
        let mut later = std::pin::pin!(bulkhead.acquire(LONG));
        assert!(futures::poll!(later.as_mut()).is_pending());
        drop(waiting.await.unwrap());
        drop(later.await.unwrap());
        assert!(bulkhead.try_acquire().is_ok());
    }

    #[test]
    fn a_share_is_rounded_up_and_counts_all() {
        let bulkhead = Bulkhead::new(10);
        let _half: Vec<_> = (0..5).map(|_| bulkhead.try_acquire_below(50).unwrap()).collect();
        assert!(bulkhead.try_acquire_below(50).is_err());
        let _more = bulkhead.try_acquire_below(51).unwrap();
        assert!(bulkhead.try_acquire_below(51).is_err());
        assert!(bulkhead.try_acquire().is_ok());
        let one = Bulkhead::new(1);
        assert!(one.try_acquire_below(1).is_ok(), "a share is never less than one place");
    }
}
