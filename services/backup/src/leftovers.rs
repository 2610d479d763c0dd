//! Uploads in parts that nobody completes any more: a pod was killed before its one write, or another one's counts. Their
//! parts lie at the store, where nobody sees them and somebody pays for them.
//!
//! In: what a record says was begun for it, which makes it this policy's by its UID. Out: what is certainly over is aborted
//! and leaves the record. What hinders it is logged, and the next run tries again.

use crate::{destination::Destination, record::Record};
use chrono::Utc;
use valerix_crds::{BackupStatus, OpenUpload};

/// The most uploads that a record remembers.
const MOST: usize = 16;

/// Aborts those that are over: all of them once the slot `is_used`, else those that are older than any pod.
pub(crate) async fn abort_left(record: &Record, destination: &Destination, begun: &[OpenUpload], is_used: bool) {
    let mut gone = Vec::new();
    for upload in begun {
        if !is_used && Utc::now() - upload.started_at <= destination.left_open_after() {
            continue;
        }
        match destination.abort(upload).await {
            Ok(true) => gone.push(upload.id.as_str()),
            // It is in another bucket: whoever sets spec.destination back has it aborted.
            Ok(false) => {}
            Err(error) => tracing::warn!(key = upload.key, %error, "failed to abort an upload that nobody completes"),
        }
    }
    if gone.is_empty() {
        return;
    }
    let written = record.update(|status| {
        let mut next = status.clone();
        next.open_uploads.retain(|upload| !gone.contains(&upload.id.as_str()));
        Some(next)
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "failed to say on the record that an upload is aborted");
    }
}

/// The status with one more upload that was begun.
pub(crate) fn with_begun(status: &BackupStatus, begun: &OpenUpload) -> BackupStatus {
    let mut next = status.clone();
    if !next.open_uploads.contains(begun) {
        next.open_uploads.push(begun.clone());
        let surplus = next.open_uploads.len().saturating_sub(MOST);
        next.open_uploads.drain(..surplus);
    }
    next
}
