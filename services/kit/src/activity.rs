//! What is under way on one connection: requests that are being answered, uploads that nobody has read to their end, and, of
//! HTTP/2, answers whose clients do not take them. Whoever serves the connection asks it how long nothing has been.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often it is looked whether the rest of a head came, or an answer was taken, where nothing tells.
const LOOK: Duration = Duration::from_millis(20);

/// What is under way on one connection. Clones are one.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told once nothing is under way any more, where somebody waits for that.
    rest: Notify,
    /// Whether bytes came since then: a head has begun.
    read: AtomicBool,
    /// Whether something waits to be written.
    unsent: AtomicBool,
}

struct State {
    /// Since when each answer waits for its client.
    waiting: Vec<Since>,
    under_way: usize,
    /// When the last of them ended.
    quiet: Instant,
    awaited: bool,
}

/// Since when a body waits to be asked for more; none while it is the body that is waited for.
type Since = Arc<Mutex<Option<Instant>>>;

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                waiting: Vec::new(),
                under_way: 0,
                quiet: Instant::now(),
                awaited: false,
            }),
            rest: Notify::new(),
            read: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
        }))
    }
}

impl Activity {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is under way until what this returns is dropped.
    pub(crate) fn begin(&self) -> UnderWay {
        self.state().under_way += 1;
        UnderWay(self.clone())
    }

    /// Bytes came.
    pub(crate) fn came(&self) {
        self.0.read.store(true, Ordering::Relaxed);
    }

    /// Whether something waits to be written, as far as that has changed.
    pub(crate) fn waits_to_write(&self, waits: bool) {
        self.0.unsent.store(waits, Ordering::Relaxed);
        if !waits {
            self.state().quiet = Instant::now();
        }
    }

    /// Whether something waits to be written. How long it may is not for us to say.
    pub(crate) fn is_unsent(&self) -> bool {
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Whether nothing is half done: all that was said is sent, and nothing came since.
    pub(crate) fn is_at_rest(&self) -> bool {
        let busy = self.state().under_way > 0;
        !busy && !self.0.read.load(Ordering::Relaxed) && !self.is_unsent()
    }

    /// Since when nothing is under way; none while something is.
    pub(crate) fn quiet(&self) -> Option<Instant> {
        let mut state = self.state();
        state.awaited = state.under_way > 0;
        (!state.awaited).then_some(state.quiet)
    }

    /// Returns once nothing has been under way for so long, with the moment in which that began.
    pub(crate) async fn quiet_for(&self, patience: Duration) -> Instant {
        loop {
            match self.quiet() {
                Some(since) if since + patience <= Instant::now() => return since,
                Some(since) => tokio::time::sleep_until(since + patience).await,
                None => self.0.rest.notified().await,
            }
        }
    }

    /// From now on a head is waited for.
    pub(crate) fn begins(&self) {
        self.state().quiet = Instant::now();
    }

    /// Returns once nothing is under way, unsent or, for as long as `patience`, half said: the connection may be closed.
    pub(crate) async fn nothing_left(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            self.quiet_for(Duration::ZERO).await;
            if self.is_at_rest() || (end <= Instant::now() && !self.is_unsent()) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns once one of the answers has waited for so long for its client.
    pub(crate) async fn untaken_for(&self, patience: Duration) {
        loop {
            let end = self.oldest().unwrap_or_else(Instant::now) + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let state = self.state();
        let since = state.waiting.iter().filter(|answer| Arc::strong_count(answer) > 1);
        since
            .filter_map(|since| *since.lock().unwrap_or_else(PoisonError::into_inner))
            .min()
    }
}

/// Something that is under way.
pub(crate) struct UnderWay(Activity);

impl UnderWay {
    /// `body`, which is under way until it is dropped.
    pub(crate) const fn hold<B>(self, body: B) -> Watched<B> {
        Watched {
            body,
            since: None,
            _under_way: self,
        }
    }

    /// As [`hold`](Self::hold), for an answer that waits for its client alone.
    pub(crate) fn watch<B>(self, body: B) -> Watched<B> {
        let since = Since::new(Mutex::new(Some(Instant::now())));
        let mut state = self.0.state();
        // Those that have ended are nobody else's any more.
        state.waiting.retain(|answer| Arc::strong_count(answer) > 1);
        state.waiting.push(Arc::clone(&since));
        drop(state);
        Watched {
            body,
            since: Some(since),
            _under_way: self,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Shared { rest, read, .. } = &*self.0.0;
        let mut state = self.0.state();
        state.under_way -= 1;
        if state.under_way > 0 {
            return;
        }
        state.quiet = Instant::now();
        read.store(false, Ordering::Relaxed);
        if std::mem::take(&mut state.awaited) {
            rest.notify_one();
        }
    }
}

/// A body that is under way until it is dropped.
pub(crate) struct Watched<B> {
    body: B,
    since: Option<Since>,
    _under_way: UnderWay,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Some(since) = &self.since {
            let waits = frame.is_ready().then(Instant::now);
            *since.lock().unwrap_or_else(PoisonError::into_inner) = waits;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_from_the_end_of_the_last_that_was_under_way() {
        let activity = Activity::default();
        let (one, other) = (activity.begin(), activity.begin());
        let begun = Instant::now();
        let waiting = tokio::spawn({
            let activity = activity.clone();
            async move { activity.quiet_for(Duration::from_secs(1)).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(one);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waiting.is_finished(), "something is under way");
        drop(other);
        assert_eq!(waiting.await.unwrap() - begun, Duration::from_secs(10));
        assert_eq!(begun.elapsed(), Duration::from_secs(11));
    }

    #[test]
    fn half_a_head_and_half_an_answer_are_no_rest() {
        let activity = Activity::default();
        assert!(activity.is_at_rest());
        activity.came();
        assert!(!activity.is_at_rest(), "a head has begun");
        let answering = activity.begin();
        assert!(!activity.is_at_rest(), "it is being answered");
        activity.waits_to_write(true);
        drop(answering);
        assert!(!activity.is_at_rest(), "the answer is not sent");
        activity.waits_to_write(false);
        assert!(activity.is_at_rest());
    }
}
