//! What the pods answered last, in memory: who writes a status or judges an experiment reads it here.

use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::watch;
use valerix_policy::Report;

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
    /// Since when it has not answered in time, if so. The report is what it said before.
    pub unreachable_since: Option<DateTime<Utc>>,
}

/// The newest answers of all ready pods, by pod UID; cheap to clone.
#[derive(Clone)]
pub struct ReportStore {
    reports: Arc<RwLock<HashMap<String, Arc<PodReport>>>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Default for ReportStore {
    fn default() -> Self {
        Self {
            reports: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl ReportStore {
    /// The newest answer of a pod.
    pub fn get(&self, pod_uid: &str) -> Option<Arc<PodReport>> {
        self.reports
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pod_uid)
            .cloned()
    }

    /// A receiver that is marked as changed whenever any report has changed. The number in it has no meaning.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Puts a pod's newest answer.
    pub fn put(&self, pod_uid: &str, report: PodReport) {
        let mut reports = self.reports.write().unwrap_or_else(PoisonError::into_inner);
        reports.insert(pod_uid.to_owned(), Arc::new(report));
        drop(reports);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Removes a pod that is not followed any more.
    pub fn remove(&self, pod_uid: &str) {
        let removed = self
            .reports
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(pod_uid);
        if removed.is_some() {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}
