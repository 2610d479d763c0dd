//! What is remembered of each service between two reconciles: pacing only. Losing it costs nothing but haste.

use super::nudge::Schedule;
use kube::ResourceExt;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use valerix_crds::ResilientService;

/// At most one status write in this time.
const STATUS_PACE: Duration = Duration::from_secs(1);
/// How long a count of ready pods must hold before it is written into `runtime.json`.
const READY_PACE: Duration = Duration::from_secs(5);

/// Judgement is held back no longer than this. A pod has answered or failed to within two seconds.
const LONGEST_HOLD: Duration = Duration::from_secs(3);

/// Notes on all services.
#[derive(Default)]
pub struct Memory {
    notes: Mutex<HashMap<(String, String), Notes>>,
}

/// Notes on one service.
#[derive(Default)]
pub struct Notes {
    uid: String,
    /// Which pods were nudged when.
    pub nudges: Schedule,
    /// When the status was written last.
    pub writes: Pace,
    /// The count of ready pods that is waiting to be written.
    pub ready: Settling,
    /// Since when judgement is held back.
    pub patience: Patience,
}

impl Memory {
    /// Works with the notes on a service; a service that was made anew starts with empty ones.
    pub fn with<T>(&self, service: &ResilientService, work: impl FnOnce(&mut Notes) -> T) -> T {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        let uid = service.uid().unwrap_or_default();
        let mut all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = all.entry(key).or_default();
        if notes.uid != uid {
            *notes = Notes {
                uid,
                ..Notes::default()
            };
        }
        work(notes)
    }

    /// Forgets a service; returns the UID that it had.
    pub fn forget(&self, namespace: &str, name: &str) -> Option<String> {
        let mut all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(namespace.to_owned(), name.to_owned()))
            .map(|notes| notes.uid)
    }
}

/// Keeps writes apart: the first at once, the next no sooner than a second later.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// None and noted if a write may happen now, else how long to wait.
    pub fn may_write(&mut self, now: Instant) -> Option<Duration> {
        let wait = self
            .last
            .map(|last| STATUS_PACE.saturating_sub(now.duration_since(last)))
            .filter(|wait| !wait.is_zero());
        if wait.is_none() {
            self.last = Some(now);
        }
        wait
    }
}

/// Holds judgement back while a ready pod has not been asked yet, which takes a moment after it became ready and after
/// the operator started: without it every start of the operator would show as a change of every service.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// How long to wait before judging, none if judgement is due.
    pub fn hold(&mut self, unasked: bool, now: Instant) -> Option<Duration> {
        if !unasked {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        Some(LONGEST_HOLD.saturating_sub(now.duration_since(since))).filter(|wait| !wait.is_zero())
    }
}

/// A count that must hold for a while before it counts.
#[derive(Debug, Default)]
pub struct Settling {
    pending: Option<(u32, Instant)>,
}

impl Settling {
    /// The count to write, given what is written now and what is seen now, and when to look again.
    pub fn settle(&mut self, written: Option<u32>, seen: u32, now: Instant) -> (u32, Option<Duration>) {
        let Some(written) = written.filter(|written| *written != seen) else {
            self.pending = None;
            return (seen, None);
        };
        match self.pending {
            Some((count, since)) if count == seen => {
                let wait = READY_PACE.saturating_sub(now.duration_since(since));
                if wait.is_zero() {
                    (seen, None)
                } else {
                    (written, Some(wait))
                }
            }
            _ => {
                self.pending = Some((seen, now));
                (written, Some(READY_PACE))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_count_is_written_when_it_has_held() {
        let mut settling = Settling::default();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let seconds = |second| Some(Duration::from_secs(second));
        assert_eq!(settling.settle(None, 0, at(0)), (0, None));
        assert_eq!(settling.settle(Some(0), 2, at(1)), (0, seconds(5)));
        assert_eq!(settling.settle(Some(0), 3, at(2)), (0, seconds(5)));
        assert_eq!(settling.settle(Some(0), 3, at(6)), (0, seconds(1)));
        assert_eq!(settling.settle(Some(0), 3, at(7)), (3, None));
        assert_eq!(settling.settle(Some(3), 3, at(8)), (3, None));
        assert_eq!(settling.settle(Some(3), 2, at(9)), (3, seconds(5)));
        // Back for a moment: the wait begins anew.
        assert_eq!(settling.settle(Some(3), 3, at(12)), (3, None));
        assert_eq!(settling.settle(Some(3), 2, at(13)), (3, seconds(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn judgement_waits_for_pods_that_were_not_asked_but_not_for_ever() {
        let mut patience = Patience::default();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let seconds = |second| Some(Duration::from_secs(second));
        assert_eq!(patience.hold(true, at(0)), seconds(3));
        assert_eq!(patience.hold(true, at(2)), seconds(1));
        assert_eq!(patience.hold(true, at(3)), None);
        assert_eq!(patience.hold(true, at(9)), None);
        assert_eq!(patience.hold(false, at(10)), None);
        assert_eq!(patience.hold(true, at(11)), seconds(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_was_made_anew_starts_with_empty_notes() {
        let memory = Memory::default();
        let mut service = super::super::fixtures::service("order", serde_json::json!({"image": "a"}));
        let now = Instant::now();
        let may_write =
            |service: &ResilientService| memory.with(service, |notes| notes.writes.may_write(now).is_none());
        assert_eq!([may_write(&service), may_write(&service)], [true, false]);
        service.metadata.uid = Some("another".into());
        assert!(may_write(&service));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_write_is_at_once_and_the_next_a_second_later() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.may_write(start), None);
        assert_eq!(
            pace.may_write(start + Duration::from_millis(300)),
            Some(Duration::from_millis(700))
        );
        assert_eq!(pace.may_write(start + Duration::from_millis(1000)), None);
    }
}
