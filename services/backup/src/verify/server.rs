//! A PostgreSQL server of this process alone: made on scratch, reached by a socket there, gone with the pod.
//!
//! In: the programs of one major version and a folder. Out: databases to restore into and to ask. What it holds is a copy,
//! so nothing of it need survive: it does not fsync.

use super::{
    stream::Stream,
    verdict::{Finding, Rung},
};
use crate::{client::Client, connection::Connection, libpq, roles::Roles};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    time::Instant,
};

const USER: &str = "valerix";
/// Where the server says what it has to say.
const LOG: &str = "log";
/// How much of a dump's beginning is read at a time. Unit: bytes.
const CHUNK: usize = 256 * 1024;
/// How long the server may take to answer first.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const START_PAUSE: Duration = Duration::from_millis(200);
/// Exit code of psql where a statement of a script was refused.
const SCRIPT_FAILED: i32 = 3;
/// Exit code of psql where what `--command` holds was refused.
const COMMAND_FAILED: i32 = 1;
/// Settings of a server whose data nobody needs tomorrow.
const SETTINGS: [&str; 14] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=128MB",
    "shared_buffers=32MB",
    "dynamic_shared_memory_type=mmap",
    "max_connections=10",
    "autovacuum=off",
    "jit=off",
    "logging_collector=off",
];

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The server has understood and refused it.
    Refused(String),
    /// The server was not there, or lacked time or room: that says nothing of what was asked about.
    Unable(String),
}

/// What is told of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What the server says.
    Words,
    /// Its SQLSTATE alone: its words may have somebody's data in them.
    Code,
}

impl Unanswered {
    pub(super) fn why(self) -> String {
        match self {
            Self::Refused(why) | Self::Unable(why) => why,
        }
    }

    /// What it means on a rung, of what `label` names.
    pub(super) fn finding(self, rung: Rung, label: &str) -> Finding {
        match self {
            Self::Refused(why) => Finding::failed(rung, format!("{label}: {why}")),
            Self::Unable(why) => Finding::inconclusive(rung, format!("{label}: it could not be found out: {why}")),
        }
    }
}

/// The running server. It is killed when this is dropped.
pub(super) struct Server {
    client: Client,
    folder: PathBuf,
    _process: Child,
}

