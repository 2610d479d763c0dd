//! How a run ends: what the record is told of an archive that is stored, and of one that is not.

use super::{COMPLETION_PATIENCE, Hand, INTERRUPTED_PATIENCE, Observed, RECORD_PATIENCE, Run};
use crate::{archive::Digest, completion::Completion, failure::Failure, leftovers::abort_left, record::MAX_MESSAGE};
use chrono::Utc;
use valerix_crds::{BackupPhase, Upload, UploadState};

impl Run {
    pub(super) fn never_answered(&self, upload: &Upload, open: Option<&Failure>) -> Failure {
        let heard = match open {
            Some(failure) => failure.to_string(),
            None => format!(
                "pod {} was allowed to store it and has not said how that ended",
                upload.pod_uid.as_deref().unwrap_or("unknown")
            ),
        };
        Failure::Uncertain {
            key: self.destination.place(self.settings.slot).key,
            why: format!("{heard}, and nothing lies there yet; the next day's run settles it"),
        }
    }

    /// The archive is under its key: its name is made durable, and the record says so, however long the API server takes.
    pub(super) async fn complete(&self, digest: &Digest, observed: &Observed, hand: &Hand) -> Result<(), Failure> {
        let mine = hand.prepared.as_ref().filter(|prepared| prepared.digest == *digest);
        let completion = match (mine, &observed.manifest) {
            (None, Some(manifest)) => Completion::of_found(digest, manifest),
            (mine, _) => Completion::of_mine(
                digest,
                mine.map(|prepared| prepared.databases.clone()).unwrap_or_default(),
            ),
        };
        let record = self.record.with_patience(COMPLETION_PATIENCE);
        let completion = completion.with(hand.conditional_writes);
        completion.put(&record, &self.destination, self.settings.slot).await?;
        self.destination.sweep(true).await?;
        self.abort_left(observed).await;
        Ok(())
    }

    /// The slot is used: what was begun for it beside the one that counts goes.
    pub(super) async fn abort_left(&self, observed: &Observed) {
        let begun = observed
            .record
            .status
            .as_ref()
            .map(|status| status.open_uploads.as_slice());
        abort_left(&self.record, &self.destination, begun.unwrap_or_default(), true).await;
    }

    /// Puts the reason on the record, unless another pod stored or is storing.
    pub(super) async fn report(&self, failure: &Failure) {
        if let Err(error) = self.destination.sweep(false).await {
            tracing::warn!(%error, "failed to look for what killed pods left");
        }
        if matches!(failure, Failure::RecordTaken { .. } | Failure::Record(_)) {
            return;
        }
        let patience = if matches!(failure, Failure::Interrupted) {
            INTERRUPTED_PATIENCE
        } else {
            RECORD_PATIENCE
        };
        let now = Utc::now();
        let record = self.record.with_patience(patience);
        let written = record.update(|status| {
            let free = status.upload.state == UploadState::None;
            if status.upload.state == UploadState::Completed || !(free || failure.is_about_the_key()) {
                return None;
            }
            let mut next = status.clone();
            let mut message = failure.to_string();
            // What the run had come to is the reason, where it was only ended.
            if let (Failure::Deadline { .. } | Failure::Interrupted, Some(before)) = (failure, &status.message) {
                message = format!("{message}; before that: {before}");
            }
            next.reason = Some(failure.category().to_owned());
            next.message = Some(message.chars().take(MAX_MESSAGE).collect());
            if let Some(phase) = failure.phase() {
                next.phase = phase;
                next.completed_at = Some(now);
                if phase == BackupPhase::Unknown {
                    next.upload.state = UploadState::Unknown;
                }
            }
            Some(next)
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "failed to put the reason on the record");
        }
    }
}
