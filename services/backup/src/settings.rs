//! The runner's environment, read once. Pure: in are arguments, out is what this run is about.

use crate::s3::{MAX_OBJECT, Reach, parts::PART};
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use std::{path::PathBuf, str::FromStr, time::Duration};
use valerix_crds::{BackupPolicySpec, DestinationChoice, backup_runner};

/// How far the clocks of two years' time zone data may be apart.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(90);

/// The environment of the pod, as the operator writes it. Flags exist for a run at the desk.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "backup",
    version,
    about = "Dumps the databases of one BackupPolicy into one checked archive."
)]
pub struct Arguments {
    /// Whose pod this is, and where the archives are.
    #[command(flatten)]
    pub shared: PolicyArguments,
    /// Name of this pod's Job; its number is the slot's scheduled time.
    #[arg(long, env = backup_runner::JOB_NAME_ENV)]
    pub job_name: String,
    /// Folder with one folder per database, named by its place in the list.
    #[arg(long, env = "VALERIX_BACKUP_CONNECTIONS_FOLDER", default_value = backup_runner::CONNECTIONS_FOLDER)]
    pub connections_folder: PathBuf,
    /// Folder for dumps and the archive while they are made.
    #[arg(long, env = "VALERIX_BACKUP_SCRATCH_FOLDER", default_value = backup_runner::SCRATCH_FOLDER)]
    pub scratch_folder: PathBuf,
    /// Folder with one folder per PostgreSQL major version, each with `bin/pg_dump` and `bin/pg_restore`.
    #[arg(long, env = "VALERIX_BACKUP_CLIENT_FOLDER", default_value = "/usr/lib/postgresql")]
    pub client_folder: PathBuf,
    /// How long another pod that passed the fence is given to store its archive. Unit: seconds.
    #[arg(long, env = "VALERIX_BACKUP_SETTLE_SECONDS", default_value_t = 20)]
    pub settle_seconds: u64,
}

/// What every pod of a policy is told, whatever it is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct PolicyArguments {
    /// Name of the BackupPolicy.
    #[arg(long, env = backup_runner::POLICY_ENV)]
    pub policy: String,
    /// UID of the BackupPolicy.
    #[arg(long, env = backup_runner::POLICY_UID_ENV)]
    pub policy_uid: String,
    /// The policy's spec as JSON.
    #[arg(long, env = backup_runner::SPEC_ENV)]
    pub spec: String,
    /// Namespace of the policy.
    #[arg(long, env = backup_runner::NAMESPACE_ENV)]
    pub namespace: String,
    /// UID of this pod.
    #[arg(long, env = backup_runner::POD_UID_ENV)]
    pub pod_uid: String,
    /// Where the destination's volume is mounted.
    #[arg(long, env = "VALERIX_BACKUP_DESTINATION_FOLDER", default_value = backup_runner::DESTINATION_FOLDER)]
    pub destination_folder: PathBuf,
    /// How a bucket is reached.
    #[command(flatten)]
    pub s3: S3Arguments,
    /// Form of the log: json or text.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: String,
}

/// How a bucket is reached.
#[derive(Clone, Debug, clap::Args)]
pub struct S3Arguments {
    /// Folder with the Secret of a bucket's credentials.
    #[arg(long, env = "VALERIX_BACKUP_S3_CREDENTIALS_FOLDER", default_value = backup_runner::S3_CREDENTIALS_FOLDER)]
    pub s3_credentials_folder: PathBuf,
    /// Folder with the Secret of a store's authority.
    #[arg(long, env = "VALERIX_BACKUP_S3_AUTHORITY_FOLDER", default_value = backup_runner::S3_AUTHORITY_FOLDER)]
    pub s3_authority_folder: PathBuf,
    /// How long a request to a store may take beyond the time that its bytes need. Unit: seconds.
    #[arg(long, env = "VALERIX_BACKUP_S3_REQUEST_SECONDS", default_value_t = 60)]
    pub s3_request_seconds: u64,
    /// How long after a bucket's credentials have expired new ones in their Secret are waited for: a kubelet brings them within a
    /// minute and a half. Unit: seconds.
    #[arg(long, env = "VALERIX_BACKUP_S3_RENEWAL_SECONDS", default_value_t = 90)]
    pub s3_renewal_seconds: u64,
    /// The most that one PutObject takes; what is larger is sent in parts. Unit: bytes.
    #[arg(long, env = "VALERIX_BACKUP_S3_MAX_OBJECT_BYTES", default_value_t = MAX_OBJECT)]
    pub s3_max_object_bytes: u64,
    /// A part of what is larger. Unit: bytes.
    #[arg(long, env = "VALERIX_BACKUP_S3_PART_BYTES", default_value_t = PART)]
    pub s3_part_bytes: u64,
}

