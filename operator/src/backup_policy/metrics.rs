//! What Prometheus is told of backups: the alert `time() - valerix_backup_last_success_timestamp_seconds > 26 h` does not
//! depend on the operator's own judgement.

use super::status::last_trial;
use crate::runtime::metrics::Metrics;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};
use std::sync::Arc;
use valerix_crds::{Backup, BackupPhase, BackupPolicy, BackupPolicyStatus, TrialRestore};

const LABELS: [&str; 2] = ["namespace", "policy"];
/// Names and texts of the gauges, in the order of [`values`].
const GAUGES: [(&str, &str); 6] = [
    (
        "valerix_backup_last_success_timestamp_seconds",
        "When the newest archive of a BackupPolicy was stored, in seconds since the epoch; before the first, when the policy was made, so that an alert on its age counts from there.",
    ),
    (
        "valerix_backup_archive_bytes",
        "Size of the newest archive of a BackupPolicy.",
    ),
    (
        "valerix_backup_archives",
        "Archives of a BackupPolicy that its records tell of.",
    ),
    (
        "valerix_backup_duration_seconds",
        "How long the run took that stored the newest archive of a BackupPolicy.",
    ),
    (
        "valerix_backup_verified_timestamp_seconds",
        "When the newest archive of a BackupPolicy was stored that a trial restore has verified, in seconds since the epoch; before the first, when the policy was made, if verification.restore is on.",
    ),
    (
        "valerix_backup_restore_seconds",
        "How long fetching and restoring took in the last trial restore of a BackupPolicy.",
    ),
];

/// Gauges per policy, computed from status and records, so that a restart loses nothing. Users make few policies, so their
/// names may be labels.
#[derive(Clone)]
pub struct BackupMetrics {
    gauges: Vec<Option<IntGaugeVec>>,
    deletions: Option<IntCounterVec>,
}

impl BackupMetrics {
    /// Registers the gauges.
    pub fn new(metrics: &Metrics) -> Self {
        let gauge = |(name, help): (&str, &str)| {
            let registered = IntGaugeVec::new(Opts::new(name, help), &LABELS)
                .and_then(|gauge| metrics.registry().register(Box::new(gauge.clone())).map(|()| gauge));
            registered
                .inspect_err(|error| tracing::warn!(%error, name, "failed to register a metric"))
                .ok()
        };
        // The only thing that is left of a policy that is gone.
        let deletions = Opts::new(
            "valerix_backup_deletions_total",
            "Deleted BackupPolicies with deletionPolicy Delete, by what became of their archives: Removed, Left where not all could be removed, Retained where the namespace was deleted with them.",
        );
        let deletions = IntCounterVec::new(deletions, &["outcome"])
            .and_then(|counter| metrics.registry().register(Box::new(counter.clone())).map(|()| counter));
        Self {
            gauges: GAUGES.into_iter().map(gauge).collect(),
            deletions: deletions
                .inspect_err(|error| tracing::warn!(%error, "failed to register the counter of deletions"))
                .ok(),
        }
    }

    /// Counts a policy that is gone, by what became of its archives.
    pub fn deleted(&self, outcome: &str) {
        if let Some(deletions) = &self.deletions {
            deletions.with_label_values(&[outcome]).inc();
        }
    }

    /// Tells of one policy that was made at `created`, with its records, oldest first. What is not known is not told.
    pub fn set(
        &self,
        policy: &BackupPolicy,
        created: DateTime<Utc>,
        status: &BackupPolicyStatus,
        records: &[Arc<Backup>],
    ) {
        let verification = policy.spec.verification.as_ref();
        let is_tried = verification.is_some_and(|verification| verification.restore != TrialRestore::Off);
        let labels = [policy.namespace().unwrap_or_default(), policy.name_any()];
        for (gauge, value) in self.gauges.iter().zip(values(created, is_tried, status, records)) {
            let Some(gauge) = gauge else { continue };
            match value {
                Some(value) => gauge.with_label_values(&labels).set(value),
                // Not there means that it was never told.
                None => drop(gauge.remove_label_values(&labels)),
            }
        }
    }

    /// Forgets a policy that is gone.
    pub fn forget(&self, namespace: &str, policy: &str) {
        for gauge in self.gauges.iter().flatten() {
            let _ = gauge.remove_label_values(&[namespace, policy]);
        }
    }
}

fn values(
    created: DateTime<Utc>,
    is_tried: bool,
    status: &BackupPolicyStatus,
    records: &[Arc<Backup>],
) -> [Option<i64>; 6] {
    let stored = || {
        let newest_first = records.iter().rev().filter_map(|record| record.status.as_ref());
        newest_first.filter(|status| status.phase == BackupPhase::Completed)
    };
    let success = status.last_success.as_ref();
    let duration = stored()
        .next()
        .and_then(|status| Some((status.completed_at? - status.started_at?).num_seconds()));
    let verified = stored().find(|status| status.verified.as_deref() == Some("Restored"));
    [
        Some(success.map_or(created, |success| success.time).timestamp()),
        Some(success.map(|success| success.bytes).unwrap_or_default()),
        i64::try_from(stored().count()).ok(),
        duration.filter(|seconds| *seconds >= 0),
        // Trials that never found anything out must not stay unseen.
        verified
            .and_then(|status| status.completed_at)
            .or(is_tried.then_some(created))
            .map(|time| time.timestamp()),
        last_trial(records).and_then(|(_, trial)| trial.restore_seconds),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(slot: &str, status: Value) -> Arc<Backup> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": slot},
                "spec": {"policyRef": {"name": "shop", "uid": "u"}, "slot": slot, "scheduledAt": "2026-08-20T00:00:00Z"},
                "status": status,
            }))
            .unwrap(),
        )
    }

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let created = DateTime::from_timestamp(1000, 0).unwrap();
        let none = BackupPolicyStatus::default();
        assert_eq!(
            values(created, false, &none, &[]),
            [Some(1000), Some(0), Some(0), None, None, None]
        );
        assert_eq!(values(created, true, &none, &[])[4], Some(1000));
        let stored = |started: i64, ended: i64, verified: &str, seconds: Value| {
            json!({
                "phase": "Completed", "verified": verified,
                "startedAt": DateTime::from_timestamp(started, 0), "completedAt": DateTime::from_timestamp(ended, 0),
                "verification": {"state": "Restored", "restoreSeconds": seconds},
            })
        };
        let records = [
            record("2026-08-18", stored(2000, 2007, "Restored", json!(3))),
            record("2026-08-19", stored(3000, 3042, "Local", json!(4))),
            record(
                "2026-08-20",
                json!({"phase": "Failed", "startedAt": "2026-08-20T00:00:00Z"}),
            ),
        ];
        for is_tried in [false, true] {
            assert_eq!(
                values(created, is_tried, &none, &records)[2..],
                [Some(2), Some(42), Some(2007), Some(4)]
            );
        }
        // An alert on its age counts from the policy while no trial has found anything out.
        assert_eq!(values(created, true, &none, &records[1..])[4], Some(1000));
        assert_eq!(values(created, false, &none, &records[1..])[4], None);
    }
}
