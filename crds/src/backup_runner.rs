//! What the operator and the backup runner agree on: environment, mounts, exit codes, names of records and Jobs.
//!
//! Pure. The operator writes a pod with these names, the runner reads them; neither depends on the other.

use crate::S3Destination;
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use serde::{Deserialize, Serialize};

/// What a Backup's `status.reason` may say, and what it means: the runner's words, then the operator's.
pub const REASONS: [(&str, &str); 27] = [
    (
        "InvalidConfiguration",
        "The policy's spec or the Job's environment is not one that can be carried out; the message names the field.",
    ),
    (
        "SecretInvalid",
        "A Secret of a database or of the bucket, or a key of it, is missing or wrong, or the bucket's credentials have expired.",
    ),
    (
        "DatabaseRefused",
        "The server refuses the connection: role, password, name of the database.",
    ),
    (
        "CertificateNotTrusted",
        "The certificate of the server or of the store is not trusted.",
    ),
    ("DatabaseUnreachable", "The server did not answer until the deadline."),
    (
        "ClientUnsuitable",
        "The server is newer than every PostgreSQL client of the runner's image.",
    ),
    ("DumpFailed", "pg_dump failed; the message has its words."),
    (
        "DumpImplausible",
        "The dump is much smaller than the last one, or has too few tables. Nothing was stored.",
    ),
    (
        "ArchiveDamaged",
        "The archive does not read as it was written, or one that was stored reads no more.",
    ),
    (
        "ArchiveTooLarge",
        "The archive is larger than what one object of a bucket takes.",
    ),
    (
        "ScratchFailed",
        "The scratch folder could not hold the archive, or could not be used.",
    ),
    (
        "DestinationRefused",
        "The store understood and refused. Nothing was stored.",
    ),
    (
        "DestinationFailed",
        "The volume or the store could not take the archive.",
    ),
    (
        "DestinationUnreadable",
        "What lies at the destination could not be read.",
    ),
    (
        "RecordUnavailable",
        "The Backup could not be read or written; the Job tries again.",
    ),
    ("RecordTaken", "The day's Backup belongs to another policy."),
    (
        "SlotTaken",
        "Something else lies under the day's key. It was not touched.",
    ),
    (
        "UploadUncertain",
        "Whether the archive is stored could not be found out; the next run settles it.",
    ),
    ("Interrupted", "The pod was asked to end; the Job tries again."),
    ("DeadlineExceeded", "job.deadline passed."),
    ("Internal", "A part of the runner died: a bug, or too little memory."),
    (
        "JobFailed",
        "The Job failed, and its runner could not say why; the message has the container's end.",
    ),
    ("JobGone", "The Job is gone, and its runner said nothing."),
    ("Missed", "No Job ran within schedule.catchUpWindow."),
    (
        "PolicyGone",
        "The policy was deleted before the day's archive was stored.",
    ),
    (
        "RunByHandFailed",
        "A run by hand failed at the day's time; the scheduled run starts by itself.",
    ),
    (
        "Found",
        "The archive lies at the destination, and no record told of it.",
    ),
];

/// Name of the BackupPolicy.
pub const POLICY_ENV: &str = "VALERIX_BACKUP_POLICY";
/// UID of the BackupPolicy: a record or an archive of another policy is never touched.
pub const POLICY_UID_ENV: &str = "VALERIX_BACKUP_POLICY_UID";
/// The policy's `spec` as JSON.
pub const SPEC_ENV: &str = "VALERIX_BACKUP_SPEC";
/// Namespace of the policy, by the downward API.
pub const NAMESPACE_ENV: &str = "VALERIX_NAMESPACE";
/// UID of the pod, by the downward API: the holder's name in the record's fence.
pub const POD_UID_ENV: &str = "VALERIX_POD_UID";
/// Name of the Job, by the downward API (label [`JOB_NAME_LABEL`]): it carries the slot.
pub const JOB_NAME_ENV: &str = "VALERIX_JOB_NAME";
/// The slot of a trial restore, `yyyy-mm-dd`.
pub const SLOT_ENV: &str = "VALERIX_BACKUP_SLOT";
/// The runner's argument that makes it restore on trial.
pub const VERIFY: &str = "verify";
/// The runner's argument that makes it remove the archives of a policy that is deleted.
pub const REMOVE: &str = "remove";
/// Uploads in parts that runs have begun and not ended, as JSON: a removal aborts them. Left out where there are none.
pub const OPEN_UPLOADS_ENV: &str = "VALERIX_BACKUP_OPEN_UPLOADS";
/// End of an archive's key.
pub const ARCHIVE: &str = ".tar.zst";
/// The region of a bucket whose policy names none.
pub const DEFAULT_REGION: &str = "us-east-1";
/// Label that the Job controller puts on the pods of a Job.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// Folder of the mounted connection Secrets; the Secret of `databases[i]` is mounted at `<folder>/<i>`, optional.
pub const CONNECTIONS_FOLDER: &str = "/var/run/valerix/connections";
/// Folder for the archive while it is made: an emptyDir.
pub const SCRATCH_FOLDER: &str = "/var/lib/valerix/scratch";
/// Where the destination's claim is mounted.
pub const DESTINATION_FOLDER: &str = "/var/lib/valerix/destination";
/// Folder of the mounted Secret with an object store's credentials, optional.
pub const S3_CREDENTIALS_FOLDER: &str = "/var/run/valerix/s3/credentials";
/// Folder of the mounted Secret with an object store's authority, optional.
pub const S3_AUTHORITY_FOLDER: &str = "/var/run/valerix/s3/authority";