impl S3Arguments {
    /// As the bucket wants them.
    pub fn reach(&self) -> Reach {
        Reach {
            credentials: self.s3_credentials_folder.clone(),
            authority: self.s3_authority_folder.clone(),
            patience: Duration::from_secs(self.s3_request_seconds),
            renewal: Duration::from_secs(self.s3_renewal_seconds),
            max_object: self.s3_max_object_bytes,
            part: self.s3_part_bytes,
        }
    }
}

/// What this run is about.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The arguments as they came.
    pub arguments: Arguments,
    /// The policy's spec.
    pub spec: BackupPolicySpec,
    /// Where the archive goes.
    pub destination: DestinationChoice,
    /// The civil date that this run stands for.
    pub slot: NaiveDate,
    /// By how much the Job's time misses the policy's, where the time zone data of the CronJob controller and of this
    /// image differ.
    pub off_time: TimeDelta,
    /// Name of the slot's record.
    pub record_name: String,
    /// How long the run may take.
    pub deadline: Duration,
}

/// The environment is not one that the operator writes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec does not parse.
    #[error("failed to read the policy's spec from {}", backup_runner::SPEC_ENV)]
    Spec {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The uploads that are to be aborted do not parse.
    #[error("failed to read uploads in parts from {}", backup_runner::OPEN_UPLOADS_ENV)]
    OpenUploads {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The name of the Job carries no slot.
    #[error(
        "failed to read a scheduled time from the Job's name `{job_name}`: it must be `{policy}-<minutes since the epoch>`, as the CronJob controller names it"
    )]
    JobName {
        /// The Job's name.
        job_name: String,
        /// The CronJob's name.
        policy: String,
    },
    /// The zone is not in the database.
    #[error("failed to find the zone schedule.timeZone `{zone}`")]
    Zone {
        /// The zone.
        zone: String,
    },
    /// The policy names no destination.
    #[error("failed to find exactly one of destination.s3 and destination.volumeClaim in the policy's spec")]
    Destination,
    /// The deadline is not a duration.
    #[error("failed to read job.deadline")]
    Deadline {
        /// Why.
        #[source]
        source: valerix_crds::InvalidDuration,
    },
}

impl Settings {
    /// Reads the arguments.
    ///
    /// # Errors
    /// If they are not what the operator writes.
    pub fn new(arguments: Arguments) -> Result<Self, Error> {
        let (spec, destination, deadline) = read_spec(&arguments.shared.spec)?;
        let policy = &arguments.shared.policy;
        let scheduled_at = backup_runner::scheduled_at(policy, &arguments.job_name).ok_or_else(|| Error::JobName {
            job_name: arguments.job_name.clone(),
            policy: policy.clone(),
        })?;
        let zone = Tz::from_str(&spec.schedule.time_zone).map_err(|_| Error::Zone {
            zone: spec.schedule.time_zone.clone(),
        })?;
        let (slot, off_time) = slot(scheduled_at, &zone, &spec.schedule.time_of_day);
        Ok(Self {
            record_name: backup_runner::record_name(policy, slot),
            deadline,
            arguments,
            spec,
            destination,
            slot,
            off_time,
        })
    }
}

/// A policy's spec as it comes, where it stores, and how long its Job may take.
pub(crate) fn read_spec(text: &str) -> Result<(BackupPolicySpec, DestinationChoice, Duration), Error> {
    let spec: BackupPolicySpec = serde_json::from_str(text).map_err(|source| Error::Spec { source })?;
    let destination = spec.destination.choice().ok_or(Error::Destination)?;
    let deadline = match spec.job.as_ref().and_then(|job| job.deadline.as_ref()) {
        Some(deadline) => deadline.value().map_err(|source| Error::Deadline { source })?,
        None => Duration::from_secs(backup_runner::DEFAULT_DEADLINE_SECONDS),
    };
    let longest = Duration::from_secs(backup_runner::MAX_DEADLINE_SECONDS);
    Ok((spec, destination, deadline.min(longest)))
}

