//! Dumps one database and looks into the dump (L1, L3).
//!
//! In: a [`Connection`] and the [`Client`] to use. Out: a file on scratch and what it holds. Every exit code counts.
//! Runs pg_dump and pg_restore.

use crate::{
    archive::Digest,
    client::Client,
    connection::Connection,
    hashing::Hashing,
    libpq::{self, ConnectFault},
    rows::RowCounter,
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    process::{ExitStatus, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
};

/// How long pg_dump waits for a lock that somebody else holds on a table. Unit: seconds.
const LOCK_WAIT_SECONDS: u32 = 60;
/// Size of the pieces in which a dump is read.
const CHUNK: usize = 1 << 18;

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
    /// Something that passes stood in the way: the same dump may succeed later.
    #[error("{label}: {program} {obstacle} ({how}): {complaint}")]
    Passing {
        /// The database.
        label: String,
        /// The program.
        program: &'static str,
        /// What it was.
        obstacle: String,
        /// How the program ended.
        how: String,
        /// What it said.
        complaint: String,
    },
    /// The scratch folder is full.
    #[error("{label}: {program} failed ({how}): {complaint}: scratch.sizeLimit must hold the dumps and the archive")]
    NoRoom {
        /// The database.
        label: String,
        /// The program.
        program: &'static str,
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
/// If pg_dump cannot be started or ends with anything but 0; [`Error::Passing`] if trying again may help.
pub async fn dump(connection: &Connection, client: &Client, file: &Path) -> Result<(), Error> {
    let mut command = libpq::connected(client, "pg_dump", connection);
    command
        .args(["--format=custom", "--compress=0"])
        .arg(format!("--lock-wait-timeout={LOCK_WAIT_SECONDS}s"))
        .arg("--file")
        .arg(file);
    let output = libpq::output(command).await.map_err(|source| Error::Start {
        label: connection.label.clone(),
        program: "pg_dump",
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(failure(
        connection,
        "pg_dump",
        output.status.to_string(),
        &output.stderr,
    ))
}

/// What it means that a dumping program ended so and wrote this.
pub(crate) fn failure(connection: &Connection, program: &'static str, how: String, stderr: &[u8]) -> Error {
    let label = connection.label.clone();
    let said = libpq::line(stderr);
    let mut complaint = libpq::shortened(&libpq::complaint(stderr, connection));
    if let Some(obstacle) = passing_obstacle(&said) {
        return Error::Passing {
            label,
            program,
            obstacle,
            how,
            complaint,
        };
    }
    if lacks_room(&said) {
        return Error::NoRoom {
            label,
            program,
            how,
            complaint,
        };
    }
    if said.contains("permission denied") {
        complaint.push_str(
            ": the role must be able to read everything (grant it pg_read_all_data; large objects need their owner or a superuser)",
        );
    }
    if said.contains("row-level security") {
        complaint.push_str(": the role would see a part of the rows only; give it BYPASSRLS, or name the owner");
    }
    Error::Failed {
        label,
        program,
        how,
        complaint,
    }
}

/// Whether the file that was to be written found no room. What the server says of its own disk begins with its severity.
fn lacks_room(complaint: &str) -> bool {
    let of_the_server = ["ERROR:", "FATAL:", "PANIC:"]
        .iter()
        .any(|word| complaint.contains(word));
    let full = ["No space left on device", "Disk quota exceeded", "File too large"];
    !of_the_server && full.iter().any(|text| complaint.contains(text))
}

/// What stood in pg_dump's way, if it passes by itself.
fn passing_obstacle(complaint: &str) -> Option<String> {
    let says = |text: &str| complaint.contains(text);
    if libpq::is_about_connecting(complaint) {
        return (libpq::connect_fault(complaint) == ConnectFault::Passing).then(|| "lost the connection".to_owned());
    }
    // Behind it stand the names of the tables, of all of them since version 16, and a name may be any word.
    let locking = complaint.split_once("LOCK TABLE").map(|(error, _)| error);
    if locking.is_some_and(|error| {
        ["statement timeout", "lock timeout"]
            .iter()
            .any(|text| error.contains(text))
    }) {
        return Some(format!(
            "waited {LOCK_WAIT_SECONDS} s for a lock on a table that another session holds"
        ));
    }
    if libpq::is_lost(complaint) {
        return Some("lost the connection".to_owned());
    }
    [
        ("conflict with recovery", "was cancelled by the standby's recovery"),
        ("deadlock detected", "met a deadlock"),
        // What was there when the dump began was dropped meanwhile.
        ("cache lookup failed for", "met a change of the schema"),
        ("could not open relation with OID", "met a change of the schema"),
    ]
    .into_iter()
    .find_map(|(text, obstacle)| says(text).then(|| obstacle.to_owned()))
}

/// Reads the whole dump: the table of contents by `--list`, and every byte once, from which the sha256 is taken while
/// pg_restore prints every data block of it.
///
/// # Errors
/// If pg_restore finds the dump cut or damaged.
pub async fn inspect(label: &str, client: &Client, file: &Path) -> Result<(Contents, Digest), Error> {
    let program = "pg_restore --list";
    let failed = |program| {
        move |source| Error::Start {
            label: label.to_owned(),
            program,
            source,
        }
    };
    let mut command = libpq::command(client, "pg_restore");
    command.arg("--list").arg(file);
    let output = libpq::output(command).await.map_err(failed(program))?;
    check(label, program, output.status, &output.stderr)?;
    let tables = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| is_table_data(line))
        .count() as u64;

    let program = "pg_restore --section=data";
    let mut command = libpq::command(client, "pg_restore");
    command.args(["--section=data", "--file=-"]).stdin(Stdio::piped());
    let mut child = command.spawn().map_err(failed(program))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let complaints = async {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut text).await?;
        }
        Ok::<_, io::Error>(text)
    };
    // All three pipes at once: whichever is not served would stop the program.
    let (digest, rows, stderr) =
        tokio::try_join!(feed(file, stdin), count_rows(stdout), complaints).map_err(failed(program))?;
    let status = child.wait().await.map_err(failed(program))?;
    check(label, program, status, &stderr)?;
    Ok((Contents { tables, rows }, digest))
}

async fn feed(file: &Path, mut stdin: Option<ChildStdin>) -> io::Result<Digest> {
    let mut file = tokio::fs::File::open(file).await?;
    let mut hashing = Hashing::new(io::sink());
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        hashing.write_all(&buffer[..count])?;
        // pg_restore that stops reading has failed, or has seen all that it wants: its exit code says which.
        if let Some(pipe) = &mut stdin
            && pipe.write_all(&buffer[..count]).await.is_err()
        {
            stdin = None;
        }
    }
    let (_, sha256, bytes) = hashing.finish();
    Ok(Digest { sha256, bytes })
}

