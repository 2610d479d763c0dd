//! What the user writes to have databases kept.

use super::{
    destination::{BackupDestination, SecretReference},
    retention::BackupRetention,
    status::BackupPolicyStatus,
    verification::BackupVerification,
};
use crate::duration::is_duration;
use crate::{Duration, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which databases are dumped, when, and where the archive goes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "resilience.valerix.io",
    version = "v1alpha1",
    kind = "BackupPolicy",
    plural = "backuppolicies",
    shortname = "bkp",
    category = "valerix",
    namespaced,
    status = "BackupPolicyStatus",
    derive = "PartialEq",
    doc = "A daily dump of several PostgreSQL databases into one checked archive that is stored with exactly one write.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".status.summary.schedule"),
    printcolumn(name = "Last-Success", type_ = "string", json_path = ".status.lastSuccess.slot"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.summary.size"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.summary.verified"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextSlot"),
    printcolumn(name = "Stale", type_ = "string", json_path = r#".status.conditions[?(@.type=="Stale")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="LastBackupSucceeded")].message"#,
        priority = "1"
    ),
    validation = Rule::new("self.metadata.name.size() <= 52").message("metadata.name must have at most 52 characters: the CronJob carries it, and its Jobs add eleven"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must hold only a-z, 0-9 and '-'"),
    validation = Rule::new("!has(self.spec.job) || !has(self.spec.job.serviceAccountName) || self.spec.job.serviceAccountName != self.metadata.name + '-verify'").message("spec.job.serviceAccountName must not be the account of the policy's trial restores, <policy>-verify: who makes archives does not check them; name another one, or remove it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.verification) || !has(self.verification.queries) || self.verification.queries.all(query, self.databases.exists(database, database.name == query.database))").message("verification.queries: each database must be the name of one of spec.databases"))]
pub struct BackupPolicySpec {
    /// When the daily run starts. Default: the values inside.
    #[serde(default)]
    pub schedule: BackupSchedule,
    /// The databases; all must be dumped or nothing is stored. Required.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub databases: Vec<BackupDatabase>,
    /// Whether the roles of each database's server, with their memberships and settings and without their passwords, are stored beside its dump. Default: WithoutPasswords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<BackupGlobals>,
    /// How the archive is compressed. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// For whom the dumps are encrypted. Default: nobody, they are stored as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<BackupEncryption>,
    /// Where the archive goes. Required.
    pub destination: BackupDestination,
    /// Which archives stay. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<BackupRetention>,
    /// Whether stored archives are restored on trial. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<BackupVerification>,
    /// Room for the archive while it is made, and for what a trial restores. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<BackupScratch>,
    /// What the Job may use. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<BackupJob>,
    /// Starts no scheduled run while true. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// What becomes of the archives when the policy is deleted; Delete puts a finalizer on the policy, and is Retain where the namespace is deleted with it. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// The one run a day: two a day cannot be written.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupSchedule {
    /// Time of day in timeZone. A time that the zone skips or repeats within the next 400 days is refused by condition Ready. Unit: HH:MM, in quotes, since some readers of YAML take it for a number. Default: 00:00.
    #[serde(default = "midnight")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')").message("timeOfDay must be HH:MM from 00:00 to 23:59, in quotes, for example '03:15'"))]
    pub time_of_day: String,
    /// IANA zone, for example Europe/Berlin. Default: Etc/UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// How late a missed run may still start. Unit: duration. Default: 6h, less than 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!("!", is_duration!("self"), " || duration(self) < duration('24h')")).message("catchUpWindow must be less than 24h: the next day has a run of its own"), validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1m')")).message("catchUpWindow must be at least 1m: Kubernetes looks for runs that are due every ten seconds, and a shorter one may never start"))]
    pub catch_up_window: Option<Duration>,
}

impl Default for BackupSchedule {
    fn default() -> Self {
        Self {
            time_of_day: midnight(),
            time_zone: utc(),
            catch_up_window: None,
        }
    }
}

/// One database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupDatabase {
    /// Name of the dump in the archive, and the database's own name unless the Secret's key dbname says otherwise. Required.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?$")
    )]
    pub name: String,
    /// Secret of the same namespace with keys host, port (5432), dbname, username, password, sslmode, and ca.crt, the certificates that sslmode require, verify-ca and verify-full check the server's against (else the public authorities, for the last two). Required.
    pub connection_secret_ref: SecretReference,
    /// What a dump must hold to be believed. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Minimum>,
}

/// Plausibility of a dump.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Minimum {
    /// Tables with data definitions in the dump. Unit: tables. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub tables: Option<u32>,
    /// How much smaller than the last stored dump it may be. Unit: percent. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_shrink_percent: Option<u32>,
}

/// What is stored of a server beside its databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum BackupGlobals {
    /// Every role but its password.
    #[default]
    WithoutPasswords,
    /// Nothing.
    None,
}

/// Compression of the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compression {
    /// Level of zstd. Unit: zstd level. Default: 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 19))]
    pub zstd_level: Option<i32>,
}

/// Encryption of the dumps by age; the archive's manifest stays readable.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupEncryption {
    /// Public keys, as age-keygen prints them (`age1...`); the private key of any one of them gives the dumps back. Required.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 500)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^age1[02-9ac-hj-np-z]{58}$'))").message("each of ageRecipients must be a public key of age, age1 and 58 more characters: copy what age-keygen prints after 'Public key:'"))]
    pub age_recipients: Vec<String>,
    /// Secret of the same namespace whose key key.txt, the file that age-keygen writes, holds a private key: what a trial restore opens archives with, and a Restore by policyRef that names no other. No run that makes archives sees it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret_ref: Option<SecretReference>,
}

/// Room for the archive while it is made, and for what a trial restores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupScratch {
    /// The most that scratch may take: of a run its archive; of a trial what its server is filled with; of a Restore the dump of its one database as pg_dump printed it, of several ones the archive and the largest dump, where they are encrypted the encrypted dump as well. As much of the node's ephemeral-storage is requested. Unit: quantity. Default: 4Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    pub size_limit: Option<String>,
}

/// What becomes of the archives when their policy is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum DeletionPolicy {
    /// They stay, and their Backups with them.
    #[default]
    Retain,
    /// Those that name this policy by its UID are removed from the destination, and their Backups with them.
    Delete,
}

/// What the Job may use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupJob {
    /// CPU and memory of the runner. Default: requests of 50m and 64Mi, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How long a run may take. Unit: duration. Default: 2h, at most 20h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1s') && duration(self) <= duration('20h')")).message("deadline must be from 1s to 20h: a run that hangs must not eat the next day"))]
    pub deadline: Option<Duration>,
    /// ServiceAccount of the same namespace that runs are made under; it is given the rights of a run, which are to read Backups and to report into them. Default: one that the operator makes, `<policy>-backup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("serviceAccountName must be the name of a ServiceAccount of the policy's namespace: a-z, 0-9, '-' and '.', without a namespace before it"))]
    pub service_account_name: Option<String>,
}

fn midnight() -> String {
    "00:00".into()
}

fn utc() -> String {
    "Etc/UTC".into()
}
