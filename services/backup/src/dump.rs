//! Dumps one database and looks into the dump (L1, L3).
//!
//! In: a [`Connection`] and the [`Client`] to use. Out: a file on scratch and what it holds. Every exit code counts.
//! Runs pg_dump and pg_restore; the password travels in the environment, never on the command line.

use crate::{client::Client, connection::Connection, rows::RowCounter};
use std::{collections::BTreeMap, io, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::AsyncBufReadExt,
    process::{Child, Command},
};

/// How long pg_dump waits for a lock that somebody else holds on a table.
pub const LOCK_WAIT_TIMEOUT: &str = "60s";
/// How long libpq tries to connect. Unit: seconds.
const CONNECT_TIMEOUT_SECONDS: u32 = 10;
/// The most of a program's complaint that is kept.
const KEPT_COMPLAINT: usize = 600;

/// What a dump holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Tables with data definitions.
    pub tables: u64,
    /// Rows of each table, counted in the dump.
    pub rows: BTreeMap<String, u64>,
}

/// A dump that is not there or not whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started or heard.
    #[error("{label}: failed to run {program}")]
    Start {
        /// The database.
        label: String,
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// pg_dump lost its connection.
    #[error("{label}: pg_dump lost the connection ({how}): {complaint}")]
    ConnectionLost {
        /// The database.
        label: String,
        /// How it ended.
        how: String,
        /// What it said.
        complaint: String,
    },
    /// The program failed.
    #[error("{label}: {program} failed ({how}): {complaint}")]
    Failed {
        /// The database.
        label: String,
        /// The program.
        program: &'static str,
        /// How it ended.
        how: String,
        /// What it said.
        complaint: String,
    },
}

/// Writes the dump of one database to `file`, uncompressed: the archive compresses all of them together.
///
/// # Errors
/// If pg_dump cannot be started or ends with anything but 0.
pub async fn dump(connection: &Connection, client: &Client, file: &Path) -> Result<(), Error> {
    let child = Command::new(client.program("pg_dump"))
        .args(["--format=custom", "--compress=0", "--no-password"])
        .arg(format!("--lock-wait-timeout={LOCK_WAIT_TIMEOUT}"))
        .arg("--file")
        .arg(file)
        .arg("--dbname")
        .arg(connection_text(connection))
        .env_clear()
        .envs(environment(connection))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let output = wait(child, &connection.label, "pg_dump").await?;
    if output.status.success() {
        return Ok(());
    }
    let (how, complaint) = (output.status.to_string(), complaint(&output.stderr));
    let label = connection.label.clone();
    Err(if lost_connection(&complaint) {
        Error::ConnectionLost { label, how, complaint }
    } else {
        Error::Failed {
            label,
            program: "pg_dump",
            how,
            complaint,
        }
    })
}

/// Reads the whole dump: the table of contents by `--list`, every data block by printing it.
///
/// # Errors
/// If pg_restore finds the dump cut or damaged.
pub async fn inspect(label: &str, client: &Client, file: &Path) -> Result<Contents, Error> {
    let child = pg_restore(client)
        .arg("--list")
        .arg(file)
        .stdout(Stdio::piped())
        .spawn();
    let output = wait(child, label, "pg_restore --list").await?;
    check(label, "pg_restore --list", output.status, &output.stderr)?;
    let tables = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| is_table_data(line))
        .count() as u64;

    let program = "pg_restore --section=data";
    let start = |source| Error::Start {
        label: label.to_owned(),
        program,
        source,
    };
    let mut child = pg_restore(client)
        .args(["--section=data", "--file=-"])
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let mut counter = RowCounter::default();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = tokio::io::BufReader::with_capacity(1 << 18, stdout);
        loop {
            let chunk = stdout.fill_buf().await.map_err(start)?;
            if chunk.is_empty() {
                break;
            }
            counter.feed(chunk);
            let count = chunk.len();
            stdout.consume(count);
        }
    }
    let output = child.wait_with_output().await.map_err(start)?;
    check(label, program, output.status, &output.stderr)?;
    Ok(Contents {
        tables,
        rows: counter.finish(),
    })
}

