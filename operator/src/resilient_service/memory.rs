//! What is remembered of each service between two reconciles: pacing only. Losing it costs nothing but haste.

use super::{mounts::Mounts, nudge::Pacing, unresolved::Resolved};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::{
    collections::{HashMap, VecDeque},
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

/// So many times in this window are a contest; then the replicas are left alone for the pause.
const CONTEST_ROUNDS: usize = 3;
const CONTEST_WINDOW: Duration = Duration::from_secs(300);
const CONTEST_PAUSE: Duration = Duration::from_secs(600);

/// Notes on all services.
#[derive(Default)]
pub struct Memory {
    notes: Mutex<HashMap<(String, String), Notes>>,
}

/// Notes on one service.
#[derive(Default)]
pub struct Notes {
    uid: String,
    /// The generation that was done with when this process first met the service: whatever it would change about it then
    /// is the operator's own doing. None once that stands.
    pub found: Option<i64>,
    /// Which pods were nudged when.
    pub nudges: Pacing,
    /// When the status was written last.
    pub writes: Pace,
    /// The count of ready pods that is waiting to be written.
    pub ready: Settling,
    /// Since when judgement is held back.
    pub patience: Patience,
    /// Since when the current configuration has been awaited.
    pub awaiting: Awaiting,
    /// Who else writes the Deployment's replicas.
    pub contest: Contest,
    /// What a pod waits for before its containers are made.
    pub mounts: Mounts,
    /// Which targets have a Service.
    pub resolved: Resolved,
    /// Hash of the configuration that was told to be accepted.
    pub accepted: Option<String>,
}

impl Memory {
    /// Begins to work on a service: one that was made anew starts with empty notes. Returns the UID of the one before,
    /// of which nothing else may be remembered either.
    pub fn meet(&self, service: &ResilientService) -> Option<String> {
        let uid = service.uid().unwrap_or_default();
        self.with(service, |notes| {
            let is_another = notes.uid != uid;
            let before = is_another.then(|| std::mem::take(notes).uid);
            if is_another {
                let observed = service.status.as_ref().map(|status| status.observed_generation);
                notes.found = service
                    .metadata
                    .generation
                    .filter(|generation| observed == Some(*generation));
                notes.uid = uid;
            }
            before.filter(|uid| !uid.is_empty())
        })
    }

    /// Works with the notes on a service that was met.
    pub fn with<T>(&self, service: &ResilientService, work: impl FnOnce(&mut Notes) -> T) -> T {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        let mut all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(key).or_default())
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

    /// The last one was refused or lost, and is tried again as failures are: less and less often.
    pub fn failed(&mut self) {
        self.last = None;
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

/// Since when a ready pod has been awaited to run this very configuration.
#[derive(Debug, Default)]
pub struct Awaiting {
    hash: String,
    since: Option<DateTime<Utc>>,
}

impl Awaiting {
    /// Since when `hash` has been awaited of a ready pod, none if it is not. `before` is what the status knows from an
    /// earlier life of this process.
    pub fn since(
        &mut self,
        hash: &str,
        is_awaited: bool,
        before: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if self.hash != hash {
            hash.clone_into(&mut self.hash);
            self.since = None;
        }
        if !is_awaited {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(before.unwrap_or(now));
        }
        self.since
    }
}

/// Tells a single edit of the Deployment's replicas, which is put back, from somebody who writes them again and again:
/// two that undo each other's work make and kill pods without end.
#[derive(Debug, Default)]
pub struct Contest {
    /// The number that is asked for.
    asked: Option<i32>,
    /// Whether the Deployment has had it.
    has_stood: bool,
    put_back: VecDeque<Instant>,
    yielded_at: Option<Instant>,
}

impl Contest {
    /// Notes what is asked for and what the Deployment has. Another number is asked for by the user: whoever contested
    /// the one before has not touched it yet.
    pub fn see(&mut self, asked: i32, live: Option<i32>) {
        if self.asked != Some(asked) {
            *self = Self {
                asked: Some(asked),
                ..Self::default()
            };
        }
        self.has_stood |= live == Some(asked);
    }

    /// Whether a writing that changes the replicas puts them back, and does not bring a new number.
    pub fn has_stood(&self) -> bool {
        self.has_stood
    }

    /// Notes that the replicas were put back.
    pub fn put_back(&mut self, now: Instant) {
        self.put_back.push_back(now);
        while self
            .put_back
            .front()
            .is_some_and(|at| now.duration_since(*at) >= CONTEST_WINDOW)
        {
            self.put_back.pop_front();
        }
        if self.put_back.len() >= CONTEST_ROUNDS {
            self.yielded_at = Some(now);
            self.put_back.clear();
        }
    }

    /// How long the replicas are left to whoever else writes them; none if they are ours.
    pub fn yields(&mut self, now: Instant) -> Option<Duration> {
        let left = CONTEST_PAUSE.saturating_sub(now.duration_since(self.yielded_at?));
        if left.is_zero() {
            self.yielded_at = None;
            // One more time tells whether it goes on.
            self.put_back = std::iter::repeat_n(now, CONTEST_ROUNDS - 1).collect();
            return None;
        }
        Some(left)
    }
}

/// A count that must hold for a while before it counts.
#[derive(Debug, Default)]
pub struct Settling {
    pending: Option<(u32, Instant)>,
}

impl Settling {
    /// The count to write, given what is written now, what is seen now and what is desired, and when to look again.
    ///
    /// Nobody ready is no count: pods that come up begin with the share that they will have, not with all of it.
    pub fn settle(&mut self, written: Option<u32>, seen: u32, desired: u32, now: Instant) -> (u32, Option<Duration>) {
        let Some(written) = written else {
            self.pending = None;
            return (seen.max(desired), None);
        };
        if seen == 0 || seen == written {
            self.pending = None;
            return (written, None);
        }
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
    async fn a_count_is_written_when_it_has_held_and_nobody_ready_is_no_count() {
        let mut settling = Settling::default();
        let start = Instant::now();
        let mut settle = |written, seen, second| settling.settle(written, seen, 3, start + Duration::from_secs(second));
        let seconds = |second| Some(Duration::from_secs(second));
        // Before any pod is ready each is to take the share that it will have.
        assert_eq!(settle(None, 0, 0), (3, None));
        assert_eq!(settle(None, 5, 0), (5, None));
        assert_eq!(settle(Some(3), 0, 1), (3, None));
        assert_eq!(settle(Some(3), 0, 9), (3, None));
        assert_eq!(settle(Some(3), 2, 10), (3, seconds(5)));
        assert_eq!(settle(Some(3), 1, 11), (3, seconds(5)));
        assert_eq!(settle(Some(3), 1, 15), (3, seconds(1)));
        assert_eq!(settle(Some(3), 1, 16), (1, None));
        assert_eq!(settle(Some(1), 1, 17), (1, None));
        assert_eq!(settle(Some(1), 2, 18), (1, seconds(5)));
        // Back for a moment: the wait begins anew.
        assert_eq!(settle(Some(1), 1, 21), (1, None));
        assert_eq!(settle(Some(1), 2, 22), (1, seconds(5)));
    }

    #[test]
    fn a_configuration_is_awaited_from_when_a_ready_pod_was_first_to_run_it() {
        let mut awaiting = Awaiting::default();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let mut since = |hash, is_awaited, second| awaiting.since(hash, is_awaited, None, at(second));
        assert_eq!(since("a", true, 1), Some(at(1)));
        assert_eq!(since("a", true, 50), Some(at(1)));
        // Another one before the first was there: its own time.
        assert_eq!(since("b", true, 59), Some(at(59)));
        // The image is pulled for long: nobody was ready to run it.
        assert_eq!(since("c", false, 60), None);
        assert_eq!(since("c", true, 300), Some(at(300)));
        assert_eq!(since("c", false, 301), None);
        assert_eq!(since("c", true, 500), Some(at(500)), "a new pod has its own time");
        let mut restarted = Awaiting::default();
        assert_eq!(restarted.since("c", true, Some(at(440)), at(501)), Some(at(440)));
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_that_somebody_sets_again_and_again_are_left_to_him_for_a_while() {
        let mut contest = Contest::default();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        for second in [0, 400] {
            contest.put_back(at(second));
            assert_eq!(contest.yields(at(second)), None, "a single edit is put back");
        }
        contest.put_back(at(415));
        contest.put_back(at(430));
        assert_eq!(contest.yields(at(430)), Some(CONTEST_PAUSE));
        assert_eq!(contest.yields(at(1029)), Some(Duration::from_secs(1)));
        assert_eq!(contest.yields(at(1030)), None);
        contest.put_back(at(1030));
        assert!(
            contest.yields(at(1031)).is_some(),
            "it goes on: one write in ten minutes"
        );
        assert_eq!(contest.yields(at(2000)), None);
        assert_eq!(contest.yields(at(2400)), None);
        contest.put_back(at(2400));
        assert_eq!(contest.yields(at(2400)), None, "it had ended");
    }

    #[tokio::test(start_paused = true)]
    async fn another_number_is_contested_by_nobody_yet() {
        let mut contest = Contest::default();
        let now = Instant::now();
        contest.see(2, Some(1));
        assert!(!contest.has_stood(), "it was only just asked for");
        contest.see(2, Some(2));
        contest.see(2, Some(4));
        assert!(contest.has_stood());
        (0..CONTEST_ROUNDS).for_each(|_| contest.put_back(now));
        contest.see(2, Some(4));
        assert_eq!(contest.yields(now), Some(CONTEST_PAUSE));
        contest.see(20, Some(4));
        assert_eq!(contest.yields(now), None);
        assert!(!contest.has_stood());
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
        assert_eq!(memory.meet(&service), None);
        assert_eq!([may_write(&service), may_write(&service)], [true, false]);
        assert_eq!(memory.meet(&service), None);
        assert!(!may_write(&service));
        service.metadata.uid = Some("another".into());
        assert_eq!(memory.meet(&service).as_deref(), Some("uid-of-order"));
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
        pace.failed();
        assert_eq!(pace.may_write(start + Duration::from_millis(1500)), None);
    }
}
