//! The roles of a database's server, without their passwords, beside its dump.
//!
//! In: a [`Connection`] and the [`Client`] to use. Out: a script that makes the roles, understood. Runs pg_dumpall, which asks
//! the same server as pg_dump has.

use crate::{
    client::Client,
    connection::Connection,
    dump::{self, Error},
    libpq,
    manifest::{Globals, globals_file},
    roles::Roles,
};
use sha2::{Digest, Sha256};

const PROGRAM: &str = "pg_dumpall";

/// The script, and what it is. Tablespaces are left out: they are folders of a host.
///
/// # Errors
/// As [`dump::dump`]; also if what was written is not whole, or holds a password.
pub async fn dump(connection: &Connection, client: &Client) -> Result<(Vec<u8>, Globals), Error> {
    let mut command = libpq::connected(client, PROGRAM, connection);
    command
        .args(["--globals-only", "--no-role-passwords", "--no-tablespaces"])
        // Otherwise it asks in a database that this role may not enter.
        .arg("--database")
        .arg(libpq::database_text(connection));
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
    let script = output.stdout;
    let roles = Roles::read(&String::from_utf8_lossy(&script)).map_err(failed)?;
    let globals = Globals {
        file: globals_file(&connection.name),
        sha256: hex::encode(Sha256::digest(&script)),
        bytes: script.len() as u64,
        sealed: None,
        roles: roles.roles.len() as u64,
    };
    Ok((script, globals))
}
