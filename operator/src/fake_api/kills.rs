//! A controller that is killed at a chosen write, and its next life; and a table of flows, each of whose writes is tried.

use super::{FakeApi, Fault};
use futures::{StreamExt, future::BoxFuture};
use serde_json::Value;
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
/// Lives at a time.
const AT_ONCE: usize = 24;

/// What a controller does: a row of the table of its flows.
pub struct Flow<Life> {
    pub name: &'static str,
    /// What is there before the controller that is killed.
    pub before: for<'a> fn(&'a FakeApi) -> BoxFuture<'a, ()>,
    pub start: fn(&FakeApi) -> Life,
    pub done: fn(&FakeApi) -> bool,
    /// What must be there in the end, beside what is compared of all flows.
    pub holds: fn(&Value),
    /// Fewer writes than it makes undisturbed would mean that the row tries nothing.
    pub writes: usize,
}

impl<Life> Flow<Life> {
    /// The end state of a life that is killed, once it is `wanted`, and how much it wrote.
    async fn lived(
        &self,
        killed: (usize, bool),
        end_state: fn(&FakeApi) -> Value,
        wanted: Option<&Value>,
    ) -> (Value, usize) {
        let api = FakeApi::default();
        (self.before)(&api).await;
        api.forget_requests();
        let done = |api: &FakeApi| (self.done)(api) && wanted.is_none_or(|wanted| end_state(api) == *wanted);
        let writes = killed_at(&api, killed, self.start, done).await;
        (end_state(&api), writes)
    }
}

/// Kills each flow at each of its writes, before and after that takes: the next life has to end in the state in which one
/// ends that nobody kills.
pub async fn killed_at_any_write<Life>(flows: &[Flow<Life>], end_state: fn(&FakeApi) -> Value) {
    let undisturbed = flows.iter().map(|flow| flow.lived((usize::MAX, true), end_state, None));
    let references = futures::future::join_all(undisturbed).await;
    let mut lives = Vec::new();
    for (flow, (reference, writes)) in flows.iter().zip(&references) {
        (flow.holds)(reference);
        assert!(*writes >= flow.writes, "{}: {writes} writes", flow.name);
        lives.extend((0..*writes).flat_map(|at| [(flow, reference, (at, true)), (flow, reference, (at, false))]));
    }
    println!("{} lives of {} flows", lives.len(), flows.len());
    let lives = lives.into_iter().map(|(flow, reference, killed)| async move {
        let (state, _) = flow.lived(killed, end_state, Some(reference)).await;
        assert_eq!(
            state, *reference,
            "{}: killed at write {}, taken: {}",
            flow.name, killed.0, killed.1
        );
    });
    futures::stream::iter(lives)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

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
async fn killed_at<Life>(
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
