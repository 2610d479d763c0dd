//! What Prometheus is told of backups: the alert `time() - valerix_backup_last_success_timestamp_seconds > 26 h` does not
//! depend on the operator's own judgement.

use crate::runtime::metrics::Metrics;
use chrono::{DateTime, Utc};
use prometheus::{IntGaugeVec, Opts};
use valerix_crds::BackupPolicyStatus;

const LABELS: [&str; 2] = ["namespace", "policy"];

/// Gauges per policy, computed from status, so that a restart loses nothing. Users make few policies, so their names
/// may be labels.
#[derive(Clone)]
pub struct BackupMetrics {
    last_success: Option<IntGaugeVec>,
    archive_bytes: Option<IntGaugeVec>,
}

impl BackupMetrics {
    /// Registers the gauges.
    pub fn new(metrics: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| {
            let registered = IntGaugeVec::new(Opts::new(name, help), &LABELS)
                .and_then(|gauge| metrics.registry().register(Box::new(gauge.clone())).map(|()| gauge));
            registered
                .inspect_err(|error| tracing::warn!(%error, name, "failed to register a metric"))
                .ok()
        };
        Self {
            last_success: gauge(
                "valerix_backup_last_success_timestamp_seconds",
                "When the newest archive of a BackupPolicy was stored, in seconds since the epoch; before the first, when the policy was made, so that an alert on its age counts from there.",
            ),
            archive_bytes: gauge(
                "valerix_backup_archive_bytes",
                "Size of the newest archive of a BackupPolicy.",
            ),
        }
    }

    /// Tells of one policy that was made at `created`.
    pub fn set(&self, namespace: &str, policy: &str, created: DateTime<Utc>, status: &BackupPolicyStatus) {
        let success = status.last_success.as_ref();
        let since = success.map_or(created, |success| success.time).timestamp();
        for (gauge, value) in [
            (&self.last_success, since),
            (
                &self.archive_bytes,
                success.map(|success| success.bytes).unwrap_or_default(),
            ),
        ] {
            if let Some(gauge) = gauge {
                gauge.with_label_values(&[namespace, policy]).set(value);
            }
        }
    }

    /// Forgets a policy that is gone.
    pub fn forget(&self, namespace: &str, policy: &str) {
        for gauge in [&self.last_success, &self.archive_bytes].into_iter().flatten() {
            // Not there means that it was never told.
            let _ = gauge.remove_label_values(&[namespace, policy]);
        }
    }
}
