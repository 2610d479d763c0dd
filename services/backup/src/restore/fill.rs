//! One dump into a database of its own, compared with the manifest.
//!
//! In: the dump and its entry of the manifest. Out: a database under its staged name that holds what was dumped, or why
//! not; it is the caller's to drop. Writes nothing but that database.

use super::{
    contents::{self, Contents},
    failure::Failure,
    plan::Item,
    sql::{Session, name, text},
    target::{LONG, Target},
};
use crate::{
    client::{self, Client},
    libpq, rows,
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// Tables that are counted by one statement.
const COUNTED_AT_ONCE: usize = 100;

/// What restoring one database came to.
pub(crate) struct Restored {
    pub(crate) oid: i64,
    pub(crate) tables: u64,
    pub(crate) note: Option<String>,
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
        let tables = self.compare(&filler, item).await?;
        if let Err(error) = filler
            .execute_within("analyze the restored tables", "ANALYZE", LONG)
            .await
        {
            // Slower until autovacuum has been there, and otherwise whole.
            tracing::warn!(database = item.target, %error, "the restored tables are without statistics");
        }
        let databases = self.databases().await?;
        let oid = databases.get(&item.staged).map(|found| found.oid);
        Ok(Restored {
            oid: oid.ok_or_else(|| Failure::Restore {
                name: item.member.name.clone(),
                why: format!("{} is gone: somebody dropped or renamed it", item.staged),
            })?,
            tables,
            note: (!keeps_owners).then(|| {
                let missing: Vec<_> = missing.iter().take(8).map(String::as_str).collect();
                format!(
                    "without owners and grants, everything belongs to the role of secret {}: the server lacks, or the runner may not act for, {}",
                    self.role.secret(),
                    missing.join(", ")
                )
            }),
        })
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
        command.args(["--exit-on-error", "--no-subscriptions"]);
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

    /// Tables and their rows, as the server counts them, against those of the manifest. Returns the number of tables.
    async fn compare(&self, filler: &Session, item: &Item) -> Result<u64, Failure> {
        let different = |why: String| Failure::Different {
            name: item.member.name.clone(),
            why,
        };
        let wanted: Vec<_> = item.member.rows.iter().collect();
        for tables in wanted.chunks(COUNTED_AT_ONCE) {
            // Names travel as bytes: a database has an encoding of its own, or none.
            let list: Vec<_> = tables
                .iter()
                .map(|(table, _)| {
                    format!(
                        "(SELECT encode(convert_to({}::text, getdatabaseencoding()), 'hex'))",
                        rows::table(table)
                    )
                })
                .collect();
            let found: Vec<Option<String>> = filler
                .ask(
                    "look for the restored tables",
                    &format!("SELECT json_build_array({})", list.join(", ")),
                )
                .await?;
            let mut statement = b"SET row_security = off; SELECT json_build_array(".to_vec();
            for (index, ((table, _), found)) in tables.iter().zip(&found).enumerate() {
                let found = found.as_ref().and_then(|found| hex::decode(found).ok());
                let found = found.ok_or_else(|| different(format!("there is no table {table}")))?;
                let begin: &[u8] = if index == 0 { b"(" } else { b", (" };
                statement.extend([begin, b"SELECT count(*) FROM ONLY ", &found, b")"].concat());
            }
            statement.push(b')');
            let answer = filler
                .execute_within("count the restored rows", OsStr::from_bytes(&statement), LONG)
                .await?;
            let rows: Vec<u64> = serde_json::from_str(&answer)
                .map_err(|error| different(format!("the rows could not be counted: {error}")))?;
            for ((table, wanted), found) in tables.iter().zip(rows) {
                if **wanted != found {
                    return Err(different(format!("{table} has {found} rows and not {wanted}")));
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
        Ok(tables)
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
