//! Work that goes on beside the requests: relays, consumers, sweepers. A panic ends one round of one task, not the
//! service.

use std::future::Future;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::postgres::Database;

const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The background tasks of a service; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    restarts: IntCounterVec,
}

/// How work ended that did not panic.
enum Ended {
    Done,
    /// It waited for an answer that will not come.
    Vain,
}

impl Tasks {
    /// None yet; those that panic are counted in `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            restarts: metrics.task_restarts.clone(),
        }
    }

    /// Runs `work` until it returns; a panic is logged and `work` is called again after a second. `work` must end
    /// soon after the token it gets is cancelled.
    pub fn spawn<W, F>(&self, name: &'static str, mut work: W)
    where
        W: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.keep_up(name, move |stop| {
            let work = work(stop);
            async move {
                work.await;
                Ended::Done
            }
        });
    }

    fn keep_up<W, F>(&self, name: &'static str, mut work: W)
    where
        W: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Ended> + Send + 'static,
    {
        let (stop, restarts) = (self.stop.clone(), self.restarts.with_label_values(&[name]));
        self.tracker.spawn(async move {
            loop {
                match tokio::spawn(work(stop.clone())).await {
                    Ok(Ended::Done) => return,
                    Ok(Ended::Vain) => tracing::warn!(task = name, "a background task waits in vain, it starts again"),
                    Err(error) => tracing::error!(task = name, %error, "a background task panicked, it starts again"),
                }
                restarts.inc();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RESTART_DELAY) => {}
                }
            }
        });
    }

    /// Like [`Self::spawn`], for work that may be dropped at any await when the tasks shall end.
    pub fn spawn_droppable<W, F>(&self, name: &'static str, mut work: W)
    where
        W: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, move |stop| {
            let work = work();
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            }
        });
    }

    /// Like [`Self::spawn`], for work that needs the database: it is called when [`Database::ready`] returned. When
    /// [`Database::vanished`] returns it is dropped at whatever await it is, as a killed process would leave it, and called
    /// again.
    pub fn spawn_when_ready<W, F>(&self, name: &'static str, database: &Database, mut work: W)
    where
        W: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let database = database.clone();
        self.keep_up(name, move |stop| {
            let (database, work) = (database.clone(), work(stop.clone()));
            async move {
                tokio::select! {
                    () = stop.cancelled() => return Ended::Done,
                    () = database.ready() => {}
                }
                tokio::select! {
                    () = work => Ended::Done,
                    () = database.vanished() => Ended::Vain,
                }
            }
        });
    }

    /// Tells every task to end and waits for them, at most `within`. Returns whether all ended.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_panicking_task_is_started_again_and_a_stopped_one_ends() {
        let metrics = Metrics::new().unwrap();
        let tasks = Tasks::new(&metrics);
        let runs = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&runs);
        tasks.spawn("test", move |stop| {
            let run = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(run > 0, "the first run panics on purpose");
                stop.cancelled().await;
            }
        });
        crate::testing::eventually("the task runs again", || async {
            (runs.load(Ordering::SeqCst) == 2).then_some(())
        })
        .await;
        assert!(tasks.stop(Duration::from_secs(1)).await);
        assert_eq!(metrics.task_restarts.with_label_values(&["test"]).get(), 1);
    }
}
