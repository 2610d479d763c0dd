//! Dumps one database and looks into the dump (L1, L3), both in one pass.
//!
//! In: a [`Connection`] and the [`Client`] to use. Out: a member of the archive that is not kept yet, and what it holds. Every
//! exit code counts. Runs pg_dump and pg_restore.
//!
//! ```text
//! pg_dump -> | -> sha256 -> zstd (-> age) -> archive
//!            | -> pg_restore --list -> its tables
//!            | -> pg_restore --section=data -> their rows
//! ```

use crate::{
    archive::{self, Writer},
    client::Client,
    connection::Connection,
    destination::off_thread,
    failure::Failure,
    libpq::{self, ConnectFault},
    member::{Form, Written},
    rows::RowCounter,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr},
};

/// How long pg_dump waits for a lock that somebody else holds on a table. Unit: seconds.
const LOCK_WAIT_SECONDS: u32 = 60;
/// Size of the pieces in which a dump is read.
const CHUNK: usize = 1 << 18;

/// The archive that dumps go into.
pub type SharedWriter = Arc<Mutex<Writer>>;

/// What a dump holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Tables with data definitions.
    pub tables: u64,
    /// Rows of each table, counted in the dump.
    pub rows: BTreeMap<String, u64>,
}

/// A dump that went into the archive and was read to its end.
#[derive(Debug)]
pub struct Taken {
    /// The member, which is to be kept.
    pub written: Written,
    /// What it holds.
    pub contents: Contents,
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
    /// The archive could not be written.
    #[error("{label}: scratch.sizeLimit must hold the archive")]
    Scratch {
        /// The database.
        label: String,
        /// Why.
        #[source]
        source: archive::Error,
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

/// Dumps one database into the archive, and reads it to its end on the way there.
///
/// # Errors
/// If pg_dump cannot be started or ends with anything but 0, if pg_restore finds the dump cut or damaged, or the archive
/// cannot be written; [`Error::Passing`] if trying again may help.
pub async fn dump(
    connection: &Connection,
    client: &Client,
    archive: &SharedWriter,
    form: &Form,
    file: &str,
) -> Result<Taken, Error> {
    const PROGRAM: &str = "pg_dump";
    let label = connection.label.as_str();
    let mut command = libpq::connected(client, PROGRAM, connection);
    command
        .args(["--format=custom", "--compress=0"])
        .arg(format!("--lock-wait-timeout={LOCK_WAIT_SECONDS}s"));
    let mut child = command.spawn().map_err(started(label, PROGRAM))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let source = stdout.map(tokio::process::ChildStdout::into_owned_fd);
    let source = source.transpose().map_err(started(label, PROGRAM))?;
    let taking = async {
        let Some(source) = source else {
            return Err(started(label, PROGRAM)(io::ErrorKind::BrokenPipe.into()));
        };
        match take(label, client, File::from(source), archive, form, file).await {
            // Nobody reads what pg_dump still has to say.
            Err(error @ (Error::Scratch { .. } | Error::Start { .. })) => Err(error),
            // It may only be cut, since pg_dump was.
            taken => Ok(taken),
        }
    };
    let dumping = async { ended(&mut child, stderr).await.map_err(started(label, PROGRAM)) };
    // Both at once; whichever fails ends the other one.
    let (taken, (status, stderr)) = tokio::try_join!(taking, dumping)?;
    if status.success() {
        return taken;
    }
    Err(failure(connection, PROGRAM, status.to_string(), &stderr))
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

/// Reads a dump to its end, every byte once: it goes into the archive, its table of contents is read by `--list`, and
/// pg_restore prints every data block of it. Whether the program that writes it has ended well is the caller's to know.
///
/// # Errors
/// If pg_restore finds the dump cut or damaged, or the archive cannot be written.
pub async fn take(
    label: &str,
    client: &Client,
    source: File,
    archive: &SharedWriter,
    form: &Form,
    file: &str,
) -> Result<Taken, Error> {
    let (list, data) = ("pg_restore --list", "pg_restore --section=data");
    let reader = |arguments: &[&str], program| {
        let mut command = libpq::command(client, "pg_restore");
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command.spawn().map_err(started(label, program))?;
        let input = child.stdin.take().map(tokio::process::ChildStdin::into_owned_fd);
        let input = input.transpose().map_err(started(label, program))?;
        Ok::<_, Error>((child, input))
    };
    let (listing, list_input) = reader(&["--list"], list)?;
    let (mut reading, data_input) = reader(&["--section=data", "--file=-"], data)?;
    let (stdout, stderr) = (reading.stdout.take(), reading.stderr.take());
    let stdout = stdout.map(tokio::process::ChildStdout::into_owned_fd);
    let stdout = stdout.transpose().map_err(started(label, data))?;

    let work = Work {
        archive: archive.clone(),
        form: form.clone(),
        file: file.to_owned(),
        readers: [list_input, data_input],
    };
    let died = |failure: Failure| io::Error::other(failure.to_string());
    let carrying = async {
        let carried = off_thread(move || work.carry(source)).await;
        carried
            .map_err(died)
            .map_err(started(label, "pg_dump"))?
            .map_err(|error| match error {
                Carried::Read(source) => started(label, "pg_dump")(source),
                Carried::Archive(source) => Error::Scratch {
                    label: label.to_owned(),
                    source,
                },
            })
    };
    let counting = async {
        let counted = off_thread(move || count_rows(stdout)).await.map_err(died);
        counted.and_then(|counted| counted).map_err(started(label, data))
    };
    let listed = async { listing.wait_with_output().await.map_err(started(label, list)) };
    let read = async { ended(&mut reading, stderr).await.map_err(started(label, data)) };
    // All pipes at once: whichever is not served would stop its program.
    let (written, rows, listed, (status, stderr)) = tokio::try_join!(carrying, counting, listed, read)?;
    check(label, list, listed.status, &listed.stderr)?;
    check(label, data, status, &stderr)?;
    let list = String::from_utf8_lossy(&listed.stdout);
    let tables = list.lines().filter(|line| is_table_data(line)).count() as u64;
    let contents = Contents { tables, rows };
    Ok(Taken { written, contents })
}

/// What carries a dump to everybody who reads it.
struct Work {
    archive: SharedWriter,
    form: Form,
    file: String,
    readers: [Option<OwnedFd>; 2],
}

/// Why it was not carried to its end.
enum Carried {
    Read(io::Error),
    Archive(archive::Error),
}

impl Work {
    fn carry(self, mut source: impl Read) -> Result<Written, Carried> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let mut readers = self.readers.map(|reader| reader.map(File::from));
        let mut body = self.form.begin(&mut archive, &self.file).map_err(Carried::Archive)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Carried::Read(error)),
            };
            for reader in &mut readers {
                // pg_restore that stops reading has failed, or has seen all that it wants: its exit code says which.
                reader.take_if(|pipe| pipe.write_all(&buffer[..count]).is_err());
            }
            body.write_all(&buffer[..count]).map_err(|source| {
                Carried::Archive(archive::Error::Io {
                    action: "write the archive".into(),
                    source,
                })
            })?;
        }
        // They have seen the end, and go on to theirs meanwhile.
        drop(readers);
        body.finish().map_err(Carried::Archive)
    }
}

fn count_rows(stdout: Option<OwnedFd>) -> io::Result<BTreeMap<String, u64>> {
    let mut counter = RowCounter::default();
    if let Some(stdout) = stdout {
        let mut stdout = File::from(stdout);
        let mut buffer = vec![0; CHUNK];
        loop {
            match stdout.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => counter.feed(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(counter.finish())
}

/// How a program ended, and what it said.
async fn ended(child: &mut Child, stderr: Option<ChildStderr>) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut said = Vec::new();
    if let Some(mut stderr) = stderr {
        stderr.read_to_end(&mut said).await?;
    }
    Ok((child.wait().await?, said))
}

fn started(label: &str, program: &'static str) -> impl FnOnce(io::Error) -> Error {
    let label = label.to_owned();
    move |source| Error::Start { label, program, source }
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
