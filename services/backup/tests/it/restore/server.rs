//! A PostgreSQL server of a test's own: what is a setting of a whole server, or of its installation, is nobody else's.

use crate::trial::{is_root, run_checked};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process,
};
use tokio::process::{Child, Command};

/// Where the machine's PostgreSQL 15 lies, below `/usr`.
const BIN: &str = "lib/postgresql/15/bin";
const LIBRARIES: &str = "lib/postgresql/15/lib";
const SHARE: &str = "share/postgresql/15";
/// Whom a PostgreSQL server obeys where the tests run as root.
const NOBODY: u32 = 65534;

/// A PostgreSQL server that ends with the test.
pub struct Server {
    pub options: PgConnectOptions,
    pub port: u16,
    bin: PathBuf,
    folder: tempfile::TempDir,
    _process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed alone it would leave an autovacuum launcher behind that finds nothing and never ends.
        let mut stop = program(&self.bin, "pg_ctl", &self.folder.path().join("data"));
        let _ = stop.args(["--mode", "immediate", "stop"]).status();
    }
}

fn program(bin: &Path, name: &str, data: &Path) -> process::Command {
    let mut command = process::Command::new(bin.join(name));
    command
        .arg("-D")
        .arg(data)
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

impl Server {
    pub async fn start(settings: &[&str]) -> Self {
        Self::of(&Path::new("/usr").join(BIN), settings).await
    }

    async fn of(bin: &Path, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            run_checked("chown", &["65534:65534", folder.path().to_str().unwrap()]);
        }
        let data = folder.path().join("data");
        let mut make = program(bin, "initdb", &data);
        make.args(["--no-sync", "--auth=trust", "--username=postgres"]);
        assert!(make.status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut serve = program(bin, "postgres", &data);
        serve.arg("-k").arg(folder.path()).args(["-p", &port.to_string()]);
        for setting in ["fsync=off", "listen_addresses=127.0.0.1"].iter().chain(settings) {
            serve.args(["-c", setting]);
        }
        let process = Command::from(serve).kill_on_drop(true).spawn().unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username("postgres")
            .database("postgres");
        let answers = async {
            while PgConnection::connect_with(&options).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(120), answers)
            .await
            .expect("the server answers");
        Self {
            options,
            port,
            bin: bin.to_owned(),
            folder,
            _process: process,
        }
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        let options = self.options.clone().database(database);
        PgConnection::connect_with(&options).await.unwrap()
    }

    pub async fn execute(&self, database: &str, statements: &str) {
        let mut session = self.connect(database).await;
        session.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
        session.close().await.unwrap();
    }

    /// One text of one query.
    pub async fn text(&self, database: &str, query: &str) -> String {
        let mut session = self.connect(database).await;
        let text: Option<String> = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut session)
            .await
            .unwrap();
        session.close().await.unwrap();
        text.unwrap_or_default()
    }
}

/// A copy of the machine's PostgreSQL with one extension more. It finds what belongs to it by where its programs lie.
pub struct Installation {
    folder: tempfile::TempDir,
}

impl Installation {
    pub fn with_extension(name: &str, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (bin, share) = (folder.path().join(BIN), folder.path().join(SHARE));
        fs::create_dir_all(bin.parent().unwrap()).unwrap();
        fs::create_dir_all(share.join("extension")).unwrap();
        let machine = Path::new("/usr");
        run_checked(
            "cp",
            &["-rL", machine.join(BIN).to_str().unwrap(), bin.to_str().unwrap()],
        );
        symlink(machine.join(LIBRARIES), folder.path().join(LIBRARIES)).unwrap();
        for part in ["", "extension"] {
            for entry in fs::read_dir(machine.join(SHARE).join(part)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() != "extension" {
                    symlink(entry.path(), share.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        let extension = share.join("extension");
        fs::write(
            extension.join(format!("{name}.control")),
            "default_version = '1.0'\nrelocatable = true\n",
        )
        .unwrap();
        fs::write(extension.join(format!("{name}--1.0.sql")), script).unwrap();
        if is_root() {
            run_checked("chmod", &["-R", "a+rX", folder.path().to_str().unwrap()]);
        }
        Self { folder }
    }

    /// The folder with one folder per major version.
    pub fn clients(&self) -> PathBuf {
        self.folder.path().join("lib/postgresql")
    }

    pub async fn serve(&self) -> Server {
        Server::of(&self.folder.path().join(BIN), &[]).await
    }
}