/// Folder of the mounted Secret with a private key of age, optional.
pub const AGE_FOLDER: &str = "/var/run/valerix/age";
/// Key of that Secret: the file that age-keygen writes.
pub const AGE_KEY: &str = "key.txt";

/// How the runner ends. Everything in [`FINAL_EXIT_CODES`] fails the Job at once; any other failure is started again.
pub mod exit {
    /// The slot's archive is stored, by this run or an earlier one.
    pub const STORED: u8 = 0;
    /// Stopped before the fence by something that another pod may not meet: SIGTERM, the API server, a crash.
    pub const RETRY: u8 = 10;
    /// A Secret, a key, a password or a database name is wrong, or the client is older than the server.
    pub const CONFIGURATION: u8 = 20;
    /// A database could not be reached; the runner has tried several times.
    pub const UNREACHABLE: u8 = 21;
    /// pg_dump or pg_restore failed.
    pub const DUMP: u8 = 22;
    /// A dump or the archive is damaged or implausible.
    pub const REFUSED: u8 = 23;
    /// The deadline passed.
    pub const DEADLINE: u8 = 24;
    /// The scratch folder or the destination could not be written.
    pub const STORAGE: u8 = 25;
    /// It could not be found out whether the archive is stored.
    pub const UNCERTAIN: u8 = 30;
    /// Another archive lies where this slot's belongs, or the record belongs to another policy.
    pub const SLOT_TAKEN: u8 = 31;
}

/// Exit codes after which another pod would only fail again.
pub const FINAL_EXIT_CODES: [u8; 8] = [
    exit::CONFIGURATION,
    exit::UNREACHABLE,
    exit::DUMP,
    exit::REFUSED,
    exit::DEADLINE,
    exit::STORAGE,
    exit::UNCERTAIN,
    exit::SLOT_TAKEN,
];

/// How long a run may take when the policy does not say. Unit: seconds.
pub const DEFAULT_DEADLINE_SECONDS: u64 = 2 * 60 * 60;
/// The longest that a run may take, so that a hanging one does not eat the next day. Unit: seconds.
pub const MAX_DEADLINE_SECONDS: u64 = 20 * 60 * 60;

/// The civil date, in the policy's zone, of a scheduled time.
pub fn slot<Zone: TimeZone>(scheduled_at: DateTime<Utc>, zone: &Zone) -> NaiveDate {
    scheduled_at.with_timezone(zone).date_naive()
}

/// Name of a slot's record, `<policy>-<yyyymmdd>`.
pub fn record_name(policy: &str, slot: NaiveDate) -> String {
    format!("{policy}-{}", slot.format("%Y%m%d"))
}

/// Name of the record of an archive that lies under a slot's key and that another policy has stored,
/// `<policy>-<yyyymmdd>-found`: the slot's own record, which is a fence, has another.
pub fn found_name(policy: &str, slot: NaiveDate) -> String {
    format!("{}-found", record_name(policy, slot))
}

/// Name of the Job that the CronJob controller makes for a scheduled time, `<cronjob>-<minutes since the epoch>`.
pub fn job_name(cron_job: &str, scheduled_at: DateTime<Utc>) -> String {
    format!("{cron_job}-{}", scheduled_at.timestamp().div_euclid(60))
}

