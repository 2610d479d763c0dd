//! A controller that is killed at a chosen write, and its next life.

use super::{FakeApi, Fault};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How long a life is given until it has done what it is to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// For so long nothing was written where all is done.
const REST: Duration = Duration::from_millis(1500);

/// Waits until nothing was written for a while. Returns how much was by then.
pub async fn rest(api: &FakeApi) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = api.requests().iter().filter(|request| request.is_write()).count();
        if now == before {
            return now;
        }
        before = now;
        tokio::time::sleep(REST).await;
    }
}

/// Waits until it is `done`, for at most this long: who asks looks at what there is then.
async fn until(api: &FakeApi, done: impl Fn(&FakeApi) -> bool) {
    let waiting = async {
        while !done(api) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
}

/// Kills what `start` gives at its `at`-th write, before or after that takes, and starts it anew; waits until it is `done`
/// and at rest, or it is clear that it will not be. Returns how many writes there were. One that makes fewer than `at` is
/// never killed.
pub async fn killed_at<Life>(
    api: &FakeApi,
    (at, takes): (usize, bool),
    start: impl Fn(&FakeApi) -> Life,
    done: impl Fn(&FakeApi) -> bool,
) -> usize {
    let (writes, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counter, notify) = (writes.clone(), killed.clone());
    api.inject(move |request| {
        if !request.is_write() || request.path.contains("/events") {
            return None;
        }
        if counter.fetch_add(1, Ordering::SeqCst) != at {
            return None;
        }
        notify.notify_one();
        Some(if takes { Fault::LoseAnswer } else { Fault::Refuse(500) })
    });
    let mut life = Some(start(api));
    tokio::select! {
        () = killed.notified() => {
            drop(life.take());
            life = Some(start(api));
        }
        () = until(api, &done) => {}
    }
    until(api, &done).await;
    rest(api).await;
    drop(life);
    writes.load(Ordering::SeqCst)
}
