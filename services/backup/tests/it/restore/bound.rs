//! What a database is bound to beside its contents, and which server is meant: on a server of this test's own, since such
//! things are settings of a whole server.

use super::harness::Restoring;
use crate::{
    harness::{Database, SMALL},
    trial::{is_root, run_checked},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use std::{net::TcpListener, os::unix::process::CommandExt, path::Path, process};
use tokio::process::{Child, Command};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Whom a PostgreSQL server obeys where the tests run as root.
const NOBODY: u32 = 65534;

/// A PostgreSQL server that ends with the test.
struct Server {
    options: PgConnectOptions,
    port: u16,
    _folder: tempfile::TempDir,
    _process: Child,
}

fn program(name: &str, data: &Path) -> process::Command {
    let mut command = process::Command::new(format!("{BIN}/{name}"));
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
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            run_checked("chown", &["65534:65534", folder.path().to_str().unwrap()]);
        }
        let data = folder.path().join("data");
        let mut make = program("initdb", &data);
        make.args(["--no-sync", "--auth=trust", "--username=postgres"]);
        assert!(make.status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut serve = program("postgres", &data);
        serve.arg("-k").arg(folder.path()).args(["-p", &port.to_string()]);
        for setting in [
            "fsync=off",
            "listen_addresses=127.0.0.1",
            "max_prepared_transactions=5",
            "wal_level=logical",
        ] {
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
            _folder: folder,
            _process: process,
        }
    }

    async fn execute(&self, database: &str, statements: &str) {
        let options = self.options.clone().database(database);
        let mut session = PgConnection::connect_with(&options).await.unwrap();
        session.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
        session.close().await.unwrap();
    }

    /// Names of its databases, with how many rows the living one has.
    async fn state(&self) -> (Vec<String>, i64) {
        let mut session = PgConnection::connect_with(&self.options).await.unwrap();
        let names = sqlx::query_scalar("SELECT datname::text FROM pg_database ORDER BY 1")
            .fetch_all(&mut session)
            .await
            .unwrap();
        let options = self.options.clone().database("living");
        let mut session = PgConnection::connect_with(&options).await.unwrap();
        let rows = sqlx::query_scalar("SELECT count(*) FROM t")
            .fetch_one(&mut session)
            .await;
        (names, rows.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_to_more_than_its_contents_or_to_another_server_is_not_replaced() {
    let database = Database::new("orders", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    restoring.replacing("orders", "living");
    let server = Server::start().await;
    server.execute("postgres", "CREATE DATABASE living").await;
    server
        .execute("living", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    let before = server.state().await;

    restoring.secret(1, "host", "127.0.0.1");
    restoring.secret(1, "port", &server.port.to_string());
    let ended = restoring.run("two-servers").await;
    restoring.assert_failed(
        &ended,
        "TargetRefused",
        &["secrets target and admin speak of two servers"],
    );

    restoring.secret(0, "host", "127.0.0.1");
    restoring.secret(0, "port", &server.port.to_string());
    let slot = "SELECT pg_create_logical_replication_slot('reader', 'pgoutput')";
    for (pod, bound, freed, told) in [
        (
            "prepared",
            "BEGIN; DELETE FROM t; PREPARE TRANSACTION 'open'",
            "ROLLBACK PREPARED 'open'",
            ["prepared transactions", "ROLLBACK PREPARED"],
        ),
        (
            "slot",
            slot,
            "SELECT pg_drop_replication_slot('reader')",
            ["replication slots", "drop them first"],
        ),
    ] {
        server.execute("living", bound).await;
        restoring.put();
        let ended = restoring.run(pod).await;
        restoring.assert_failed(&ended, "TargetRefused", &told);
        assert_eq!(server.state().await, before, "{pod}");
        server.execute("living", freed).await;
    }
    database.drop().await;
}
