//! Records of archives that a runner has found without one, as after the loss of a cluster. Pure.
//!
//! The newest run's word counts. The record of an archive that this policy has stored is its slot's own; of one that another
//! policy has stored it has another name, so that it never is a fence. Two steps, as the API server takes a status only of
//! what is there: the record is made, then it is told what was found. Whatever is killed in between, the next look goes on.

use super::super::{build::build_found_record, dereference::Observed};
use super::is_terminal;
use chrono::NaiveDate;
use kube::ResourceExt;
use std::{collections::BTreeSet, sync::Arc};
use valerix_crds::{
    Backup, BackupPhase, BackupStatus, FoundArchive, UploadState,
    backup_runner::{found_name, human_size, record_name},
};

/// Why a record says that it is stored, although no run of it has.
const FOUND: &str = "Found";

/// What is to be done about one archive.
#[derive(Clone, Debug, PartialEq)]
pub enum Rebuild {
    /// Its record is made.
    Create(Box<Backup>),
    /// Its record is told what was found, if it still is as it was judged.
    Tell {
        /// The record.
        record: Arc<Backup>,
        /// What it is to say.
        status: Box<BackupStatus>,
    },
}

impl Rebuild {
    /// Name of the record that is told.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Create(_) => None,
            Self::Tell { record, .. } => Some(record.name_any()),
        }
    }
}

/// What is to be done about the archives that the newest run has found, of the policy `(namespace, name, uid)`.
pub fn found((namespace, name, uid): (&str, &str, &str), observed: &Observed) -> Vec<Rebuild> {
    let began = |status: &BackupStatus| status.found.is_some() || status.started_at.is_some();
    let newest = observed.records.iter().rev().find_map(|record| {
        let status = record.status.as_ref().filter(|status| began(status))?;
        Some((record.spec.slot.as_str(), status.found.as_ref()))
    });
    let Some((today, Some(found))) = newest else {
        return Vec::new();
    };
    let removed: BTreeSet<&str> = observed
        .records
        .iter()
        .filter_map(|record| record.status.as_ref()?.retention.as_ref())
        .flat_map(|retention| retention.removed.iter().map(String::as_str))
        .collect();
    let of_archive = |archive: &FoundArchive| {
        let slot: NaiveDate = archive.slot.parse().ok()?;
        let ours = archive.policy_uid == uid;
        if ours && (removed.contains(archive.slot.as_str()) || archive.slot.as_str() >= today) {
            return None;
        }
        let record = if ours {
            record_name(name, slot)
        } else {
            found_name(name, slot)
        };
        let mut known = observed.records.iter().chain(&observed.strangers);
        match known.find(|known| known.name_any() == record) {
            None => {
                let record = build_found_record(namespace, name, &record, archive);
                Some(Rebuild::Create(Box::new(record)))
            }
            Some(known) if is_open(known, archive) => Some(Rebuild::Tell {
                record: known.clone(),
                status: Box::new(told(archive)),
            }),
            Some(_) => None,
        }
    };
    found.archives.iter().filter_map(of_archive).collect()
}

/// Whether a record of this archive's policy tells of no archive, and no run of its slot is left that could.
fn is_open(record: &Backup, archive: &FoundArchive) -> bool {
    let status = record.status.clone().unwrap_or_default();
    let over = is_terminal(status.phase) || status.phase == BackupPhase::Scheduled;
    record.spec.policy_ref.uid == archive.policy_uid
        && over
        && matches!(status.upload.state, UploadState::None | UploadState::Unknown)
}

fn told(archive: &FoundArchive) -> BackupStatus {
    let bytes = archive.upload.bytes.unwrap_or_default();
    let read = !archive.databases.is_empty();
    BackupStatus {
        phase: BackupPhase::Completed,
        reason: Some(FOUND.into()),
        message: Some(format!(
            "{}, found as {} and stored by the policy of UID {}{}",
            human_size(bytes),
            archive.upload.key.as_deref().unwrap_or_default(),
            archive.policy_uid,
            if read { "" } else { "; what it holds was not read" },
        )),
        completed_at: Some(archive.made_at),
        databases: archive.databases.clone(),
        verified: read.then(|| "Local".into()),
        size: Some(human_size(bytes)),
        upload: valerix_crds::Upload {
            state: UploadState::Completed,
            ..archive.upload.clone()
        },
        ..BackupStatus::default()
    }
}