/// Name of the Job that restores a slot's archive on trial, `<policy>-v<yyyymmdd>`: as short as the name of a run, and
/// never one.
pub fn verification_job_name(policy: &str, slot: NaiveDate) -> String {
    format!("{policy}-v{}", slot.format("%Y%m%d"))
}

/// Name of the Job that removes the archives of a policy that is deleted, `<policy>-d<first 8 of its UID>`: a policy that
/// is made anew under the name has another.
pub fn removal_job_name(policy: &str, uid: &str) -> String {
    let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{policy}-d{}", short.to_ascii_lowercase())
}

/// The key of a slot's archive, `<prefix or path>/<namespace>/<policy>/<yyyymmdd>.tar.zst`.
pub fn archive_key(folder: Option<&str>, namespace: &str, policy: &str, slot: NaiveDate) -> String {
    let folder = folder.unwrap_or_default().trim_matches('/');
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{namespace}/{policy}/{}{ARCHIVE}", slot.format("%Y%m%d"))
}

/// The store that a destination names, as a record tells it.
pub fn store_url(destination: &S3Destination) -> String {
    match &destination.endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => {
            let region = destination.region.as_deref().unwrap_or(DEFAULT_REGION);
            format!("https://s3.{region}.amazonaws.com")
        }
    }
}

/// What a removal has come to: the pod's termination message, as JSON. One that has failed leaves it too, once it has seen
/// what lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovalReport {
    /// Archives that are gone.
    pub removed: usize,
    /// Slots whose archives are left, `yyyy-mm-dd`: nothing tells whose they are, or the removal has failed before.
    pub left: Vec<String>,
    /// Whether more are left than `left` names.
    #[serde(default)]
    pub is_cut: bool,
    /// Uploads in parts that were to be aborted and are not.
    #[serde(default)]
    pub open_uploads: usize,
    /// A sentence on it.
    pub message: String,
}

/// The scheduled time in a Job's name; `None` if the name is not one of that CronJob's.
pub fn scheduled_at(cron_job: &str, job_name: &str) -> Option<DateTime<Utc>> {
    let minutes = job_name.strip_prefix(cron_job)?.strip_prefix('-')?;
    if minutes.is_empty() || !minutes.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    DateTime::from_timestamp(minutes.parse::<i64>().ok()?.checked_mul(60)?, 0)
}

/// A size for people, for example `1.2 MiB`.
pub fn human_size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_name_carries_its_scheduled_time() {
        let at = DateTime::from_timestamp(28_306_110 * 60, 0).unwrap();
        assert_eq!(job_name("shop", at), "shop-28306110");
        assert_eq!(scheduled_at("shop", "shop-28306110"), Some(at));
        for stranger in [
            "shop",
            "shop-",
            "shop-x",
            "shop--5",
            "shop-2-28306110",
            "shop-v20260821",
            "shop-d0a1b2c3",
            "other-28306110",
            "shop-99999999999999999",
        ] {
            assert_eq!(scheduled_at("shop", stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_key_and_a_store_are_spelled_in_one_way() {
        let slot = NaiveDate::from_ymd_opt(2026, 8, 21).unwrap();
        for (folder, expected) in [
            (None, "shop/nightly/20260821.tar.zst"),
            (Some("/"), "shop/nightly/20260821.tar.zst"),
            (Some("/pg/eu/"), "pg/eu/shop/nightly/20260821.tar.zst"),
        ] {
            assert_eq!(archive_key(folder, "shop", "nightly", slot), expected);
        }
        for (destination, expected) in [
            (serde_json::json!({}), "https://s3.us-east-1.amazonaws.com"),
            (
                serde_json::json!({"region": "eu-north-1"}),
                "https://s3.eu-north-1.amazonaws.com",
            ),
            (
                serde_json::json!({"endpoint": "http://minio:9000/"}),
                "http://minio:9000",
            ),
        ] {
            let mut whole = serde_json::json!({"bucket": "b", "credentialsSecretRef": {"name": "store"}});
            let fields = destination.as_object().unwrap().clone();
            whole.as_object_mut().unwrap().extend(fields);
            assert_eq!(store_url(&serde_json::from_value(whole).unwrap()), expected);
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_258_291, "1.2 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
