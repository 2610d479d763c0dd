//! One dump into a database of its own, compared with the manifest.
//!
//! In: the dump and its entry of the manifest. Out: a database under its staged name that holds what was dumped, or why
//! not; it is the caller's to drop. Writes nothing but that database.

use super::{
    contents::{self, Contents},
    failure::Failure,
    plan::Item,
    target::{LONG, Target},
};
use crate::{
    client::{self, Client},
    libpq, rows,
    sql::{self, Session, name, text},
};
use serde::Deserialize;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// Tables that are counted by one statement.
const COUNTED_AT_ONCE: usize = 100;
/// SQLSTATE of what a role may not do.
const NOT_ALLOWED: &str = "42501";
/// The most names that a note has of one kind.
const NAMED: usize = 8;
/// How many tables pg_restore fills at once: as many as keep a server of two cores at work.
const JOBS: &str = "2";

/// What restoring one database came to.
pub(crate) struct Restored {
    pub(crate) oid: i64,
    pub(crate) tables: u64,
    pub(crate) note: Option<String>,
}

/// A table of the manifest, as the server has it.
#[derive(Deserialize)]
struct Table {
    /// Its name in the database's encoding, as hex.
    name: Option<String>,
    of_extension: bool,
}

impl Target {
    /// Restores one dump under its staged name and compares it with the manifest.
    pub(crate) async fn restore(&self, item: &Item, dump: &Path) -> Result<Restored, Failure> {
        let major = item
            .member
            .client_version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or_default();
        let client =
            client::choose(&self.clients, &item.member.name, self.server_major.max(major)).map_err(Failure::Client)?;
        let contents = contents_of(client, &item.member.name, dump).await?;
        let missing = self.missing_roles(&contents).await?;
        let keeps_owners = missing.is_empty();
        let owner = contents.owner.as_deref().filter(|_| keeps_owners);
        self.create(item, &contents, owner.unwrap_or(self.role.role())).await?;

        let filler = if keeps_owners { &self.admin } else { &self.role };
        let filler = filler.with_client(client).on(&item.staged);
        self.fill(&filler, item, dump, keeps_owners).await?;
        // Both read all of it, and what one has read the other finds in memory.
        let analyzing = filler.execute_within("analyze the restored tables", "ANALYZE", LONG);
        let analyzing = async {
            if let Err(error) = analyzing.await {
                // Slower until autovacuum has been there, and otherwise whole.
                tracing::warn!(database = item.target, %error, "the restored tables are without statistics");
            }
            Ok(())
        };
        let (of_extensions, ()) = tokio::try_join!(self.compare(&filler, item), analyzing)?;
        let databases = self.databases().await?;
        let oid = databases.get(&item.staged).map(|found| found.oid);
        Ok(Restored {
            oid: oid.ok_or_else(|| Failure::Restore {
                name: item.member.name.clone(),
                why: format!("{} is gone: somebody dropped or renamed it", item.staged),
            })?,
            tables: item.member.tables,
            note: self.note(&missing, &of_extensions),
        })
    }

