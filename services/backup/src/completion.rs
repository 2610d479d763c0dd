//! What a record says once it is known what lies under its key: of this slot, and of earlier ones that were left open.

use crate::{
    archive::Digest,
    decision::Stored,
    destination::Destination,
    failure::Failure,
    leftovers::abort_left,
    manifest::Manifest,
    record::{MAX_MESSAGE, Record, database_status},
    settings::Settings,
};
use chrono::{DateTime, Days, NaiveDate, Utc};
use valerix_crds::{
    BackupDatabaseStatus, BackupPhase, BackupStatus, ConditionalWrites, Upload, UploadState,
    backup_runner::{human_size, record_name},
};

/// How many days back writes that were left open are settled.
const SETTLED_DAYS: u64 = 14;

/// What a record says of a stored archive.
pub(crate) struct Completion {
    digest: Digest,
    databases: Vec<BackupDatabaseStatus>,
    /// When its run began, where the record does not know.
    started_at: Option<DateTime<Utc>>,
    completed_at: DateTime<Utc>,
    conditional_writes: Option<ConditionalWrites>,
}

impl Completion {
    /// Of an archive that this pod has made.
    pub(crate) fn of_mine(digest: &Digest, databases: Vec<BackupDatabaseStatus>) -> Self {
        Self {
            digest: digest.clone(),
            databases,
            started_at: None,
            completed_at: Utc::now(),
            conditional_writes: None,
        }
    }

    /// Of an archive that was found: it tells itself what it holds, and how old its data are.
    pub(crate) fn of_found(digest: &Digest, manifest: &Manifest) -> Self {
        Self {
            digest: digest.clone(),
            databases: manifest.databases.iter().map(database_status).collect(),
            started_at: manifest.databases.iter().map(|member| member.started_at).min(),
            completed_at: manifest.created_at,
            conditional_writes: None,
        }
    }

    /// With what the object store made of the condition not to overwrite, where it was seen.
    pub(crate) fn with(self, conditional_writes: Option<ConditionalWrites>) -> Self {
        Self {
            conditional_writes,
            ..self
        }
    }

    /// Makes the archive's name durable, and then says on the record that it is stored.
    pub(crate) async fn put(&self, record: &Record, destination: &Destination, slot: NaiveDate) -> Result<(), Failure> {
        destination.make_durable(slot).await?;
        let bytes = i64::try_from(self.digest.bytes).unwrap_or(i64::MAX);
        let place = destination.place(slot);
        let key = &place.key;
        record
            .update(|status| {
                if status.upload.state == UploadState::Completed {
                    return None;
                }
                let mut next = status.clone();
                next.phase = BackupPhase::Completed;
                next.reason = Some("Stored".into());
                next.message = Some(format!(
                    "{} databases, {}, stored as {key}",
                    self.databases.len(),
                    human_size(bytes)
                ));
                next.started_at = self.started_at.or(next.started_at);
                next.completed_at = Some(self.completed_at);
                next.databases.clone_from(&self.databases);
                next.verified = Some("Local".into());
                next.size = Some(human_size(bytes));
                next.upload.state = UploadState::Completed;
                next.upload.conditional_writes = self.conditional_writes.or(next.upload.conditional_writes);
                place.clone().put(&mut next.upload);
                next.upload.sha256 = Some(self.digest.sha256.clone());
                next.upload.bytes = Some(bytes);
                Some(next)
            })
            .await
            .map_err(Failure::Record)?;
        tracing::info!(key, sha256 = self.digest.sha256, bytes, "stored");
        Ok(())
    }
}

/// Writes that earlier days left open are settled by what lies on the destination, which only a runner can read. What hinders
/// that is logged: today's archive comes first.
pub(crate) async fn settle_earlier_slots(settings: &Settings, record: &Record, destination: &Destination) {
    let shared = &settings.arguments.shared;
    for days in 1..=SETTLED_DAYS {
        let Some(slot) = settings.slot.checked_sub_days(Days::new(days)) else {
            break;
        };
        let record = record.named(&record_name(&shared.policy, slot));
        if let Err(error) = settle_earlier_slot(&shared.policy_uid, slot, &record, destination).await {
            tracing::warn!(%slot, %error, "failed to settle an earlier slot");
        }
    }
}