fn pg_restore(client: &Client) -> Command {
    let mut command = Command::new(client.program("pg_restore"));
    command
        .env_clear()
        .envs(plain_environment())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn wait(child: io::Result<Child>, label: &str, program: &'static str) -> Result<std::process::Output, Error> {
    let start = |source| Error::Start {
        label: label.to_owned(),
        program,
        source,
    };
    child.map_err(start)?.wait_with_output().await.map_err(start)
}

fn check(label: &str, program: &'static str, status: std::process::ExitStatus, stderr: &[u8]) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        label: label.to_owned(),
        program,
        how: status.to_string(),
        complaint: complaint(stderr),
    })
}

/// `<id>; <table oid> <oid> TABLE DATA <schema> <name> <owner>`; comments begin with `;`.
fn is_table_data(line: &str) -> bool {
    let Some((id, rest)) = line.split_once("; ") else {
        return false;
    };
    !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_digit())
        && rest
            .splitn(3, ' ')
            .nth(2)
            .is_some_and(|entry| entry.starts_with("TABLE DATA "))
}

/// Everything but the password, quoted as libpq reads it: a name may hold spaces, quotes and `=`.
fn connection_text(connection: &Connection) -> String {
    let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    let seconds = Duration::from_secs(45).as_millis();
    let mut text = format!(
        "host={} port={} user={} dbname={} connect_timeout={CONNECT_TIMEOUT_SECONDS} keepalives_idle=15 keepalives_interval=5 keepalives_count=3 tcp_user_timeout={seconds}",
        quoted(&connection.host),
        connection.port,
        quoted(&connection.username),
        quoted(&connection.database),
    );
    if let Some(mode) = &connection.ssl_mode {
        text.push_str(" sslmode=");
        text.push_str(&quoted(mode));
    }
    text
}

fn environment(connection: &Connection) -> Vec<(&'static str, String)> {
    let mut environment = plain_environment();
    environment.push(("PGPASSWORD", connection.password.clone()));
    environment
}

/// Nothing of the pod's environment reaches the programs; messages are English, since they are read below.
fn plain_environment() -> Vec<(&'static str, String)> {
    vec![
        ("LC_ALL", "C".into()),
        ("PATH", "/usr/bin:/bin".into()),
        ("HOME", "/nonexistent".into()),
        ("PGAPPNAME", "valerix-backup".into()),
    ]
}

fn lost_connection(complaint: &str) -> bool {
    [
        "connection to server",
        "server closed the connection",
        "terminating connection",
        "no connection to the server",
    ]
    .iter()
    .any(|text| complaint.contains(text))
}

/// The end of what a program wrote to its error stream, in one line.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(KEPT_COMPLAINT);
    if skipped == 0 {
        line
    } else {
        format!("…{}", line.chars().skip(skipped).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_table_data_counts_as_a_table() {
        for (line, expected) in [
            ("3325; 0 16386 TABLE DATA public a postgres", true),
            ("215; 1259 16386 TABLE public a postgres", false),
            ("; TABLE DATA", false),
            (";     TOC Entries: 7; 0 1 TABLE DATA x", false),
            ("3330; 0 0 COMMENT - TABLE DATA postgres", false),
        ] {
            assert_eq!(is_table_data(line), expected, "{line}");
        }
    }

    #[test]
    fn a_connection_is_quoted_and_carries_no_password() {
        let connection = Connection {
            label: "databases[0] x".into(),
            name: "x".into(),
            host: "db".into(),
            port: 1,
            database: r"o'r\d = 1".into(),
            username: "me".into(),
            password: "geheim".into(),
            ssl_mode: Some("require".into()),
        };
        let text = connection_text(&connection);
        assert!(
            text.contains(r"dbname='o\'r\\d = 1'") && text.contains("sslmode='require'"),
            "{text}"
        );
        assert!(!text.contains("geheim"));
    }

    #[test]
    fn a_complaint_is_short() {
        assert_eq!(complaint(b"a\n b\n"), "a b");
        assert_eq!(
            complaint("é".repeat(700).as_bytes()).chars().count(),
            KEPT_COMPLAINT + 1
        );
    }
}