async fn count_rows(stdout: Option<ChildStdout>) -> io::Result<BTreeMap<String, u64>> {
    let mut counter = RowCounter::default();
    if let Some(stdout) = stdout {
        let mut stdout = BufReader::with_capacity(CHUNK, stdout);
        loop {
            let chunk = stdout.fill_buf().await?;
            if chunk.is_empty() {
                break;
            }
            counter.feed(chunk);
            let count = chunk.len();
            stdout.consume(count);
        }
    }
    Ok(counter.finish())
}

fn check(label: &str, program: &'static str, status: ExitStatus, stderr: &[u8]) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        label: label.to_owned(),
        program,
        how: status.to_string(),
        complaint: libpq::shortened(&libpq::line(stderr)),
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
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (complaint, expected) in [
            (
                "error: query failed: ERROR: canceling statement due to statement timeout pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
                Some("waited 60 s for a lock on a table that another session holds"),
            ),
            (
                "ERROR: canceling statement due to conflict with recovery",
                Some("was cancelled by the standby's recovery"),
            ),
            ("ERROR: deadlock detected", Some("met a deadlock")),
            (
                "FATAL: terminating connection due to administrator command",
                Some("lost the connection"),
            ),
            (
                "error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed. detail: Error message from server: SSL error: unexpected eof while reading",
                Some("lost the connection"),
            ),
            (
                "error: query failed: ERROR: cache lookup failed for index 16411",
                Some("met a change of the schema"),
            ),
            (
                "error: query failed: ERROR: could not open relation with OID 16403",
                Some("met a change of the schema"),
            ),
            (
                "connection to server at <key host>, port 1 failed: Connection refused",
                Some("lost the connection"),
            ),
            (
                "connection to server at <key host>, port 1 failed: FATAL: password authentication failed",
                None,
            ),
            (
                "ERROR: permission denied for table t detail: Query was: LOCK TABLE public.t",
                None,
            ),
            (
                "ERROR: permission denied for table timeouts detail: Query was: LOCK TABLE public.timeouts, \"lock timeout\"",
                None,
            ),
            ("could not write to file: No space left on device", None),
        ] {
            assert_eq!(passing_obstacle(complaint).as_deref(), expected, "{complaint}");
        }
    }

    fn failure_of(stderr: &str) -> Error {
        let connection = Connection {
            label: "databases[0] orders".into(),
            secret: "orders-db".into(),
            name: "orders".into(),
            host: "db".into(),
            port: 5432,
            database: "orders".into(),
            username: "backup".into(),
            password: "secret".into(),
            ssl_mode: None,
            root_certificates: None,
        };
        failure(&connection, "pg_dump", "exit status: 1".into(), stderr.as_bytes())
    }

    /// As pg_dump 16 locks: all tables in one statement.
    fn locking(error: &str) -> String {
        let tables: Vec<_> = (0..100).map(|index| format!("public.table_{index}")).collect();
        format!(
            "pg_dump: error: query failed: ERROR:  {error}\npg_dump: detail: Query was: LOCK TABLE {} IN ACCESS SHARE MODE\n",
            tables.join(", ")
        )
    }

    #[test]
    fn a_lock_on_one_of_many_tables_passes() {
        let error = failure_of(&locking("canceling statement due to statement timeout"));
        assert!(
            matches!(&error, Error::Passing { obstacle, .. } if obstacle.contains("for a lock on a table")),
            "{error}"
        );
        assert!(error.to_string().chars().count() < 800, "{error}");
    }

    #[test]
    fn a_full_scratch_is_told_from_a_server_whose_disk_is_full() {
        for (stderr, of_scratch) in [
            (
                "pg_dump: error: could not write to output file: No space left on device",
                true,
            ),
            ("pg_dump: error: could not close data file: Disk quota exceeded", true),
            (
                "pg_dump: error: query failed: ERROR:  could not write to file \"base/pgsql_tmp/1\": No space left on device",
                false,
            ),
        ] {
            let error = failure_of(stderr);
            assert_eq!(matches!(error, Error::NoRoom { .. }), of_scratch, "{error}");
            assert_eq!(error.to_string().contains("scratch.sizeLimit"), of_scratch, "{error}");
        }
    }

    #[test]
    fn what_may_not_be_read_is_told_with_the_remedy() {
        for (stderr, said) in [
            (
                "pg_dump: error: query failed: ERROR:  permission denied for large object 16400".to_owned(),
                "permission denied for large object 16400",
            ),
            (
                locking("permission denied for table table_7"),
                "permission denied for table table_7",
            ),
        ] {
            let error = failure_of(&stderr);
            assert!(matches!(error, Error::Failed { .. }), "{error}");
            for text in [
                said,
                "grant it pg_read_all_data; large objects need their owner or a superuser",
            ] {
                assert!(error.to_string().contains(text), "{text} in {error}");
            }
        }
    }
}
