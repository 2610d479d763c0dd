//! What Prometheus is told of Restores.

use crate::runtime::metrics::Metrics;
use prometheus::{IntGaugeVec, Opts};
use valerix_crds::{RestorePhase, RestoreStatus};

const LABELS: [&str; 2] = ["namespace", "restore"];

/// Gauges per Restore, computed from status, so that a restart loses nothing. Users make few Restores, so their names may
/// be labels.
#[derive(Clone)]
pub struct RestoreMetrics {
    failed: Option<IntGaugeVec>,
    completed: Option<IntGaugeVec>,
}

impl RestoreMetrics {
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
            failed: gauge("valerix_restore_failed", "1 for a Restore that has failed, else 0."),
            completed: gauge(
                "valerix_restore_completed_timestamp_seconds",
                "When a Restore ended, in seconds since the epoch; 0 while it has not.",
            ),
        }
    }

    /// Tells of one Restore.
    pub fn set(&self, namespace: &str, restore: &str, status: &RestoreStatus) {
        let ended = status.completed_at.map_or(0, |at| at.timestamp());
        let failed = i64::from(status.phase == RestorePhase::Failed);
        for (gauge, value) in [(&self.failed, failed), (&self.completed, ended)] {
            if let Some(gauge) = gauge {
                gauge.with_label_values(&[namespace, restore]).set(value);
            }
        }
    }

    /// Forgets a Restore that is gone.
    pub fn forget(&self, namespace: &str, restore: &str) {
        for gauge in [&self.failed, &self.completed].into_iter().flatten() {
            // Not there means that it was never told.
            let _ = gauge.remove_label_values(&[namespace, restore]);
        }
    }
}
