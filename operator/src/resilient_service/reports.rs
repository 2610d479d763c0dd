//! What the pods answered last, in memory: who writes a status or judges an experiment reads it here.

use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::sync::watch;
use valerix_policy::Report;

/// How long a pod may hold back an answer that says nothing new.
pub const WAIT: Duration = Duration::from_secs(120);
/// A pod that has not answered for twice the wait is unreachable.
pub const UNREACHABLE: Duration = Duration::from_secs(2 * WAIT.as_secs());

/// The newest answer of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReport {
    /// Namespace of the pod.
    pub namespace: String,
    /// The ResilientService that the pod belongs to.
    pub service: String,
    /// Name of the pod.
    pub pod: String,
    /// What it said; its UID was checked against the EndpointSlice.
    pub report: Report,
    /// When it said so.
    pub received_at: DateTime<Utc>,
}

/// How well a pod can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last answered as it should, be it that nothing is new.
    pub answered_at: Option<DateTime<Utc>>,
    /// Since when every attempt has failed, and how.
    pub failing: Option<Failing>,
}

impl Contact {
    /// How long until the pod counts as unreachable if it goes on like this, zero once it does; none while it answers.
    pub fn unreachable_in(&self, now: DateTime<Utc>) -> Option<Duration> {
        let failing = self.failing.as_ref()?;
        let since = self.answered_at.unwrap_or(failing.since);
        Some(UNREACHABLE.saturating_sub((now - since).to_std().unwrap_or_default()))
    }

    /// Whether nothing that the pod said counts any more.
    pub fn is_unreachable(&self, now: DateTime<Utc>) -> bool {
        self.unreachable_in(now) == Some(Duration::ZERO)
    }
}

/// A pod that does not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: DateTime<Utc>,
    /// How the last attempt failed, at most 256 characters.
    pub error: String,
}

/// The newest answers of all followed pods, by pod UID; cheap to clone.
#[derive(Clone)]
pub struct ReportStore {
    pods: Arc<RwLock<HashMap<String, Entry>>>,
    changes: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Entry {
    report: Option<Arc<PodReport>>,
    contact: Contact,
}

impl Default for ReportStore {
    fn default() -> Self {
        Self {
            pods: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl ReportStore {
    /// The newest answer of a pod.
    pub fn get(&self, pod_uid: &str) -> Option<Arc<PodReport>> {
        self.read().get(pod_uid)?.report.clone()
    }

    /// How well a pod can be reached.
    pub fn contact(&self, pod_uid: &str) -> Contact {
        self.read()
            .get(pod_uid)
            .map(|entry| entry.contact.clone())
            .unwrap_or_default()
    }

    /// For each service, by namespace and name, when that of its followed pods answered that has been silent longest.
    pub fn oldest_answers(&self) -> BTreeMap<(String, String), DateTime<Utc>> {
        let mut oldest = BTreeMap::new();
        for entry in self.read().values() {
            if let (Some(report), Some(at)) = (&entry.report, entry.contact.answered_at) {
                let service = (report.namespace.clone(), report.service.clone());
                let known = oldest.entry(service).or_insert(at);
                *known = at.min(*known);
            }
        }
        oldest
    }

    /// A receiver that is marked as changed whenever any report has changed. The number in it has no meaning.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Puts a pod's newest answer.
    pub fn put(&self, pod_uid: &str, report: PodReport) {
        let mut pods = self.write();
        let entry = pods.entry(pod_uid.to_owned()).or_default();
        entry.contact = Contact {
            answered_at: Some(report.received_at),
            failing: None,
        };
        entry.report = Some(Arc::new(report));
        drop(pods);
        self.changed();
    }

    /// Notes that a pod answered that nothing is new; says whether that ends a row of failures.
    pub fn unchanged(&self, pod_uid: &str, at: DateTime<Utc>) -> bool {
        let mut pods = self.write();
        let entry = pods.entry(pod_uid.to_owned()).or_default();
        let before = std::mem::replace(
            &mut entry.contact,
            Contact {
                answered_at: Some(at),
                failing: None,
            },
        );
        drop(pods);
        if before.failing.is_some() {
            self.changed();
        }
        before.failing.is_some()
    }

    /// Notes that a pod did not answer as it should; says whether this is the first time in a row.
    pub fn failed(&self, pod_uid: &str, error: &str, at: DateTime<Utc>) -> bool {
        let mut pods = self.write();
        let contact = &mut pods.entry(pod_uid.to_owned()).or_default().contact;
        let error = error.chars().take(256).collect();
        if let Some(failing) = &mut contact.failing {
            failing.error = error;
            return false;
        }
        contact.failing = Some(Failing { since: at, error });
        true
    }

    /// Removes a pod that is not followed any more.
    pub fn remove(&self, pod_uid: &str) {
        if self.write().remove(pod_uid).is_some() {
            self.changed();
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Entry>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Entry>> {
        self.pods.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_in_a_row_is_told_and_any_answer_ends_the_row() {
        let store = ReportStore::default();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        assert!(store.failed("a", "refused", at(1)));
        assert!(!store.failed("a", "no answer", at(2)));
        let failing = store.contact("a").failing.unwrap();
        assert_eq!((failing.since, failing.error.as_str()), (at(1), "no answer"));
        assert!(store.unchanged("a", at(3)), "it was failing");
        assert!(!store.unchanged("a", at(3)));
        let contact = store.contact("a");
        assert_eq!((contact.answered_at, contact.failing), (Some(at(3)), None));
        assert!(store.failed("a", "refused", at(4)));
    }
}
