//! Asks each server for its version before anything is dumped, so that a wrong password, a missing database, a
//! certificate that is not trusted and an unreachable host are told apart and named.
//!
//! In: a [`Connection`]. Out: the server's version. Runs psql, and so asks as pg_dump will: with the same trust and the
//! same reading of the password. Writes nothing.

use crate::{
    client::Client,
    connection::Connection,
    libpq::{self, ConnectFault},
};
use std::time::Duration;

/// How long one attempt to connect and ask may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Major version, for example 15.
    pub major: u32,
    /// The version as text, for example `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
}

/// The server did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It answered, and the answer will not change by asking again.
    #[error("{label}: refused by the server of secret {secret}: {why}")]
    Refused {
        /// The database.
        label: String,
        /// The Secret.
        secret: String,
        /// What the server said.
        why: String,
    },
    /// Its certificate is not trusted.
    #[error(
        "{label}: the server's certificate is not trusted (secret {secret}: put the certificate of its authority under key ca.crt, and under key host a name that the certificate holds): {why}"
    )]
    Untrusted {
        /// The database.
        label: String,
        /// The Secret.
        secret: String,
        /// What does not fit.
        why: String,
    },
    /// It could not be reached, or is not ready.
    #[error("{label}: not reachable at the host of secret {secret}: {why}")]
    Unreachable {
        /// The database.
        label: String,
        /// The Secret.
        secret: String,
        /// What happened.
        why: String,
    },
}

/// Asks once.
///
/// # Errors
/// [`Error::Unreachable`] if asking again may help, the others if it does not.
pub async fn ask(connection: &Connection, client: &Client) -> Result<Server, Error> {
    let mut command = libpq::connected(client, "psql", connection);
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    for question in ["SHOW server_version_num", "SHOW server_version"] {
        command.args(["--command", question]);
    }
    let unreachable = |why: String| Error::Unreachable {
        label: connection.label.clone(),
        secret: connection.secret.clone(),
        why,
    };
    let output = match tokio::time::timeout(ATTEMPT_TIMEOUT, libpq::output(command)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unreachable(format!("failed to run psql: {error}"))),
        Err(_) => return Err(unreachable(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()))),
    };
    let (label, secret) = (connection.label.clone(), connection.secret.clone());
    if !output.status.success() {
        // Judged as it was said: a value of the Secret may be a word of it.
        let fault = libpq::connect_fault(&libpq::line(&output.stderr));
        let why = libpq::shortened(&libpq::complaint(&output.stderr, connection));
        return Err(match fault {
            ConnectFault::Passing => unreachable(why),
            ConnectFault::Certificate => Error::Untrusted { label, secret, why },
            ConnectFault::Lasting => Error::Refused { label, secret, why },
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let number: Option<u32> = lines.next().and_then(|number| number.trim().parse().ok());
    match (number, lines.next()) {
        (Some(number), Some(version)) => Ok(Server {
            major: number / 10_000,
            version: version.trim().to_owned(),
        }),
        _ => Err(Error::Refused {
            label,
            secret,
            why: format!(
                "it did not tell its version but `{}`",
                libpq::shortened(&libpq::line(&output.stdout))
            ),
        }),
    }
}
