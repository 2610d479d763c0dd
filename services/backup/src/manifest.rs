//! The archive's last member: what the archive holds and whose it is. Pure data.
//!
//! It is last so that an archive cut at a member's boundary has none, and complete so that an archive explains itself
//! without a cluster.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the member.
pub const FILE: &str = "manifest.json";
/// Version of the form below.
pub const FORMAT: u32 = 2;
/// Version of the form of an archive whose members are encrypted: who knows only the other must not take it for damaged.
pub const ENCRYPTED_FORMAT: u32 = 3;
/// The oldest version that is still understood: one without roles.
pub const OLDEST_FORMAT: u32 = 1;

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this form.
    pub format: u32,
    /// Whose archive it is.
    pub policy: Owner,
    /// The day that it stands for.
    pub slot: NaiveDate,
    /// UID of the pod that wrote it.
    pub run_id: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Version of the runner.
    pub runner_version: String,
    /// For whom the members are encrypted, if they are. The manifest never is: it tells which key is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The dumps, in the order of the policy and of the archive.
    pub databases: Vec<Member>,
}

/// For whom members are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// Public keys of age; the private key of any of them opens every member.
    pub recipients: Vec<String>,
}

/// A member as it is in the archive: compressed by zstd and encrypted by age. What stands beside this is of the plain one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Name of the member.
    pub file: String,
    /// sha256 of the member, lower-case hex.
    pub sha256: String,
    /// Size of the member. Unit: bytes.
    pub bytes: u64,
}

/// The policy that an archive belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID: a policy of the same name that was made anew is another one.
    pub uid: String,
}

/// One dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the database in the policy.
    pub name: String,
    /// Name of the member.
    pub file: String,
    /// sha256 of the member, lower-case hex.
    pub sha256: String,
    /// Size of the member. Unit: bytes.
    pub bytes: u64,
    /// Tables with data definitions.
    pub tables: u64,
    /// Rows of each table, as counted in the dump itself.
    pub rows: BTreeMap<String, u64>,
    /// The member, where it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// The roles of its server, where the policy asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<Globals>,
    /// Version of the server.
    pub server_version: String,
    /// Version of pg_dump.
    pub client_version: String,
    /// When the dump began: its snapshot is a moment later. Each database has its own.
    pub started_at: DateTime<Utc>,
    /// How long the dump took. Unit: milliseconds.
    pub duration_milliseconds: u64,
}

/// The script that makes the roles of a database's server, without their passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Globals {
    /// Name of the member.
    pub file: String,
    /// sha256 of the member, lower-case hex.
    pub sha256: String,
    /// Size of the member. Unit: bytes.
    pub bytes: u64,
    /// Roles in it.
    pub roles: u64,
    /// The member, where it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// One member of the archive beside the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivedFile<'a> {
    /// Its name.
    pub file: &'a str,
    /// Its sha256, lower-case hex.
    pub sha256: &'a str,
    /// Its size. Unit: bytes.
    pub bytes: u64,
}

impl Manifest {
    /// Every member but the manifest itself, in the order of the archive.
    pub fn files(&self) -> impl Iterator<Item = ArchivedFile<'_>> {
        self.databases.iter().flat_map(|member| {
            let globals = member.globals.as_ref().map(Globals::archived);
            [Some(member.archived()), globals].into_iter().flatten()
        })
    }
}

impl Member {
    /// The dump, as it is in the archive.
    pub fn archived(&self) -> ArchivedFile<'_> {
        archived(self.sealed.as_ref(), self.plain())
    }

    /// The dump, as a client reads it.
    pub fn plain(&self) -> ArchivedFile<'_> {
        ArchivedFile {
            file: &self.file,
            sha256: &self.sha256,
            bytes: self.bytes,
        }
    }
}

impl Globals {
    /// The script, as it is in the archive.
    pub fn archived(&self) -> ArchivedFile<'_> {
        archived(self.sealed.as_ref(), self.plain())
    }

    /// The script itself.
    pub fn plain(&self) -> ArchivedFile<'_> {
        ArchivedFile {
            file: &self.file,
            sha256: &self.sha256,
            bytes: self.bytes,
        }
    }
}

fn archived<'a>(sealed: Option<&'a Sealed>, plain: ArchivedFile<'a>) -> ArchivedFile<'a> {
    sealed.map_or(plain, |sealed| ArchivedFile {
        file: &sealed.file,
        sha256: &sealed.sha256,
        bytes: sealed.bytes,
    })
}

/// Name of the member with the roles of a database's server.
pub fn globals_file(database: &str) -> String {
    format!("{database}.globals.sql")
}

/// Name of a database's member.
pub fn member_file(database: &str) -> String {
    format!("{database}.dump")
}