/// The civil date of the Job's time in the zone. Where that time misses the policy's time of day by no more than the
/// clocks of two years' time zone data differ, the date of the time that was meant: else a midnight run would count for
/// the day before, all season long.
fn slot(scheduled_at: DateTime<Utc>, zone: &Tz, time_of_day: &str) -> (NaiveDate, TimeDelta) {
    let date = backup_runner::slot(scheduled_at, zone);
    let Ok(time) = NaiveTime::parse_from_str(time_of_day, "%H:%M") else {
        return (date, TimeDelta::zero());
    };
    [
        date.checked_sub_days(Days::new(1)),
        Some(date),
        date.checked_add_days(Days::new(1)),
    ]
    .into_iter()
    .flatten()
    .filter_map(|day| {
        let meant = zone.from_local_datetime(&day.and_time(time)).earliest()?;
        Some((day, scheduled_at - meant.to_utc()))
    })
    .filter(|(_, off_time)| off_time.abs() <= CLOCK_TOLERANCE)
    .min_by_key(|(_, off_time)| off_time.abs())
    .unwrap_or((date, TimeDelta::zero()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn arguments(job_name: &str, time_zone: &str) -> Arguments {
        let spec = serde_json::json!({
            "schedule": {"timeOfDay": "01:30", "timeZone": time_zone},
            "databases": [{"name": "orders", "connectionSecretRef": {"name": "orders-db"}}],
            "destination": {"volumeClaim": {"claimName": "backups"}},
        });
        Arguments::parse_from([
            "backup",
            "--policy",
            "shop",
            "--policy-uid",
            "u",
            "--namespace",
            "shop",
            "--pod-uid",
            "p",
            "--job-name",
            job_name,
            "--spec",
            &spec.to_string(),
        ])
    }

    #[test]
    fn the_slot_is_the_date_in_the_policys_zone() {
        // 2026-08-21T23:30:00Z is already the 22nd in Berlin.
        let minutes = DateTime::parse_from_rfc3339("2026-08-21T23:30:00Z")
            .unwrap()
            .timestamp()
            / 60;
        let settings = Settings::new(arguments(&format!("shop-{minutes}"), "Europe/Berlin")).unwrap();
        assert_eq!(settings.record_name, "shop-20260822");
        let settings = Settings::new(arguments(&format!("shop-{minutes}"), "Etc/UTC")).unwrap();
        assert_eq!(settings.record_name, "shop-20260821");
    }

    #[test]
    fn a_job_of_other_time_zone_data_stands_for_the_day_that_was_meant() {
        let zone = Tz::America__Asuncion;
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        // Paraguay keeps summer time since 2024 (UTC-3): who does not know it yet counts midnight as 04:00 UTC, and who
        // does meets a controller that does not.
        let midnight = zone
            .from_local_datetime(&day("2026-07-02").and_hms_opt(0, 0, 0).unwrap())
            .unwrap()
            .to_utc();
        for (minutes, expected) in [
            (0, "2026-07-02"),
            (60, "2026-07-02"),
            (-60, "2026-07-02"),
            (-120, "2026-07-01"),
        ] {
            let (slot, off_time) = slot(midnight + TimeDelta::minutes(minutes), &zone, "00:00");
            assert_eq!(slot, day(expected), "{minutes}");
            let told = if minutes.abs() <= 60 { minutes } else { 0 };
            assert_eq!(off_time, TimeDelta::minutes(told));
        }
        // An edited time of day is no question of clocks.
        let (found, off_time) = slot(at("2026-08-21T15:00:00Z"), &Tz::Etc__UTC, "22:00");
        assert_eq!((found, off_time), (day("2026-08-21"), TimeDelta::zero()));
    }

    #[test]
    fn a_job_that_is_not_the_cron_jobs_is_refused() {
        let error = Settings::new(arguments("shop-manual", "Etc/UTC")).unwrap_err();
        assert!(error.to_string().contains("`shop-manual`"), "{error}");
        let error = Settings::new(arguments("shop-1", "Mars/Olympus")).unwrap_err();
        assert!(error.to_string().contains("Mars/Olympus"), "{error}");
    }
}
