//! A PostgreSQL and a Redis of xtask's own for the unit and service tests: real servers on free ports, with their
//! data in a temporary folder, ended together with the guard that holds them.
//!
//! On Linux the servers also ask the kernel to be killed when xtask dies, so that even `kill -9` leaves none.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::{Program, Running};
use crate::failure::WithRemedy;
use crate::interrupt;
use crate::steps::Log;
use crate::tools::{debian, find};

const READY_WITHIN: Duration = Duration::from_secs(30);
/// Everybody is trusted, but the members of a role that is called like the database log in with their passwords.
const WHO_MAY_CONNECT: &str = "\
local all all trust
host all postgres 127.0.0.1/32 trust
host samerole all 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
";

/// The running servers.
pub struct Services {
    /// A superuser's URL; tests create a database each.
    pub database_url: String,
    /// Tests use a prefix each.
    pub redis_url: String,
    // Declared before the folder: fields are dropped in order, and the servers end before their data goes.
    _postgres: Running,
    _redis: Running,
    _folder: Folder,
}

impl Services {
    /// Starts both servers and waits until they answer. PostgreSQL waits for no disk: its data dies with the tests, and a
    /// crash of the host loses nothing that is wanted.
    ///
    /// # Errors
    /// When a server program is missing, or a server does not answer within 30 seconds.
    pub fn start(log: &Log) -> Result<Self> {
        Self::start_with(&[("fsync", "off"), ("full_page_writes", "off")], log)
    }

    /// The same with a PostgreSQL that waits for the disk at every commit, as in production.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_durable(log: &Log) -> Result<Self> {
        Self::start_with(&[], log)
    }

    fn start_with(durability: &[(&str, &str)], log: &Log) -> Result<Self> {
        let programs = debian::postgres_programs()
            .context("no PostgreSQL server programs were found")
            .remedy("install the package postgresql")?;
        let redis_server = find("redis-server")
            .context("redis-server was not found")
            .remedy("install the package redis-server")?;
        let owner = Owner::choose()?;
        let folder = Folder::create(&owner)?;
        let data = folder.path.join("postgres");

        owner
            .program(&programs.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&data)
            .in_folder(&folder.path)
            .run(log)?;
        fs::write(data.join("pg_hba.conf"), WHO_MAY_CONNECT).context("failed to write pg_hba.conf")?;
        let (postgres_port, redis_port) = (free_port()?, free_port()?);
        let mut postgres = owner
            .program(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &postgres_port.to_string(), "-k"])
            .arg(&folder.path)
            .args(settings(&[
                ("listen_addresses", "127.0.0.1"),
                ("max_connections", "400"),
                ("shared_buffers", "128MB"),
            ]))
            .args(settings(durability))
            .in_folder(&folder.path)
            .start(log)?;
        let mut redis = owner
            .program(&redis_server)
            .args(["--bind", "127.0.0.1", "--port", &redis_port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(&folder.path)
            .in_folder(&folder.path)
            .start(log)?;

        let database_url = format!("postgres://postgres@127.0.0.1:{postgres_port}/postgres");
        let asks_postgres = || {
            Program::new(programs.join("pg_isready"))
                .args(["-q", "-d", &database_url])
                .succeeds()
        };
        wait_until("PostgreSQL", &mut postgres, asks_postgres)?;
        let asks_redis = || pong(redis_port).is_ok_and(|answer| answer == *b"+PONG");
        wait_until("Redis", &mut redis, asks_redis)?;
        log.say(&format!(
            "PostgreSQL on 127.0.0.1:{postgres_port}, Redis on 127.0.0.1:{redis_port}"
        ));
        Ok(Self {
            database_url,
            redis_url: format!("redis://127.0.0.1:{redis_port}/"),
            _postgres: postgres,
            _redis: redis,
            _folder: folder,
        })
    }
}

/// Who the servers run as. PostgreSQL refuses to run as root.
enum Owner {
    Myself,
    Another { user: u32, group: u32 },
}

