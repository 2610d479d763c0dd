//! The record of one slot: made before anything can run for it, kept when the policy is gone.

use super::{Plan, labels};
use crate::backup_policy::slot::Slot;
use kube::api::ObjectMeta;
use valerix_crds::{Backup, BackupPolicyReference, BackupSpec, FoundArchive, backup_runner, names::SLOT_LABEL};

/// Builds the record of an archive that was found: of the policy that has stored it, and shown with the one of this name.
pub fn build_found_record(namespace: &str, policy: &str, name: &str, archive: &FoundArchive) -> Backup {
    let mut labels = labels(policy);
    labels.insert(SLOT_LABEL.to_owned(), archive.slot.clone());
    Backup {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: BackupSpec {
            policy_ref: BackupPolicyReference {
                name: policy.to_owned(),
                uid: archive.policy_uid.clone(),
            },
            slot: archive.slot.clone(),
            scheduled_at: archive.made_at,
        },
        status: None,
    }
}

/// Builds the record, without an owner reference: it says what is stored even when the policy is deleted.
pub fn build_record(plan: &Plan, slot: Slot) -> Backup {
    let mut labels = labels(&plan.name);
    labels.insert(SLOT_LABEL.to_owned(), slot.day.to_string());
    Backup {
        metadata: ObjectMeta {
            name: Some(backup_runner::record_name(&plan.name, slot.day)),
            namespace: Some(plan.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: BackupSpec {
            policy_ref: BackupPolicyReference {
                name: plan.name.clone(),
                uid: plan.uid.clone(),
            },
            slot: slot.day.to_string(),
            scheduled_at: slot.at,
        },
        status: None,
    }
}
