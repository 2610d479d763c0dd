//! Asks each server for its version before anything is dumped, so that a wrong password, a missing database and an
//! unreachable host are told apart and named.
//!
//! In: a [`Connection`]. Out: the server's version. Connects; writes nothing.

use crate::connection::Connection;
use sqlx::{
    ConnectOptions, Connection as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{str::FromStr, time::Duration};

/// How long one attempt to connect and ask may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before each further attempt. With [`ATTEMPT_TIMEOUT`] the whole stays under a minute.
pub const PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];

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
    #[error("{label}: refused by {host}:{port}: {why}")]
    Refused {
        /// The database.
        label: String,
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What the server said.
        why: String,
    },
    /// It could not be reached, or is not ready.
    #[error("{label}: not reachable at {host}:{port} in {attempts} attempts: {why}")]
    Unreachable {
        /// The database.
        label: String,
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// How often it was tried.
        attempts: usize,
        /// What happened last.
        why: String,
    },
}

/// Asks for the version; tries again a few times while the server cannot be reached.
///
/// # Errors
/// [`Error::Refused`] at once for a wrong password, role or database; [`Error::Unreachable`] after the last attempt.
pub async fn ask(connection: &Connection) -> Result<Server, Error> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let why = match tokio::time::timeout(ATTEMPT_TIMEOUT, ask_once(connection)).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(Trouble::Lasting(why))) => {
                return Err(Error::Refused {
                    label: connection.label.clone(),
                    host: connection.host.clone(),
                    port: connection.port,
                    why,
                });
            }
            Ok(Err(Trouble::Passing(why))) => why,
            Err(_) => format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
        };
        tracing::warn!(database = connection.name, attempts, why, "database not reachable");
        let Some(pause) = PAUSES.get(attempts - 1) else {
            return Err(Error::Unreachable {
                label: connection.label.clone(),
                host: connection.host.clone(),
                port: connection.port,
                attempts,
                why,
            });
        };
        tokio::time::sleep(*pause).await;
    }
}

enum Trouble {
    Lasting(String),
    Passing(String),
}

async fn ask_once(connection: &Connection) -> Result<Server, Trouble> {
    let mut session = options(connection).connect().await.map_err(|error| classify(&error))?;
    let number: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(&mut session)
        .await
        .map_err(|error| classify(&error))?;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut session)
        .await
        .map_err(|error| classify(&error))?;
    // The answer is there; how the session ends does not matter.
    let _ = session.close().await;
    let number: u32 = number
        .parse()
        .map_err(|_| Trouble::Lasting(format!("server_version_num is `{number}`")))?;
    Ok(Server {
        major: number / 10_000,
        version,
    })
}

fn options(connection: &Connection) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .port(connection.port)
        .username(&connection.username)
        .password(&connection.password)
        .database(&connection.database)
        .application_name("valerix-backup");
    let options = match connection.ssl_mode.as_deref().map(PgSslMode::from_str) {
        Some(Ok(mode)) => options.ssl_mode(mode),
        _ => options,
    };
    if connection.host.starts_with('/') {
        options.socket(&connection.host)
    } else {
        options.host(&connection.host)
    }
}

/// Only what the server itself says about role, password, database or rights lasts; the rest may pass.
fn classify(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            let message = format!("{} (SQLSTATE {code})", database.message());
            // 08 connection, 53 resources, 57 operator intervention (starting up, shutting down), 58 system.
            if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) {
                Trouble::Passing(message)
            } else {
                Trouble::Lasting(message)
            }
        }
        sqlx::Error::Configuration(error) => Trouble::Lasting(error.to_string()),
        other => Trouble::Passing(other.to_string()),
    }
}