impl Owner {
    fn choose() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Myself);
        }
        let users = fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
        unprivileged(&users)
            .map(|(user, group)| Self::Another { user, group })
            .context("neither a user postgres nor a user nobody was found in /etc/passwd")
    }

    fn program(&self, program: &Path) -> Program {
        match self {
            Self::Myself => ends_with_xtask(program),
            Self::Another { user, group } => {
                let (user, group) = (user.to_string(), group.to_string());
                wrapped(program, &["--reuid", &user, "--regid", &group, "--clear-groups"])
            }
        }
    }
}

/// A program that the kernel kills when xtask dies, where the machine can say so.
pub fn ends_with_xtask(program: &Path) -> Program {
    wrapped(program, &[])
}

fn wrapped(program: &Path, more: &[&str]) -> Program {
    match find("setpriv") {
        None => Program::new(program),
        Some(setpriv) => Program::new(setpriv)
            .args(["--pdeathsig", "KILL"])
            .args(more)
            .arg("--")
            .arg(program),
    }
}

/// The ids of `postgres`, else of `nobody`.
fn unprivileged(passwd: &str) -> Option<(u32, u32)> {
    let ids = |name: &str| {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name))
                .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    ids("postgres").or_else(|| ids("nobody"))
}

/// A temporary folder that the owner of the servers can reach, removed when dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create(owner: &Owner) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("valerix-services-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).with_context(|| format!("failed to create {}", path.display()))?;
        let folder = Self { path };
        if let Owner::Another { user, group } = *owner {
            std::os::unix::fs::chown(&folder.path, Some(user), Some(group))
                .with_context(|| format!("failed to give {} to user {user}", folder.path.display()))?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

fn settings<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = String> + 'a {
    pairs
        .iter()
        .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
}

/// A port on which nobody listens and that the kernel gives to no connection, as it lies below those that it hands out
/// (from 32768), nor the tests to their own servers (from 11000). Another one each time.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap_or_default();
    (0..1_000)
        .map(|_| 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 1_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("failed to find a free port from 10000 to 10999")
}

fn pong(port: u16) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Waits until `server` answers.
///
/// # Errors
/// When it ends, does not answer within 30 seconds, or the user interrupts.
pub fn wait_until(name: &str, server: &mut Running, answers: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while !answers() {
        interrupt::check()?;
        ensure!(server.is_alive(), "{name} ended by itself right after its start");
        ensure!(
            Instant::now() < deadline,
            "{name} did not answer within {} s",
            READY_WITHIN.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_answer_and_leave_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::create(folder.path().join("log")).expect("a log");
        let services = Services::start(&log).expect("both servers start");
        let port = |url: &str| -> u16 {
            let digits = url
                .rsplit(':')
                .next()
                .unwrap_or_default()
                .split('/')
                .next()
                .unwrap_or_default();
            digits.parse().expect("a port")
        };
        let ports = [port(&services.database_url), port(&services.redis_url)];
        let data = services._folder.path.clone();
        assert!(data.join("postgres/PG_VERSION").exists());
        let asking = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'scram-sha-256' AND error IS NULL";
        let psql = debian::postgres_programs().expect("the programs").join("psql");
        let rules = Program::new(psql).args(["-At", "-d", &services.database_url, "-c", asking]);
        assert_eq!(rules.read(&log).expect("the rules").trim(), "1");
        drop(services);
        for port in ports {
            assert!(
                TcpStream::connect(("127.0.0.1", port)).is_err(),
                "something still listens on {port}"
            );
        }
        assert!(!data.exists());
    }

    #[test]
    fn servers_of_root_run_as_postgres_or_nobody() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        assert_eq!(unprivileged(passwd), Some((65534, 65533)));
        assert_eq!(
            unprivileged(&format!("{passwd}postgres:x:104:110::/:/bin/sh\n")),
            Some((104, 110))
        );
        assert_eq!(unprivileged("root:x:0:0::/root:/bin/sh\n"), None);
    }
}
