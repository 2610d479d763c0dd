//! Requests that wait for their order's end, which comes by event: whoever moves the order in this process wakes them; a
//! move by another replica is found by a look now and then. No SQL here: looking is the caller's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;
use valerix_resilience::Deadline;

/// Pause between two looks at an order that another replica may have moved.
const LOOK: Duration = Duration::from_millis(250);

/// The waiting requests of one replica; cheap to clone, all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<HashMap<Uuid, Vec<Arc<Notify>>>>>);

/// One request's place. Moves since it was taken are not missed; dropped, nobody waits any more.
#[derive(Debug)]
pub struct Waiter {
    all: Waiters,
    order_id: Uuid,
    moved: Arc<Notify>,
}

impl Waiters {
    /// A place for a request about `order_id`. Take it before the look after which a move counts.
    #[must_use]
    pub fn enter(&self, order_id: Uuid) -> Waiter {
        let moved = Arc::new(Notify::new());
        self.lock().entry(order_id).or_default().push(Arc::clone(&moved));
        Waiter {
            all: self.clone(),
            order_id,
            moved,
        }
    }

    /// The order has moved: whoever waits for it looks.
    pub fn wake(&self, order_id: Uuid) {
        for waiter in self.lock().get(&order_id).into_iter().flatten() {
            waiter.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Vec<Arc<Notify>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits for a move in this process.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Waits for a move in this process or for the time of the next look, at most until `deadline`. `false`: that has
    /// passed.
    pub async fn wait(&self, deadline: Deadline) -> bool {
        let look = LOOK.min(deadline.remaining());
        tokio::select! {
            () = self.moved.notified() => true,
            () = tokio::time::sleep(look) => !deadline.is_past(),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(waiters) = all.get_mut(&self.order_id) {
            waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.moved));
            if waiters.is_empty() {
                all.remove(&self.order_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_move_wakes_those_who_wait_for_the_order_and_nobody_else() {
        let waiters = Waiters::default();
        let (order, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let far = Deadline::after(Duration::from_secs(3_600));
        let (first, second, stranger) = (waiters.enter(order), waiters.enter(order), waiters.enter(other));
        // A move before anyone waits is not missed.
        waiters.wake(order);
        assert!(first.wait(far).await && second.wait(far).await);
        assert!(!stranger.wait(Deadline::after(Duration::ZERO)).await);
        drop((first, second));
        assert_eq!(waiters.lock().keys().copied().collect::<Vec<_>>(), [other]);
        drop(stranger);
        assert!(waiters.lock().is_empty());
    }

    #[tokio::test]
    async fn without_a_move_there_is_a_look_four_times_a_second() {
        let waiter = Waiters::default().enter(Uuid::from_u128(1));
        let deadline = Deadline::after(Duration::from_millis(600));
        let mut looks = 0;
        while waiter.wait(deadline).await {
            looks += 1;
        }
        // 250 and 500 ms; fewer where the machine stands still.
        assert!(looks <= 2, "{looks}");
    }
}