impl Server {
    /// Makes and starts one in `folder`, which must not be there yet.
    pub(super) async fn start(client: &Client, folder: &Path) -> Result<Self, Finding> {
        let data = folder.join("data");
        fs::create_dir_all(folder)
            .map_err(|error| unusable(&format!("failed to create {}: {error}", folder.display())))?;
        let mut command = libpq::command(client, "initdb");
        command
            .args([
                "--no-locale",
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--username",
                USER,
            ])
            .arg("--pgdata")
            .arg(&data);
        let made = libpq::output(command)
            .await
            .map_err(|error| unusable(&format!("failed to run initdb: {error}")))?;
        if !made.status.success() {
            return Err(unusable(&format!("initdb failed: {}", told(&made.stderr))));
        }
        let log = folder.join(LOG);
        let output =
            File::create(&log).map_err(|error| unusable(&format!("failed to create {}: {error}", log.display())))?;
        let errors = output.try_clone().map_err(|error| unusable(&error.to_string()))?;
        let mut command = libpq::command(client, "postgres");
        command.arg("-D").arg(&data).arg("-k").arg(folder);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let mut process = command
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .spawn()
            .map_err(|error| unusable(&format!("failed to run postgres: {error}")))?;
        let deadline = Instant::now() + START_TIMEOUT;
        let probe = Self::connection(folder, "postgres");
        loop {
            if ask(client, &probe, "SELECT 1", folder).await.is_ok() {
                return Ok(Self {
                    client: client.clone(),
                    folder: folder.to_owned(),
                    _process: process,
                });
            }
            if Instant::now() >= deadline || !matches!(process.try_wait(), Ok(None)) {
                let said = fs::read(&log).unwrap_or_default();
                return Err(unusable(&format!("postgres did not start: {}", told(&said))));
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    fn connection(folder: &Path, database: &str) -> Connection {
        Connection {
            label: "the throwaway server".into(),
            secret: String::new(),
            name: database.into(),
            host: folder.to_string_lossy().into_owned(),
            port: 5432,
            database: database.into(),
            username: USER.into(),
            password: OsString::new(),
            ssl_mode: None,
            root_certificates: None,
        }
    }

    /// Makes roles. Of what they have beside their names, says how much the server refuses.
    pub(super) async fn create_roles(&self, mut roles: Roles) -> Result<usize, Finding> {
        roles.retain_missing(&BTreeSet::from([USER.to_owned()]));
        let script = roles
            .creation(&|_| None)
            .iter()
            .fold(String::new(), |script, statement| script + statement + ";\n");
        let made = self.ask("postgres", &script).await;
        made.map_err(|unanswered| unanswered.finding(Rung::Restore, "the roles of the archive"))?;
        // All in one session, which is to go on after what is refused, and says how often that was.
        let attempts = roles.refinement().iter().fold(String::new(), |script, statement| {
            script + statement + ";\nSELECT 1 WHERE :'ERROR';\n"
        });
        let refused = self
            .ask("postgres", &format!("\\set ON_ERROR_STOP 0\n{attempts}"))
            .await;
        let refused = refused.map_err(|unanswered| unusable(&unanswered.why()))?;
        Ok(refused.lines().count())
    }

    /// Makes a database and restores the dump that arrives into it; without owners and grants where the archive holds no roles.
    pub(super) async fn restore(
        &self,
        database: &str,
        dump: &mut Stream,
        label: &str,
        has_roles: bool,
    ) -> Result<(), Finding> {
        let head = self.folder.join("head");
        let encoding = self.encoding(dump, &head, label).await?;
        let statement = format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}'");
        self.ask("postgres", &statement)
            .await
            .map_err(|unanswered| unusable(&format!("failed to make a database for {label}: {}", unanswered.why())))?;
        let connection = Self::connection(&self.folder, database);
        let mut command = libpq::connected(&self.client, "pg_restore", &connection);
        // A subscription would begin to copy.
        command.args(["--exit-on-error", "--no-subscriptions"]);
        if !has_roles {
            command.args(["--no-owner", "--no-privileges"]);
        }
        let restored = fed(command, async |mut input| {
            let mut head = tokio::fs::File::open(&head).await?;
            let mut buffer = vec![0; CHUNK];
            loop {
                let count = head.read(&mut buffer).await?;
                if count == 0 {
                    break;
                }
                if input.write_all(&buffer[..count]).await.is_err() {
                    return Ok(());
                }
            }
            while let Some(bytes) = dump.bytes().await {
                // pg_restore that stops reading has failed, or has seen all that it wants: its exit code says which.
                if input.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        let restored = restored
            .await
            .map_err(|error| unusable(&format!("failed to run pg_restore: {error}")))?;
        if restored.status.success() {
            return Ok(());
        }
        let mut why = format!("{label}: pg_restore failed: {}", told(&restored.stderr));
        if let Some(said) = self.last_words().filter(|_| libpq::is_lost(&why)) {
            why = format!("{why}: {said}");
        }
        Err(
            if restored.status.code().is_none() || lacks_something(&why, has_roles) {
                Finding::inconclusive(Rung::Restore, why)
            } else {
                Finding::failed(Rung::Restore, why)
            },
        )
    }

    /// Why the server has ended itself, if it has: who was connected hears only that it is gone. What else is in its log may
    /// have somebody's data in it.
    fn last_words(&self) -> Option<String> {
        const PANIC: &str = "PANIC:";
        let log = fs::read(self.folder.join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let said = log.lines().rev().find_map(|line| line.split_once(PANIC))?.1;
        Some(told(format!("{PANIC}{said}").as_bytes()))
    }

    /// The encoding that the dumped database had. What had to be read of the dump for that is in `head` then.
    async fn encoding(&self, dump: &mut Stream, head: &Path, label: &str) -> Result<String, Finding> {
        let mut command = libpq::command(&self.client, "pg_restore");
        command.args(["--schema-only", "--section=pre-data", "--file=-"]);
        let listed = fed(command, async |mut input| {
            let mut head = tokio::fs::File::create(head).await?;
            while let Some(bytes) = dump.bytes().await {
                head.write_all(&bytes).await?;
                if input.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            head.flush().await
        });
        let listed = listed
            .await
            .map_err(|error| unusable(&format!("failed to read the beginning of {label}: {error}")))?;
        if !listed.status.success() {
            let why = format!("{label}: pg_restore failed: {}", told(&listed.stderr));
            return Err(if listed.status.code().is_none() || lacks_something(&why, true) {
                unusable(&why)
            } else {
                Finding::failed(Rung::Restore, why)
            });
        }
        let text = String::from_utf8_lossy(&listed.stdout);
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("SET client_encoding = '")?.strip_suffix("';"));
        Ok(found.unwrap_or("UTF8").to_owned())
    }

    /// What a script of SQL prints, unaligned, one row a line.
    pub(super) async fn ask(&self, database: &str, script: &str) -> Result<String, Unanswered> {
        let connection = Self::connection(&self.folder, database);
        ask(&self.client, &connection, script, &self.folder).await
    }

    /// What statements that are not ours answer. They begin with a word of ours, so psql hands them to the server as they
    /// are: nothing in them is a command of psql, which could run programs.
    pub(super) async fn put(&self, database: &str, statements: &str, told: Told) -> Result<String, Unanswered> {
        let mut command = psql(&self.client, &Self::connection(&self.folder, database));
        if told == Told::Code {
            command.args(["--set", "VERBOSITY=sqlstate"]);
        }
        command.arg("--command").arg(statements);
        answered(command, |code, why| match (told, code) {
            (Told::Code, Some(COMMAND_FAILED)) => of_code(&why),
            (_, code) => unanswered(code, COMMAND_FAILED, why),
        })
        .await
    }
}

/// Runs a command to its end while something feeds it.
async fn fed(mut command: Command, feed: impl AsyncFnOnce(ChildStdin) -> io::Result<()>) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (output, ()) = tokio::try_join!(child.wait_with_output(), feed(input))?;
    Ok(output)
}

async fn ask(client: &Client, connection: &Connection, script: &str, folder: &Path) -> Result<String, Unanswered> {
    // A file: what is asked of thousands of tables does not fit on a command line.
    let file = folder.join("script.sql");
    fs::write(&file, script).map_err(not_run)?;
    let mut command = psql(client, connection);
    command.arg("--file").arg(&file);
    answered(command, |code, why| unanswered(code, SCRIPT_FAILED, why)).await
}

fn psql(client: &Client, connection: &Connection) -> Command {
    let mut command = libpq::connected(client, "psql", connection);
    command
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
        .args(["--set", "ON_ERROR_STOP=1"]);
    command
}

async fn answered(
    command: Command,
    unanswered: impl FnOnce(Option<i32>, String) -> Unanswered,
) -> Result<String, Unanswered> {
    let answer = libpq::output(command).await.map_err(not_run)?;
    if answer.status.success() {
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    } else {
        Err(unanswered(answer.status.code(), told(&answer.stderr)))
    }
}

fn not_run(error: io::Error) -> Unanswered {
    Unanswered::Unable(format!("failed to run psql: {error}"))
}

/// psql ends with one code where the server has refused a statement, and with another one where it could not ask.
fn unanswered(code: Option<i32>, refused: i32, why: String) -> Unanswered {
    if code == Some(refused) && !was_unable(&why) {
        Unanswered::Refused(why)
    } else {
        Unanswered::Unable(why)
    }
}

/// The same where the server has told its SQLSTATE alone.
fn of_code(why: &str) -> Unanswered {
    /// Too few resources, ended by somebody or by the time, and errors of the system below it.
    const UNABLE: [&str; 3] = ["53", "57", "58"];
    let code = why.split_whitespace().next_back().unwrap_or_default();
    if UNABLE.iter().any(|class| code.starts_with(class)) || was_unable(why) {
        Unanswered::Unable(format!("the server ended it with SQLSTATE {code}"))
    } else {
        Unanswered::Refused(format!(
            "the server ended it with SQLSTATE {code}; what it said may have data in it and is not told"
        ))
    }
}

fn told(output: &[u8]) -> String {
    libpq::shortened(&libpq::line(output))
}

/// Whether the server, or this place, was at fault while it was asked.
fn was_unable(complaint: &str) -> bool {
    libpq::is_about_connecting(complaint)
        || libpq::is_lost(complaint)
        || [
            "No space left on device",
            "Input/output error",
            "could not extend file",
            "out of memory",
            "could not resize shared memory segment",
            "canceling statement due to statement timeout",
        ]
        .iter()
        .any(|text| complaint.contains(text))
}

/// Whether this place lacks what the dump needs, which says nothing against the dump. A role that an archive with roles
/// lacks would be missed in earnest, too.
fn lacks_something(complaint: &str, has_roles: bool) -> bool {
    was_unable(complaint)
        || [
            "extension control file",
            "is not available",
            "could not access file",
            "could not create locale",
        ]
        .iter()
        .any(|text| complaint.contains(text))
        || (!has_roles && complaint.contains("role \"") && complaint.contains("does not exist"))
}

fn unusable(why: &str) -> Finding {
    Finding::inconclusive(Rung::Restore, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::TrialRestoreState;

    #[test]
    fn what_this_place_lacks_is_no_fault_of_the_dump() {
        for (complaint, lacks) in [
            ("ERROR: extension \"postgis\" is not available", true),
            ("ERROR: could not open extension control file \"/x\"", true),
            ("ERROR: role \"app\" does not exist", true),
            ("ERROR: could not extend file \"base/1\": No space left on device", true),
            ("error: server closed the connection unexpectedly", true),
            ("pg_restore: error: could not read from input file: end of file", false),
            ("ERROR: relation \"t\" does not exist", false),
        ] {
            assert_eq!(lacks_something(complaint, false), lacks, "{complaint}");
        }
        // As the kernel ends the server in the middle of a count, and as its disk fills.
        let volume = |code, why: &str| {
            unanswered(code, SCRIPT_FAILED, why.into())
                .finding(Rung::Volume, "orders")
                .state
        };
        for (code, why, state) in [
            (
                Some(3),
                "ERROR: relation \"t\" does not exist",
                TrialRestoreState::Failed,
            ),
            (
                Some(3),
                "ERROR: invalid page in block 0 of relation base/1/2",
                TrialRestoreState::Failed,
            ),
            (
                Some(2),
                "server closed the connection unexpectedly: connection to server was lost",
                TrialRestoreState::Inconclusive,
            ),
            (
                Some(2),
                "connection to server on socket \"/x/.s.PGSQL.5432\" failed: No such file or directory",
                TrialRestoreState::Inconclusive,
            ),
            (
                Some(3),
                "ERROR: could not write to file \"base/pgsql_tmp/1\": No space left on device",
                TrialRestoreState::Inconclusive,
            ),
            (
                Some(3),
                "ERROR: canceling statement due to statement timeout",
                TrialRestoreState::Inconclusive,
            ),
            (Some(1), "out of memory", TrialRestoreState::Inconclusive),
            (None, "", TrialRestoreState::Inconclusive),
        ] {
            assert_eq!(volume(code, why), state, "{why}");
        }
        assert!(!lacks_something("ERROR: role \"app\" does not exist", true));
        for (why, state) in [
            ("ERROR: 22P02", TrialRestoreState::Failed),
            ("ERROR: 42P01", TrialRestoreState::Failed),
            ("ERROR: 53100", TrialRestoreState::Inconclusive),
            ("ERROR: 57014", TrialRestoreState::Inconclusive),
        ] {
            assert_eq!(of_code(why).finding(Rung::Semantics, "q").state, state, "{why}");
        }
    }
}