/// The fields that telling a record writes.
pub fn told_patch(record: &Backup, status: &BackupStatus) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"uid": record.uid(), "resourceVersion": record.resource_version()},
        "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const POLICY: (&str, &str, &str) = ("shop", "shop", "policy-uid");

    fn record(name: &str, slot: &str, uid: &str, status: &Value) -> Arc<Backup> {
        let record = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": name},
            "spec": {"policyRef": {"name": "shop", "uid": uid}, "slot": slot, "scheduledAt": format!("{slot}T02:15:00Z")},
            "status": status,
        });
        Arc::new(serde_json::from_value(record).unwrap())
    }

    fn archive(slot: &str, uid: &str) -> Value {
        json!({
            "slot": slot, "policyUID": uid, "madeAt": format!("{slot}T02:16:00Z"),
            "upload": {"state": "Completed", "key": format!("shop/shop/{}.tar.zst", slot.replace('-', "")),
                       "bucket": "archives", "sha256": "ab".repeat(32), "bytes": 2048},
        })
    }

    /// What is done about archives that the run of the 21st has found, beside these records.
    fn done(archives: &[Value], retention: &Value, mut records: Vec<Arc<Backup>>) -> Vec<String> {
        let found = json!({"message": "found", "archives": archives});
        let status = json!({"phase": "Completed", "startedAt": "2026-08-21T02:15:00Z", "upload": {"state": "Completed"},
            "found": found, "retention": retention});
        records.push(record("shop-20260821", "2026-08-21", "policy-uid", &status));
        records.push(record(
            "shop-20260822",
            "2026-08-22",
            "policy-uid",
            &json!({"phase": "Scheduled"}),
        ));
        let strangers = records
            .extract_if(.., |record| record.spec.policy_ref.uid != "policy-uid")
            .collect();
        records.sort_by(|left, right| left.spec.slot.cmp(&right.spec.slot));
        let observed = Observed {
            records,
            strangers,
            ..Observed::default()
        };
        let word = |rebuild: &Rebuild| match rebuild {
            Rebuild::Create(record) => format!("create {} of {}", record.name_any(), record.spec.policy_ref.uid),
            Rebuild::Tell { record, status } => format!("tell {} {:?}", record.name_any(), status.phase),
        };
        found_words(&observed, word)
    }

    fn found_words(observed: &Observed, word: impl Fn(&Rebuild) -> String) -> Vec<String> {
        found(POLICY, observed).iter().map(word).collect()
    }

    #[test]
    fn an_archive_of_ours_gets_its_slots_record_and_one_of_another_policy_a_name_that_is_no_fence() {
        let archives = [
            archive("2026-08-20", "policy-uid"),
            archive("2026-08-21", "lost"),
            archive("2026-08-19", "lost"),
        ];
        assert_eq!(
            done(&archives, &Value::Null, vec![]),
            [
                "create shop-20260820 of policy-uid",
                "create shop-20260821-found of lost",
                "create shop-20260819-found of lost",
            ]
        );
        let made = json!({"phase": "Scheduled"});
        let records = vec![
            record("shop-20260820", "2026-08-20", "policy-uid", &json!({"phase": "Missed"})),
            record("shop-20260821-found", "2026-08-21", "lost", &made),
        ];
        assert_eq!(
            done(&archives, &Value::Null, records),
            [
                "tell shop-20260820 Completed",
                "tell shop-20260821-found Completed",
                "create shop-20260819-found of lost",
            ]
        );
    }

    #[test]
    fn nothing_is_said_of_a_record_that_is_told_at_work_or_somebody_elses() {
        let archives = [archive("2026-08-20", "policy-uid")];
        for (uid, status, expected) in [
            (
                "policy-uid",
                json!({"phase": "Completed", "upload": {"state": "Completed"}}),
                false,
            ),
            (
                "policy-uid",
                json!({"phase": "Uploading", "upload": {"state": "Started"}}),
                false,
            ),
            (
                "policy-uid",
                json!({"phase": "Dumping", "upload": {"state": "None"}}),
                false,
            ),
            (
                "earlier",
                json!({"phase": "Failed", "upload": {"state": "None"}}),
                false,
            ),
            (
                "policy-uid",
                json!({"phase": "Failed", "upload": {"state": "None"}}),
                true,
            ),
            (
                "policy-uid",
                json!({"phase": "Unknown", "upload": {"state": "Unknown"}}),
                true,
            ),
        ] {
            let known = record("shop-20260820", "2026-08-20", uid, &status);
            let done = done(&archives, &Value::Null, vec![known]);
            assert_eq!(!done.is_empty(), expected, "{uid} {status} {done:?}");
        }
    }

    #[test]
    fn what_was_removed_since_or_is_of_a_day_to_come_gets_no_record() {
        let removed = json!({"healthy": true, "message": "", "removed": ["2026-08-20"]});
        let archives = [
            archive("2026-08-20", "policy-uid"),
            archive("2026-08-21", "policy-uid"),
            archive("2026-08-30", "policy-uid"),
        ];
        assert_eq!(done(&archives, &removed, vec![]), Vec::<String>::new());
        // Retention names archives of its own only.
        assert_eq!(
            done(&[archive("2026-08-20", "lost")], &removed, vec![]),
            ["create shop-20260820-found of lost"]
        );
    }

    #[test]
    fn a_later_run_that_found_nothing_has_the_last_word() {
        let archives = [archive("2026-08-19", "lost")];
        let later = record(
            "shop-20260822",
            "2026-08-22",
            "policy-uid",
            &json!({"phase": "Dumping", "startedAt": "2026-08-22T02:15:00Z"}),
        );
        assert_eq!(done(&archives, &Value::Null, vec![]).len(), 1);
        let mut observed = Observed::default();
        let status = json!({"phase": "Completed", "startedAt": "2026-08-21T02:15:00Z", "found": {"message": "", "archives": archives}});
        observed.records = vec![record("shop-20260821", "2026-08-21", "policy-uid", &status), later];
        assert_eq!(found(POLICY, &observed), []);
    }
}