    /// In what the restored database is not quite the one that was dumped.
    fn note(&self, missing_roles: &[String], of_extensions: &[String]) -> Option<String> {
        let named = |names: &[String]| {
            names
                .iter()
                .take(NAMED)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let ownerless = (!missing_roles.is_empty()).then(|| {
            format!(
                "without owners and grants, everything belongs to the role of secret {}: the server lacks, or the runner may not act for, {}",
                self.role.secret(),
                named(missing_roles)
            )
        });
        let filled = (!of_extensions.is_empty()).then(|| {
            format!(
                "rows that its extensions bring are those of this server: {}",
                named(of_extensions)
            )
        });
        let notes: Vec<_> = ownerless.into_iter().chain(filled).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Roles of the dump that are not there, or that the admin may not act for.
    async fn missing_roles(&self, contents: &Contents) -> Result<Vec<String>, Failure> {
        let roles: Vec<_> = contents.roles.iter().map(|role| text(role)).collect();
        if roles.is_empty() {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT coalesce(json_agg(wanted), '[]') FROM unnest(ARRAY[{}]::text[]) wanted \
             WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted AND pg_has_role(oid, 'MEMBER'))",
            roles.join(", ")
        );
        Ok(self.admin.ask("look for the roles of the dump", &query).await?)
    }

    async fn create(&self, item: &Item, contents: &Contents, owner: &str) -> Result<(), Failure> {
        let statement = format!(
            "CREATE DATABASE {} TEMPLATE template0 OWNER {} {}",
            name(&item.staged),
            name(owner),
            contents.options
        );
        let action = format!("create the database {}", item.staged);
        self.admin.execute_within(&action, &statement, LONG).await?;
        Ok(())
    }

    async fn fill(&self, filler: &Session, item: &Item, dump: &Path, keeps_owners: bool) -> Result<(), Failure> {
        let mut command = filler.program("pg_restore");
        // A subscription would begin to copy.
        command.args(["--exit-on-error", "--no-subscriptions", "--jobs", JOBS]);
        if !keeps_owners {
            command.args(["--no-owner", "--no-privileges"]);
        }
        command.arg(dump);
        let failed = |why: String| Failure::Restore {
            name: item.member.name.clone(),
            why,
        };
        let output = libpq::output(command)
            .await
            .map_err(|error| failed(format!("pg_restore could not be run: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let mut why = libpq::shortened(&filler.complaint(&output.stderr));
        if why.contains("role") && why.contains("does not exist") {
            why.push_str(": create the role on the target first");
        } else if why.contains("extension") && (why.contains("is not available") || why.contains("control file")) {
            why.push_str(": install the extension on the target first");
        } else if why.contains("permission denied") {
            why.push_str(": name a superuser in target.adminSecretRef");
        }
        Err(failed(format!("pg_restore ended with {}: {why}", output.status)))
    }

    /// Tables and their rows, as the server counts them, against those of the manifest. Returns the tables with more rows
    /// than their dumps, which only extensions may have.
    async fn compare(&self, filler: &Session, item: &Item) -> Result<Vec<String>, Failure> {
        let different = |why: String| Failure::Different {
            name: item.member.name.clone(),
            why,
        };
        let wanted: Vec<_> = item.member.rows.iter().collect();
        let mut filled = Vec::new();
        for tables in wanted.chunks(COUNTED_AT_ONCE) {
            // Names travel as bytes: a database has an encoding of its own, or none.
            let list: Vec<_> = tables
                .iter()
                .map(|(table, _)| {
                    format!(
                        "json_build_object('name', encode(convert_to(({})::text, getdatabaseencoding()), 'hex'), 'of_extension', {})",
                        rows::table(table),
                        rows::of_extension(table)
                    )
                })
                .collect();
            let found: Vec<Table> = filler
                .ask(
                    "look for the restored tables",
                    &format!("SELECT json_build_array({})", list.join(", ")),
                )
                .await?;
            let mut statement = b"SET row_security = off; SELECT json_build_array(".to_vec();
            for (index, ((table, _), found)) in tables.iter().zip(&found).enumerate() {
                let found = found.name.as_ref().and_then(|name| hex::decode(name).ok());
                let found = found.ok_or_else(|| different(format!("there is no table {table}")))?;
                let begin: &[u8] = if index == 0 { b"(" } else { b", (" };
                statement.extend([begin, b"SELECT count(*) FROM ONLY ", &found, b")"].concat());
            }
            statement.push(b')');
            let answer = filler
                .execute_within("count the restored rows", OsStr::from_bytes(&statement), LONG)
                .await
                .map_err(with_remedy)?;
            let rows: Vec<u64> = serde_json::from_str(&answer)
                .map_err(|error| different(format!("the rows could not be counted: {error}")))?;
            for (((table, wanted), seen), found) in tables.iter().zip(&found).zip(rows) {
                if !rows::is_whole(**wanted, found, seen.of_extension) {
                    return Err(different(format!("{table} has {found} rows and not {wanted}")));
                }
                if found > **wanted {
                    filled.push((*table).clone());
                }
            }
        }
        let tables = wanted.len() as u64;
        if tables != item.member.tables {
            return Err(different(format!(
                "{tables} tables were compared and its list has {}",
                item.member.tables
            )));
        }
        Ok(filled)
    }
}

/// A table that forces row level security hides rows from its own owner, too.
fn with_remedy(error: sql::Error) -> sql::Error {
    match error {
        sql::Error::Statement { action, why, code } if code.as_deref() == Some(NOT_ALLOWED) => sql::Error::Statement {
            action,
            why: format!(
                "{why}: name a superuser, or a role with BYPASSRLS, in target.adminSecretRef or target.connectionSecretRef"
            ),
            code,
        },
        error => error,
    }
}

async fn contents_of(client: &Client, database: &str, dump: &Path) -> Result<Contents, Failure> {
    let mut command = libpq::command(client, "pg_restore");
    command.args(["--create", "--schema-only", "--file=-"]).arg(dump);
    let failed = |why: String| Failure::Restore {
        name: database.to_owned(),
        why,
    };
    let output = libpq::output(command)
        .await
        .map_err(|error| failed(format!("pg_restore could not be run: {error}")))?;
    if output.status.success() {
        Ok(contents::read(&String::from_utf8_lossy(&output.stdout)))
    } else {
        Err(failed(libpq::shortened(&libpq::line(&output.stderr))))
    }
}
