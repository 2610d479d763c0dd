//! What the operator and the restoring runner agree on beside [`crate::backup_runner`]: environment, names, and what
//! the runner is told of the archive.
//!
//! Pure. The folders, the way pods learn who they are and the exit codes are those of a backup.

use crate::{BackupDestination, SecretReference};
use serde::{Deserialize, Serialize};

/// The runner's argument that makes it restore.
pub const RESTORE: &str = "restore";
/// The further argument that makes it drop what a Restore has replaced.
pub const DROP_PREVIOUS: &str = "--drop-previous";

/// Name of the Restore.
pub const RESTORE_ENV: &str = "VALERIX_RESTORE";
/// UID of the Restore: another one of its name is never reported into.
pub const RESTORE_UID_ENV: &str = "VALERIX_RESTORE_UID";
/// The Restore's `spec` as JSON.
pub const SPEC_ENV: &str = "VALERIX_RESTORE_SPEC";
/// The archive as JSON, a [`SourceArchive`].
pub const SOURCE_ENV: &str = "VALERIX_RESTORE_SOURCE";

/// Folder, below that of the connections, of `target.connectionSecretRef`.
pub const CONNECTION_MOUNT: usize = 0;
/// Folder, below that of the connections, of `target.adminSecretRef`.
pub const ADMIN_MOUNT: usize = 1;

/// How long the old database is kept when the Restore does not say. Unit: seconds.
pub const DEFAULT_KEEP_PREVIOUS_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Where the archive lies and what it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceArchive {
    /// Where it lies.
    pub destination: BackupDestination,
    /// Its key: the path from the volume's root, or the name of the object.
    pub key: String,
    /// sha256 that it must have, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The day that it must be of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Whose archive it must be, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uid: Option<String>,
    /// The Secret with a key that opens it, should it be encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret_ref: Option<SecretReference>,
}

/// What the runner may give as `status.reason`, and what each means.
pub const REASONS: [(&str, &str); 19] = [
    ("Restored", "Everything is in its place."),
    (
        "InvalidConfiguration",
        "The Job's environment is not one that the operator writes.",
    ),
    (
        "SecretInvalid",
        "A Secret of spec.target or of the archive's bucket, or a key of it, is missing or wrong, or the bucket's credentials have expired.",
    ),
    (
        "ClientUnsuitable",
        "The server or the archive is newer than every PostgreSQL client of the runner's image.",
    ),
    ("DatabaseUnreachable", "The server did not answer until the deadline."),
    (
        "DatabaseRefused",
        "The server refuses the connection: role, password, certificate.",
    ),
    (
        "StatementFailed",
        "The server refused a statement; the message has its words.",
    ),
    (
        "ArchiveUnavailable",
        "The archive is not on the destination, or cannot be read.",
    ),
    (
        "ArchiveDamaged",
        "The archive is not what its record or its own manifest says. The target was not touched.",
    ),
    (
        "KeyMissing",
        "The archive is encrypted, and the Secret of spec.source.identitySecretRef holds no key that opens it. The target was not touched.",
    ),
    (
        "TargetRefused",
        "What was asked for cannot be done on this archive and this server: a name is taken or missing, the role may not, or the old database is bound to something.",
    ),
    (
        "ScratchFailed",
        "The scratch folder could not hold the archive and a dump, or could not be used.",
    ),
    ("RestoreFailed", "pg_restore failed; the message has its words."),
    (
        "RestoreDiffers",
        "Tables or rows that were restored are not those of the manifest.",
    ),
    (
        "SwapFailed",
        "The databases did not get their names; the old ones are open.",
    ),
    (
        "Interrupted",
        "The pod was asked to end; what it had begun was put back.",
    ),
    ("DeadlineExceeded", "job.deadline passed; what was begun was put back."),
    ("Internal", "A part of the runner died: a bug, or too little memory."),
    (
        "NotUndone",
        "It failed, and what it had begun could not be put back. The next pod does, and the message says how to by hand.",
    ),
];

