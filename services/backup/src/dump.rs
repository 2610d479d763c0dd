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
    libpq,
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
    task::spawn_blocking,
};

mod failing;

pub(crate) use failing::failure;

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
    #[error("{label}: the archive could not be made")]
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
    let carrying = async {
        let carried = spawn_blocking(move || work.carry(source)).await;
        carried
            .map_err(io::Error::other)
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
        let counted = spawn_blocking(move || count_rows(stdout))
            .await
            .map_err(io::Error::other);
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
}
