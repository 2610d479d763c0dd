//! What a record says once it is known what lies under its key: of this slot, and of earlier ones that were left open.

use crate::{
    archive::Digest, decision::Stored, destination::Destination, failure::Failure, manifest::Manifest,
    prepare::database_status, record::Record, settings::Settings,
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
    let arguments = &settings.arguments;
    for days in 1..=SETTLED_DAYS {
        let Some(slot) = settings.slot.checked_sub_days(Days::new(days)) else {
            break;
        };
        let record = record.named(&record_name(&arguments.policy, slot));
        if let Err(error) = settle_earlier_slot(&arguments.policy_uid, slot, &record, destination).await {
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
    let upload = found.status.unwrap_or_default().upload;
    let left_open = matches!(upload.state, UploadState::Started | UploadState::Unknown)
        && upload
            .started_at
            .is_none_or(|at| Utc::now() - at > destination.left_open_after());
    if !left_open {
        return Ok(());
    }
    match destination.look(slot, None).await? {
        (Stored::Ours(digest), Some(manifest)) => {
            tracing::info!(%slot, "an earlier slot's archive is stored and its record did not say so");
            Completion::of_found(&digest, &manifest)
                .put(record, destination, slot)
                .await
        }
        (Stored::Absent, _) if destination.place(slot).is_of(&upload) => {
            put_not_stored(record, destination, slot, &upload).await
        }
        _ => Ok(()),
    }
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