/// Name of the Job that restores.
pub fn job_name(restore: &str) -> String {
    format!("{restore}-restore")
}

/// Name of the Job that drops what was replaced.
pub fn drop_job_name(restore: &str) -> String {
    format!("{restore}-drop")
}

/// What tells the pods of one Restore apart on the server: the end of a pod's UID.
pub fn pod_mark(pod_uid: &str) -> String {
    let mut mark: Vec<_> = pod_uid.chars().rev().take(8).collect();
    mark.reverse();
    mark.into_iter().collect()
}

/// Name under which a pod restores a database before it gets its own: `<name>_restore_<yyyymmdd>_<mark of the pod>`, cut to
/// what the server takes. Neither two Restores of one day into one name nor a pod and its heir must take each other's for
/// their own.
pub fn staged_name(target: &str, slot: &str, pod_uid: &str) -> String {
    let mark = pod_mark(pod_uid);
    with_ending(target, &format!("_restore_{}_{mark}", slot.replace('-', "")))
}

/// The mark of the pod that restores under this name.
pub fn mark_of(staged: &str) -> &str {
    staged.rsplit('_').next().unwrap_or_default()
}

/// Name that a database gets before it is dropped: `<name>_dropped_<OID>`. No other one can have it, so that whoever drops
/// this name drops the database of this OID.
pub fn dropped_name(name: &str, oid: i64) -> String {
    with_ending(name, &format!("_dropped_{oid}"))
}

/// Says to a person how to drop what had this name when it was looked at, under whichever name it has by now: who began to
/// drop it may have been kept from it between the new name and the end.
///
/// ```
/// use valerix_crds::restore_runner::drop_by_hand;
///
/// assert_eq!(
///     drop_by_hand("orders", Some(16_384)),
///     r#"DROP DATABASE IF EXISTS "orders"; DROP DATABASE IF EXISTS "orders_dropped_16384""#
/// );
/// ```
pub fn drop_by_hand(name: &str, oid: Option<i64>) -> String {
    let drop = |name: &str| format!("DROP DATABASE IF EXISTS {}", quoted(name));
    match oid {
        Some(oid) => format!("{}; {}", drop(name), drop(&dropped_name(name, oid))),
        None => format!(
            "{} (or {} followed by its OID)",
            drop(name),
            with_ending(name, "_dropped_")
        ),
    }
}

/// A name as a statement has it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Name of the database that was replaced: `<name>_before_<yyyymmdd>`, cut to what the server takes.
pub fn previous_name(target: &str, slot: &str) -> String {
    with_ending(target, &format!("_before_{}", slot.replace('-', "")))
}

/// The longest name that PostgreSQL keeps whole. Unit: bytes.
pub const MAX_NAME_BYTES: usize = 63;

fn with_ending(name: &str, ending: &str) -> String {
    let room = MAX_NAME_BYTES.saturating_sub(ending.len());
    let kept = name
        .char_indices()
        .map(|(at, character)| at + character.len_utf8())
        .take_while(|end| *end <= room)
        .last()
        .unwrap_or_default();
    format!("{}{ending}", &name[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_server_tell_what_they_are_and_fit() {
        let uid = "0b7ba2cd-5d3a-4f4e-9d6c-2f1c8a41e507";
        assert_eq!(
            staged_name("orders", "2026-08-21", uid),
            "orders_restore_20260821_8a41e507"
        );
        assert_eq!(mark_of("or_ders_restore_20260821_8a41e507"), pod_mark(uid));
        assert_eq!(dropped_name("orders", 16_384), "orders_dropped_16384");
        assert_eq!(previous_name("orders", "2026-08-21"), "orders_before_20260821");
        let long = staged_name(&"ä".repeat(31), "2026-08-21", uid);
        assert_eq!(long, format!("{}_restore_20260821_8a41e507", "ä".repeat(18)));
        assert!(long.len() <= MAX_NAME_BYTES);
    }
}
