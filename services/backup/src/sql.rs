//! Statements on the target's server, by psql: the same trust and the same reading of a password as pg_restore has.
//!
//! In: a [`Connection`], a database, a statement. Out: what it answered, or why it did not. Each call is one session and
//! one transaction, and carries the names of the Restore and of its pod, so that a later pod can end what a killed one has
//! left at work.

use crate::{
    client::Client,
    connection::Connection,
    libpq::{self, ConnectFault},
};
use serde::de::DeserializeOwned;
use std::{ffi::OsStr, time::Duration};
use tokio::process::Command;
pub(crate) use valerix_crds::restore_runner::quoted as name;

/// How long one statement may take where nothing else is said.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// What a session or a role of the server may have set must not change what our statements mean.
const OPTIONS: &str = "-c standard_conforming_strings=on -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c search_path=pg_catalog -c client_min_messages=warning";

/// A server, as one role sees it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    client: Client,
    connection: Connection,
    application: String,
}

/// A statement did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is not there or not ready: asking again may help.
    #[error("the server of secret {secret} cannot be reached: {why}")]
    Unreachable {
        /// The Secret.
        secret: String,
        /// What happened.
        why: String,
    },
    /// The server refuses the connection; only a change of the Secret or of the server helps.
    #[error("the server of secret {secret} refuses the connection: {why}")]
    Connection {
        /// The Secret.
        secret: String,
        /// What it said.
        why: String,
    },
    /// The server refuses the statement.
    #[error("failed to {action}: {why}")]
    Statement {
        /// What was tried.
        action: String,
        /// What the server said.
        why: String,
        /// Its SQLSTATE, where it was the server.
        code: Option<String>,
    },
}

impl Error {
    /// Whether the server refused a statement with this SQLSTATE.
    pub(crate) fn is(&self, sqlstate: &str) -> bool {
        matches!(self, Self::Statement { code: Some(code), .. } if code == sqlstate)
    }
}

impl Session {
    pub(crate) fn new(client: &Client, connection: &Connection, application: &str) -> Self {
        Self {
            client: client.clone(),
            connection: connection.clone(),
            application: application.to_owned(),
        }
    }

    /// The same role in another database.
    pub(crate) fn on(&self, database: &str) -> Self {
        let mut other = self.clone();
        database.clone_into(&mut other.connection.database);
        other
    }

    /// The same with another client's programs.
    pub(crate) fn with_client(&self, client: &Client) -> Self {
        Self {
            client: client.clone(),
            ..self.clone()
        }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.connection.secret
    }

    pub(crate) fn role(&self) -> &str {
        &self.connection.username
    }

    /// Name of the database that it works in.
    pub(crate) fn database(&self) -> &str {
        &self.connection.database
    }

    /// A program of libpq that is connected as this session is.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = libpq::connected(&self.client, program, &self.connection);
        command.env("PGAPPNAME", &self.application).env("PGOPTIONS", OPTIONS);
        command
    }

    /// What a program of this session complained about, in one line without a value of the Secret.
    pub(crate) fn complaint(&self, stderr: &[u8]) -> String {
        libpq::complaint(stderr, &self.connection)
    }

    /// Runs `statements`, separated by `;`, in one transaction (or, if it is one that must not be in any, alone).
    ///
    /// # Errors
    /// See [`Error`]; after a timeout it is not known whether they took.
    pub(crate) async fn execute(&self, action: &str, statements: &str) -> Result<String, Error> {
        self.execute_within(action, statements, STATEMENT_TIMEOUT).await
    }

    /// The same with another timeout.
    pub(crate) async fn execute_within(
        &self,
        action: &str,
        statements: impl AsRef<OsStr>,
        within: Duration,
    ) -> Result<String, Error> {
        let mut command = self.program("psql");
        command
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1", "--set", "VERBOSITY=verbose", "--command"])
            .arg(statements);
        let secret = || self.connection.secret.clone();
        let output = match tokio::time::timeout(within, libpq::output(command)).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(Error::Statement {
                    action: action.to_owned(),
                    why: format!("psql could not be run: {error}"),
                    code: None,
                });
            }
            Err(_) => {
                return Err(Error::Unreachable {
                    secret: secret(),
                    why: format!("no answer within {} s to: {action}", within.as_secs()),
                });
            }
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end_matches('\n')
                .to_owned());
        }
        let (code, stderr) = libpq::without_codes(&output.stderr);
        let said = libpq::line(stderr.as_bytes());
        let why = libpq::shortened(&self.complaint(stderr.as_bytes()));
        Err(if libpq::is_about_connecting(&said) || libpq::is_lost(&said) {
            match libpq::connect_fault(&said) {
                ConnectFault::Passing => Error::Unreachable { secret: secret(), why },
                ConnectFault::Certificate | ConnectFault::Lasting => Error::Connection { secret: secret(), why },
            }
        } else {
            Error::Statement {
                action: action.to_owned(),
                why,
                code,
            }
        })
    }

    /// Runs a query that answers with one value of JSON.
    ///
    /// # Errors
    /// As [`Session::execute`], and if the answer is something else.
    pub(crate) async fn ask<Answer: DeserializeOwned>(&self, action: &str, query: &str) -> Result<Answer, Error> {
        let text = self.execute(action, query).await?;
        serde_json::from_str(&text).map_err(|error| Error::Statement {
            action: action.to_owned(),
            why: format!("the answer was not understood: {error}"),
            code: None,
        })
    }
}

/// A text as SQL writes it.
pub(crate) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