async fn settle_earlier_slot(
    policy_uid: &str,
    slot: NaiveDate,
    record: &Record,
    destination: &Destination,
) -> Result<(), Failure> {
    let found = record.find().await.map_err(Failure::Record)?;
    let Some(found) = found.filter(|found| found.spec.policy_ref.uid == policy_uid) else {
        return Ok(());
    };
    let status = found.status.unwrap_or_default();
    let upload = status.upload;
    let is_used = upload.state == UploadState::Completed;
    abort_left(record, destination, &status.open_uploads, is_used).await;
    let left_open = matches!(upload.state, UploadState::Started | UploadState::Unknown)
        && upload
            .started_at
            .is_none_or(|at| Utc::now() - at > destination.left_open_after());
    if !left_open {
        return Ok(());
    }
    let place = destination.place(slot);
    let (stored, manifest) = destination.look(slot, None).await?;
    let failure = match stored {
        Stored::Ours(digest) => {
            let Some(manifest) = manifest else { return Ok(()) };
            tracing::info!(%slot, "an earlier slot's archive is stored and its record did not say so");
            let completion = Completion::of_found(&digest, &manifest);
            return completion.put(record, destination, slot).await;
        }
        Stored::Absent if place.is_of(&upload) => return put_not_stored(record, destination, slot, &upload).await,
        Stored::Absent => elsewhere(&upload),
        Stored::Damaged { why } => Failure::StoredDamaged { key: place.key, why },
        Stored::Foreign { why } => Failure::SlotTaken { key: place.key, why },
        Stored::Unreadable { why, passing } => {
            return Err(Failure::Unreadable {
                key: place.key,
                why,
                fenced: true,
                passing,
            });
        }
    };
    put_unsettled(record, &upload, &failure).await
}

/// Why what lies here says nothing of a write that was to go elsewhere.
pub(crate) fn elsewhere(upload: &Upload) -> Failure {
    let unsaid = || "unknown".to_owned();
    Failure::Uncertain {
        key: upload.key.clone().unwrap_or_else(unsaid),
        why: format!(
            "a run that did not end was about to store it on {}, and spec.destination has changed since: set it back to have this day settled",
            match (&upload.claim_name, &upload.bucket) {
                (Some(claim), _) => format!("claim {claim}"),
                (None, Some(bucket)) => format!("bucket {bucket}"),
                (None, None) => unsaid(),
            }
        ),
    }
}

/// What hinders an earlier slot from being settled, on its record: only somebody who reads it can help.
async fn put_unsettled(record: &Record, upload: &Upload, failure: &Failure) -> Result<(), Failure> {
    tracing::warn!(reason = failure.category(), "an earlier slot stays open: {failure}");
    record
        .update(|status| {
            if status.upload != *upload {
                return None;
            }
            let mut next = status.clone();
            next.phase = failure.phase().unwrap_or(next.phase);
            if next.phase == BackupPhase::Unknown {
                next.upload.state = UploadState::Unknown;
            }
            next.reason = Some(failure.category().to_owned());
            next.message = Some(failure.to_string().chars().take(MAX_MESSAGE).collect());
            next.completed_at = next.completed_at.or_else(|| Some(Utc::now()));
            Some(next)
        })
        .await
        .map(|_| ())
        .map_err(Failure::Record)
}

/// Nothing lies under the key. A holder's unfinished file is taken away, so that by that hold nothing ever will; a holder
/// of a bucket's key is gone.
async fn put_not_stored(
    record: &Record,
    destination: &Destination,
    slot: NaiveDate,
    upload: &Upload,
) -> Result<(), Failure> {
    let holder = upload.pod_uid.clone().unwrap_or_default();
    destination.withdraw(slot, &holder).await?;
    if destination.look(slot, None).await?.0 != Stored::Absent {
        return Ok(());
    }
    record
        .update(|status| {
            (status.upload == *upload).then(|| BackupStatus {
                phase: BackupPhase::Failed,
                reason: Some("NotStored".into()),
                message: Some(
                    "a run was about to store its archive and did not: nothing lies on the destination".into(),
                ),
                upload: Upload::default(),
                ..status.clone()
            })
        })
        .await
        .map(|_| ())
        .map_err(Failure::Record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{destination::Site, s3::Reach};
    use std::time::Duration;
    use valerix_crds::{DestinationChoice, VolumeClaimDestination};

    /// The folders of processes can be opened and not be made durable.
    #[tokio::test]
    async fn a_name_that_is_not_durable_is_not_stored_however_often_it_is_asked() {
        let slot = NaiveDate::from_ymd_opt(2026, 8, 21).unwrap();
        let destination = Destination::new(Site {
            choice: DestinationChoice::VolumeClaim(VolumeClaimDestination {
                claim_name: "backups".into(),
                path: None,
            }),
            namespace: "self".into(),
            policy: "fd".into(),
            policy_uid: "u".into(),
            slot,
            pod_uid: "p".into(),
            volume_folder: "/proc".into(),
            reach: Reach {
                credentials: "/nonexistent".into(),
                authority: "/nonexistent".into(),
                patience: Duration::ZERO,
                renewal: Duration::ZERO,
                max_object: 1,
                part: 1,
            },
        });
        // Nobody listens: a word to the record would fail otherwise.
        let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = kube::Client::try_from(nobody).unwrap();
        let record = Record::new(client, "shop", "nightly-20260821", Duration::ZERO);
        let digest = Digest {
            sha256: "0".into(),
            bytes: 1,
        };
        let completion = Completion::of_mine(&digest, Vec::new());
        let failure = completion.put(&record, &destination, slot).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Uncertain { why, .. } if why.contains("failed to fsync")),
            "{failure}"
        );
        assert_eq!(failure.phase(), Some(BackupPhase::Unknown));
    }
}
