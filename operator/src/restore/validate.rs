//! Second step: the Restore as a plan that can be carried out, or why it cannot. Pure.

use super::{dereference::Observed, error::Error};
use crate::{backup_policy::job::Runner, runtime::Violation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;
use valerix_crds::{
    Backup, BackupDestination, BackupPhase, Restore, RestoreSelect, RestoreSpec, SecretReference, UploadState,
    VolumeClaimDestination, backup_runner,
    restore_runner::{MAX_NAME_BYTES, SourceArchive},
};

/// What a Backup says of an archive that a trial restore has verified.
const VERIFIED: &str = "Restored";

/// A Restore that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name of the Restore.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID of the Restore.
    pub uid: String,
    /// The reference that the children carry.
    pub owner: OwnerReference,
    /// The specification.
    pub spec: RestoreSpec,
    /// The archive.
    pub source: SourceArchive,
    /// How long the Job may take. Unit: seconds.
    pub deadline_seconds: i64,
    /// The runner.
    pub runner: Runner,
}

/// Checks what the schema cannot, and chooses the archive.
///
/// # Errors
/// Which field is wrong and what to write instead, or what is waited for.
pub fn validate(restore: &Restore, observed: &Observed, runner: &Runner) -> Result<Plan, Error> {
    check_names(restore)?;
    let deadline = deadline(restore)?;
    let source = SourceArchive {
        identity_secret_ref: identity(restore, observed),
        ..choose(restore, observed)?
    };
    plan(restore, source, deadline, runner)
}

/// The Secret that the Restore names, else that of the policy.
fn identity(restore: &Restore, observed: &Observed) -> Option<SecretReference> {
    let of_policy = || {
        let encryption = observed.policy.as_ref()?.spec.encryption.as_ref()?;
        encryption.identity_secret_ref.clone()
    };
    restore.spec.source.identity_secret_ref.clone().or_else(of_policy)
}

/// The plan of the Job that drops what was replaced: it needs no archive.
///
/// # Errors
/// As [`validate`].
pub fn validate_drop(restore: &Restore, runner: &Runner) -> Result<Plan, Error> {
    let source = SourceArchive {
        destination: BackupDestination::default(),
        key: String::new(),
        sha256: None,
        slot: None,
        policy_uid: None,
        identity_secret_ref: None,
    };
    plan(restore, source, deadline(restore)?, runner)
}

fn plan(restore: &Restore, source: SourceArchive, deadline: u64, runner: &Runner) -> Result<Plan, Error> {
    if runner.image.is_empty() {
        return Err(Error::NoImage);
    }
    Ok(Plan {
        name: restore.name_any(),
        namespace: restore.namespace().unwrap_or_default(),
        uid: restore.uid().unwrap_or_default(),
        owner: restore
            .controller_owner_ref(&())
            .ok_or_else(|| invalid("metadata.uid", "it is not there yet", "wait"))?,
        spec: restore.spec.clone(),
        source,
        deadline_seconds: i64::try_from(deadline).unwrap_or(i64::MAX),
        runner: runner.clone(),
    })
}

fn invalid(field: &str, message: &str, remedy: &str) -> Error {
    Error::Invalid {
        source: Violation::new(field, message, remedy),
    }
}

fn deadline(restore: &Restore) -> Result<u64, Error> {
    let given = restore.spec.job.as_ref().and_then(|job| job.deadline.as_ref());
    let seconds = match given {
        Some(deadline) => deadline
            .value()
            .map_err(|error| invalid("spec.job.deadline", &error.to_string(), "write for example 2h"))?
            .as_secs(),
        None => backup_runner::DEFAULT_DEADLINE_SECONDS,
    };
    if seconds == 0 || seconds > backup_runner::MAX_DEADLINE_SECONDS {
        return Err(invalid(
            "spec.job.deadline",
            "a Job that hangs must end",
            "write more than 0s and at most 20h",
        ));
    }
    Ok(seconds)
}

