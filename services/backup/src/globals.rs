//! The roles of a database's server, without their passwords, beside its dump.
//!
//! In: a [`Connection`] and the [`Client`] to use. Out: a script on scratch that makes the roles, read back and
//! understood. Runs pg_dumpall, which asks the same server as pg_dump has.

use crate::{
    archive,
    client::Client,
    connection::Connection,
    dump::{self, Error},
    libpq,
    manifest::{Globals, globals_file},
    roles::Roles,
};
use std::path::Path;

const PROGRAM: &str = "pg_dumpall";

/// Writes the script into `folder` and says what it is. Tablespaces are left out: they are folders of a host.
///
/// # Errors
/// As [`dump::dump`]; also if what was written is not whole, or holds a password.
pub async fn dump(connection: &Connection, client: &Client, folder: &Path) -> Result<Globals, Error> {
    let file = globals_file(&connection.name);
    let path = folder.join(&file);
    let mut command = libpq::connected(client, PROGRAM, connection);
    command
        .args(["--globals-only", "--no-role-passwords", "--no-tablespaces"])
        // Otherwise it asks in a database that this role may not enter.
        .arg("--database")
        .arg(libpq::database_text(connection))
        .arg("--file")
        .arg(&path);
    let output = libpq::output(command).await.map_err(|source| Error::Start {
        label: connection.label.clone(),
        program: PROGRAM,
        source,
    })?;
    if !output.status.success() {
        return Err(dump::failure(
            connection,
            PROGRAM,
            output.status.to_string(),
            &output.stderr,
        ));
    }
    let failed = |complaint: String| Error::Failed {
        label: connection.label.clone(),
        program: PROGRAM,
        how: output.status.to_string(),
        complaint,
    };
    let script = tokio::fs::read(&path)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let roles = Roles::read(&String::from_utf8_lossy(&script)).map_err(failed)?;
    let digest = archive::digest(&path).map_err(|error| failed(error.to_string()))?;
    Ok(Globals {
        file,
        sha256: digest.sha256,
        bytes: digest.bytes,
        sealed: None,
        roles: roles.roles.len() as u64,
    })
}
