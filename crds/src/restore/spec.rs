//! What the user writes to have databases given back.

use super::status::RestoreStatus;
use crate::duration::is_duration;
use crate::{BackupDestination, BackupScratch, Duration, ResourceRequirements, SecretReference};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which archive is restored, whereto, and what becomes of what is there.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "resilience.valerix.io",
    version = "v1alpha1",
    kind = "Restore",
    plural = "restores",
    shortname = "rst",
    category = "valerix",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    doc = "Gives databases of one stored archive back, once: checked, under a name of their own, and swapped in only when everything holds.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.source.policyRef.name"),
    printcolumn(name = "Slot", type_ = "string", json_path = ".status.source.slot"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Tables", type_ = "integer", json_path = ".status.tables"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 52").message("metadata.name must have at most 52 characters: its Jobs add to it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must hold only a-z, 0-9 and '-'")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("spec of a Restore never changes: it is carried out once; make another Restore"),
    validation = Rule::new("(self.mode == 'ReplaceDatabase') == has(self.replace)").message("replace belongs to mode ReplaceDatabase and to no other: write both or neither"),
    validation = Rule::new("self.mode != 'ReplaceDatabase' || has(self.target.adminSecretRef)").message("target.adminSecretRef must be set with mode ReplaceDatabase: only a role that may create databases and end sessions can swap them"),
    validation = Rule::new("self.mode != 'ReplaceDatabase' || (has(self.databases) && self.databases.size() == 1)").message("databases must name exactly one database with mode ReplaceDatabase: make one Restore for each"),
    validation = Rule::new("!has(self.databases) || self.databases.all(one, self.databases.exists_one(other, (has(other.__as__) ? other.__as__ : other.name) == (has(one.__as__) ? one.__as__ : one.name)))").message("databases must not give two of them one name on the server: databases[].as, or databases[].name where that is not set"),
    validation = Rule::new("self.mode != 'ReplaceDatabase' || !has(self.replace) || !has(self.databases) || self.databases.size() != 1 || self.replace.confirm == (has(self.databases[0].__as__) ? self.databases[0].__as__ : self.databases[0].name)").message("replace.confirm must repeat the name of the database that is replaced: databases[0].as, or databases[0].name where that is not set")
)]
pub struct RestoreSpec {
    /// Which archive. Required.
    pub source: RestoreSource,
    /// The server that gets the databases. Required.
    pub target: RestoreTarget,
    /// Which databases of the archive. Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub databases: Vec<RestoreDatabase>,
    /// Create makes the roles of the archive that the server lacks, without passwords: every role of the server that the databases were on. What gives power over the whole server (SUPERUSER, CREATEROLE, REPLICATION, BYPASSRLS, membership in a superuser) is left out and named. Skip makes none. Default: Skip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<RestoreRoles>,
    /// NewDatabase makes databases that are not there yet; ReplaceDatabase puts one in the place of a living one. Default: NewDatabase.
    #[serde(default)]
    pub mode: RestoreMode,
    /// What mode ReplaceDatabase needs. Default: none, required with that mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Replace>,
    /// Room for the archive and one dump of it while it is restored. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<BackupScratch>,
    /// What the Job may use. Default: the values inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<RestoreJob>,
}

/// Which archive; exactly one of policyRef and archive.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.policyRef) != has(self.archive)").message("source must name exactly one of policyRef and archive"),
    validation = Rule::new("!has(self.archive) || !has(self.select)").message("source.select belongs to source.policyRef: remove it beside source.archive"),
    validation = Rule::new("has(self.slot) == (has(self.select) && self.select == 'Slot')").message("source.slot belongs to select Slot and to no other: write both or neither")
)]
pub struct RestoreSource {
    /// A BackupPolicy of the same namespace, by whose records the archive is found. The policy itself may be gone. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<PolicyName>,
    /// Which of the policy's stored archives: the newest, the newest that a trial restore has verified, or that of one slot. Default: Latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<RestoreSelect>,
    /// The day, `yyyy-mm-dd`, with select Slot. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 10),
        regex(pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")
    )]
    pub slot: Option<String>,
    /// An archive by its place, for a cluster that has no records of it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<StoredArchive>,
    /// Secret of the same namespace whose key key.txt, the file that age-keygen writes, holds a private key that opens an encrypted archive. Default: encryption.identitySecretRef of the policy that policyRef names, while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret_ref: Option<SecretReference>,
}

/// Name of a BackupPolicy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyName {
    /// Name of the BackupPolicy. Required.
    #[schemars(length(min = 1, max = 52), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// Which of a policy's archives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum RestoreSelect {
    /// The newest that is stored.
    #[default]
    Latest,
    /// The newest that was restored and compared.
    LatestVerified,
    /// That of the day in `slot`.
    Slot,
}

/// An archive by its place.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredArchive {
    /// Where it lies. Required.
    pub destination: BackupDestination,
    /// Its whole key: the path from the volume's root, or the name of the object, for example `shop/nightly/20260821.tar.zst`. Required.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(part, part == '..')").message("key must be a path below the destination: no leading '/' and no '..'"))]
    pub key: String,
    /// sha256 that it must have, lower-case hex. Default: none, what its own manifest says is checked all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
}

/// The server that gets the databases. The keys of both Secrets are those of a BackupPolicy's; dbname is the database that the runner connects to for its work (default `postgres`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTarget {
    /// Secret of the same namespace with the role that restores, and that owns everything whose own role is not there. Without adminSecretRef it must be allowed to create databases. Required.
    pub connection_secret_ref: SecretReference,
    /// Secret of the same namespace with a role of the same server that may create databases, act for their owners and end sessions: a superuser, or one with CREATEDB, pg_signal_backend and membership in the owners. Default: none, required with mode ReplaceDatabase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_secret_ref: Option<SecretReference>,
}

/// One database of the archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreDatabase {
    /// Its name in the archive: that of the policy. Required.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its name on the server: of the new database, or of the one that is replaced. Default: its name in the archive.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub target: Option<String>,
}

/// What becomes of the roles in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum RestoreRoles {
    /// None is made.
    #[default]
    Skip,
    /// Those that the server lacks are made.
    Create,
}

/// What becomes of what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestoreMode {
    /// Nothing that is there is touched; a name that exists is refused.
    #[default]
    NewDatabase,
    /// The living database is kept aside under another name and the restored one takes its name.
    ReplaceDatabase,
}

/// What mode ReplaceDatabase needs.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replace {
    /// The name of the database that is replaced, once more. Required.
    #[schemars(length(min = 1, max = 63))]
    pub confirm: String,
    /// How long the old database is kept, closed, as `<name>_before_<yyyymmdd>`; then it is dropped. Unit: duration. Default: 168h, from 1h to 2160h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1h') && duration(self) <= duration('2160h')")).message("keepPrevious must be from 1h to 2160h"))]
    pub keep_previous: Option<Duration>,
}

impl RestoreDatabase {
    /// Its name on the server.
    pub fn target(&self) -> &str {
        self.target.as_deref().unwrap_or(&self.name)
    }
}

/// What the Job may use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RestoreJob {
    /// CPU and memory of the runner. Default: requests of 50m and 64Mi, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How long a run may take. Unit: duration. Default: 2h, at most 20h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1s') && duration(self) <= duration('20h')")).message("deadline must be from 1s to 20h: a run that hangs must not eat the next day"))]
    pub deadline: Option<Duration>,
}
