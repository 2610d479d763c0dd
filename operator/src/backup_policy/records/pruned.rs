//! Records that go: of archives that retention has removed, and of days without one that are as old. Pure.

use super::is_terminal;
use std::{collections::BTreeSet, sync::Arc};
use valerix_crds::{Backup, BackupPhase, UploadState};

/// The records whose archives a runner says it has removed. A write whose outcome is open is never forgotten.
pub fn pruned(records: &[Arc<Backup>]) -> Vec<Arc<Backup>> {
    let removed: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| record.status.as_ref()?.retention.as_ref())
        .flat_map(|retention| retention.removed.iter().map(String::as_str))
        .collect();
    let Some(newest) = removed.last() else {
        return Vec::new();
    };
    let goes = |record: &&Arc<Backup>| {
        let status = record.status.clone().unwrap_or_default();
        let slot = record.spec.slot.as_str();
        match status.upload.state {
            UploadState::Completed => status.phase == BackupPhase::Completed && removed.contains(slot),
            UploadState::None => is_terminal(status.phase) && slot < *newest,
            UploadState::Started | UploadState::Unknown => false,
        }
    };
    records.iter().filter(goes).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_a_runner_has_removed_is_forgotten_and_what_failed_before_it() {
        let record = |slot: &str, phase: &str, upload: &str, removed: &[&str]| {
            let record = json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": slot},
                "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": format!("{slot}T02:15:00Z")},
                "status": {"phase": phase, "upload": {"state": upload}, "retention": {"healthy": true, "message": "", "removed": removed}},
            });
            Arc::new(serde_json::from_value::<Backup>(record).unwrap())
        };
        let mut records = vec![
            record("2026-08-10", "Failed", "None", &[]),
            record("2026-08-11", "Unknown", "Unknown", &[]),
            record("2026-08-12", "Completed", "Completed", &[]),
            record("2026-08-13", "Completed", "Completed", &[]),
            record("2026-08-14", "Missed", "None", &[]),
            record("2026-08-20", "Completed", "Completed", &["2026-08-11", "2026-08-13"]),
            record("2026-08-21", "Scheduled", "None", &[]),
        ];
        let slots = |records: &[Arc<Backup>]| {
            pruned(records)
                .iter()
                .map(|record| record.spec.slot.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(slots(&records), ["2026-08-10", "2026-08-13"]);
        records.remove(5);
        assert_eq!(slots(&records), Vec::<String>::new());
    }
}