fn check_names(restore: &Restore) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for (index, database) in restore.spec.databases.iter().enumerate() {
        let field = format!("spec.databases[{index}].as");
        let target = database.target();
        if target.len() > MAX_NAME_BYTES {
            return Err(invalid(
                &field,
                &format!("it has {} bytes and PostgreSQL keeps {MAX_NAME_BYTES}", target.len()),
                "write a shorter name",
            ));
        }
        if target.chars().any(char::is_control) {
            return Err(invalid(&field, "it holds a control character", "write another name"));
        }
        if !seen.insert(target) {
            return Err(invalid(
                &field,
                &format!("two databases would be called {target}"),
                "write another name",
            ));
        }
    }
    Ok(())
}

/// The archive that is meant.
fn choose(restore: &Restore, observed: &Observed) -> Result<SourceArchive, Error> {
    let source = &restore.spec.source;
    if let Some(archive) = &source.archive {
        return Ok(SourceArchive {
            destination: archive.destination.clone(),
            key: archive.key.clone(),
            sha256: archive.sha256.clone(),
            slot: None,
            policy_uid: None,
            identity_secret_ref: None,
        });
    }
    let policy = source.policy_ref.as_ref().map(|policy| policy.name.as_str());
    let Some(policy) = policy else {
        return Err(invalid(
            "spec.source",
            "it names no archive",
            "write policyRef or archive",
        ));
    };
    let stored: Vec<&Backup> = observed
        .records
        .iter()
        .map(|record| &**record)
        .filter(|record| is_stored(record))
        .collect();
    let select = source.select.unwrap_or_default();
    let chosen = match select {
        RestoreSelect::Latest => newest(&stored, |_| true),
        RestoreSelect::LatestVerified => newest(&stored, |record| {
            let verified = record.status.as_ref().and_then(|status| status.verified.as_deref());
            verified == Some(VERIFIED)
        }),
        RestoreSelect::Slot => newest(&stored, |record| Some(&record.spec.slot) == source.slot.as_ref()),
    };
    let record = chosen.ok_or_else(|| Error::NoArchive {
        why: match (&observed.policy, observed.records.is_empty()) {
            (None, true) => format!(
                "there is no BackupPolicy {policy} in this namespace, and no Backup of one of that name: is spec.source.policyRef.name right? An archive by its place is named in spec.source.archive"
            ),
            _ => none_chosen(policy, select, source.slot.as_deref(), &stored),
        },
    })?;
    of_record(record, policy, observed)
}

fn is_stored(record: &Backup) -> bool {
    record
        .status
        .as_ref()
        .is_some_and(|status| status.phase == BackupPhase::Completed && status.upload.state == UploadState::Completed)
}

fn newest<'a>(records: &[&'a Backup], wanted: impl Fn(&Backup) -> bool) -> Option<&'a Backup> {
    let wanted = records.iter().copied().filter(|record| wanted(record));
    wanted.max_by(|left, right| left.spec.slot.cmp(&right.spec.slot))
}

fn none_chosen(policy: &str, select: RestoreSelect, slot: Option<&str>, stored: &[&Backup]) -> String {
    let mut slots: Vec<_> = stored.iter().map(|record| record.spec.slot.as_str()).collect();
    slots.sort_unstable();
    slots.reverse();
    let there_are = match slots.as_slice() {
        [] => "no record tells of a stored archive".to_owned(),
        slots => format!("there are archives of {}", slots[..slots.len().min(5)].join(", ")),
    };
    match (select, slot) {
        (RestoreSelect::Slot, Some(slot)) => {
            format!("BackupPolicy {policy} has no stored archive of {slot}: {there_are}")
        }
        (RestoreSelect::LatestVerified, _) => {
            format!("BackupPolicy {policy} has no archive that a trial restore has verified: {there_are}")
        }
        _ => format!("BackupPolicy {policy} has no stored archive: {there_are}"),
    }
}

/// Where the archive of a record is. A claim is known by the record alone; how a bucket is reached the policy says.
fn of_record(record: &Backup, policy: &str, observed: &Observed) -> Result<SourceArchive, Error> {
    let upload = record.status.clone().unwrap_or_default().upload;
    let key = upload.key.unwrap_or_default();
    let destination = match (upload.bucket, upload.claim_name) {
        (None, claim) => BackupDestination {
            volume_claim: claim.map(|claim_name| VolumeClaimDestination { claim_name, path: None }),
            ..BackupDestination::default()
        },
        (Some(bucket), _) => {
            let named = observed.policy.as_ref().map(|policy| policy.spec.destination.clone());
            let has_it =
                |destination: &BackupDestination| destination.s3.as_ref().is_some_and(|s3| s3.bucket == bucket);
            named.filter(has_it).ok_or_else(|| Error::NoAccess {
                slot: record.spec.slot.clone(),
                bucket,
                policy: policy.to_owned(),
                key: key.clone(),
            })?
        }
    };
    Ok(SourceArchive {
        destination,
        key,
        sha256: upload.sha256,
        slot: Some(record.spec.slot.clone()),
        policy_uid: Some(record.spec.policy_ref.uid.clone()),
        identity_secret_ref: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use crate::runtime::Category;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use valerix_crds::BackupPolicy;

    fn observed(records: Vec<Value>) -> Observed {
        Observed {
            records: records
                .into_iter()
                .map(|record| Arc::new(serde_json::from_value(record).unwrap()))
                .collect(),
            ..Observed::default()
        }
    }

    fn source_of(source: Value, observed: &Observed) -> Result<SourceArchive, Error> {
        let restore = fixtures::restore(json!({"source": source}));
        validate(&restore, observed, &fixtures::runner()).map(|plan| plan.source)
    }

    #[test]
    fn the_archive_that_is_meant_is_chosen_and_what_is_none_never_is() {
        let record = fixtures::record;
        let mut verified = record("2026-08-19");
        verified["status"]["verified"] = json!("Restored");
        let mut failed = record("2026-08-22");
        failed["status"]["phase"] = json!("Failed");
        let mut unclear = record("2026-08-23");
        unclear["status"]["upload"]["state"] = json!("Started");
        let records = observed(vec![
            record("2026-08-20"),
            verified,
            failed,
            record("2026-08-21"),
            unclear,
        ]);
        let policy = json!({"name": "nightly"});
        for (source, slot) in [
            (json!({"policyRef": policy}), "2026-08-21"),
            (json!({"policyRef": policy, "select": "LatestVerified"}), "2026-08-19"),
            (
                json!({"policyRef": policy, "select": "Slot", "slot": "2026-08-20"}),
                "2026-08-20",
            ),
        ] {
            let chosen = source_of(source, &records).unwrap();
            assert_eq!(chosen.slot.as_deref(), Some(slot));
            assert_eq!(chosen.key, format!("shop/nightly/{}.tar.zst", slot.replace('-', "")));
            assert_eq!(chosen.destination.volume_claim.unwrap().claim_name, "backups");
            assert_eq!(chosen.policy_uid.as_deref(), Some("policy-uid"));
        }
        let slot = json!({"policyRef": policy, "select": "Slot", "slot": "2026-08-22"});
        let error = source_of(slot, &records).unwrap_err();
        assert_eq!(error.category(), "NoArchive");
        assert!(
            error
                .to_string()
                .contains("no stored archive of 2026-08-22: there are archives of 2026-08-21, 2026-08-20"),
            "{error}"
        );
        let error = source_of(json!({"policyRef": policy}), &observed(vec![])).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("there is no BackupPolicy nightly in this namespace"),
            "{told}"
        );
        let mut begun = observed(vec![]);
        begun.policy = Some(Arc::new(fixture_policy(&Value::Null)));
        let error = source_of(json!({"policyRef": {"name": "nightly"}}), &begun).unwrap_err();
        assert!(error.to_string().contains("no record tells"), "{error}");
    }

    fn fixture_policy(encryption: &Value) -> BackupPolicy {
        serde_json::from_value(json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "nightly"},
            "spec": {"databases": [], "encryption": encryption, "destination": {"volumeClaim": {"claimName": "backups"}}},
        }))
        .unwrap()
    }

    #[test]
    fn an_archive_is_opened_by_the_key_that_the_restore_names_or_else_its_policy() {
        let encryption = json!({"ageRecipients": [], "identitySecretRef": {"name": "of-policy"}});
        let named = json!({"policyRef": {"name": "nightly"}, "identitySecretRef": {"name": "of-restore"}});
        let plain = json!({"policyRef": {"name": "nightly"}});
        for (source, encryption, expected) in [
            (&named, &encryption, Some("of-restore")),
            (&plain, &encryption, Some("of-policy")),
            (&named, &Value::Null, Some("of-restore")),
            (&plain, &Value::Null, None),
        ] {
            let mut observed = observed(vec![fixtures::record("2026-08-21")]);
            observed.policy = Some(Arc::new(fixture_policy(encryption)));
            let restore = fixtures::restore(json!({"source": source}));
            let plan = validate(&restore, &observed, &fixtures::runner()).unwrap();
            let found = plan.source.identity_secret_ref.as_ref();
            assert_eq!(found.map(|reference| reference.name.as_str()), expected);
            let job = super::super::build::build(&plan).job.spec.unwrap();
            let mounts = job.template.spec.unwrap().containers[0].volume_mounts.clone().unwrap();
            let mounted = mounts.iter().any(|mount| mount.mount_path == backup_runner::AGE_FOLDER);
            assert_eq!(mounted, expected.is_some());
        }
    }

    #[test]
    fn an_archive_in_a_bucket_needs_somebody_who_says_how_to_reach_it() {
        let mut record = fixtures::record("2026-08-21");
        record["status"]["upload"]["claimName"] = json!(null);
        record["status"]["upload"]["bucket"] = json!("vault");
        let mut observed = observed(vec![record]);
        let source = json!({"policyRef": {"name": "nightly"}});
        let error = source_of(source.clone(), &observed).unwrap_err();
        assert_eq!(error.category(), "NoAccess");
        assert!(error.to_string().contains("source.archive"), "{error}");
        for (bucket, found) in [("another", false), ("vault", true)] {
            let policy = json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "nightly"},
                "spec": {"databases": [], "destination": {"s3": {"bucket": bucket, "credentialsSecretRef": {"name": "keys"}}}},
            });
            observed.policy = Some(Arc::new(serde_json::from_value(policy).unwrap()));
            assert_eq!(source_of(source.clone(), &observed).is_ok(), found, "{bucket}");
        }
    }

    #[test]
    fn what_only_another_restore_can_mend_is_named() {
        let records = observed(vec![fixtures::record("2026-08-21")]);
        for (spec, text) in [
            (json!({"job": {"deadline": "0s"}}), "spec.job.deadline"),
            (json!({"job": {"deadline": "20h1s"}}), "at most 20h"),
            (
                json!({"databases": [{"name": "a", "as": "ä".repeat(32)}]}),
                "spec.databases[0].as: it has 64 bytes",
            ),
            (
                json!({"databases": [{"name": "a"}, {"name": "b", "as": "a"}]}),
                "spec.databases[1].as: two databases would be called a",
            ),
            (json!({"databases": [{"name": "a", "as": "a\nb"}]}), "control character"),
        ] {
            let error = validate(&fixtures::restore(spec), &records, &fixtures::runner()).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(!error.is_retryable() && error.category() == "InvalidSpec");
        }
        let runner = Runner {
            image: String::new(),
            ..fixtures::runner()
        };
        let error = validate(&fixtures::restore(json!({})), &records, &runner).unwrap_err();
        assert_eq!(error.category(), "NoRunnerImage");
    }
}
