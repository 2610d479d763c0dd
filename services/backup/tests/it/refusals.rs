//! What must not be stored is not, and the record says why.

use crate::harness::{Database, Harness, RECORD, SMALL};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use valerix_backup::{
    archive::{self, Writer},
    dump,
    member::Form,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_refused() {
    let (full, empty) = (
        Database::new("full", SMALL).await,
        Database::new("empty", "SELECT 1").await,
    );
    let mut harness = Harness::new(&[("full", &full.name), ("empty", &empty.name)]).await;
    let ended = harness.run("pod").await;
    harness.assert_failed(
        &ended,
        23,
        "DumpImplausible",
        &["databases[1] empty: the dump holds 0 tables"],
    );
    harness.spec["databases"][1]["minimum"] = json!({"tables": 0});
    assert_eq!(harness.run("again").await.code, Some(0));
    harness.assert_agreement();
    full.drop().await;
    empty.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_secrets_are_all_named() {
    let mut harness = Harness::new(&[("orders", "x"), ("payments", "y")]).await;
    fs::remove_dir_all(harness.folder.path().join("connections/0")).unwrap();
    fs::remove_file(harness.folder.path().join("connections/1/password")).unwrap();
    harness.spec["databases"][1]["connectionSecretRef"]["name"] = json!("pay");
    let ended = harness.run("pod").await;
    harness.assert_failed(
        &ended,
        20,
        "SecretInvalid",
        &[
            "databases[0] orders: secret orders-db, key host not found, key username not found, key password not found: is there such a Secret",
            "databases[1] payments: secret pay, key password not found",
        ],
    );
}

/// Speaks enough of the protocol to ask for a password and to refuse it, as a real server does.
async fn refusing_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                loop {
                    let count = stream.read(&mut buffer).await.unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    let text = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"postgres\"\0\0";
                    let refusal = [b"E".as_slice(), &(text.len() as u32 + 4).to_be_bytes(), text].concat();
                    let answer: &[u8] = if count == 8 {
                        b"N" // no TLS
                    } else if buffer[0] == b'p' {
                        &refusal
                    } else {
                        b"R\0\0\0\x08\0\0\0\x03"
                    };
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_fails_at_once_and_names_the_database() {
    let database = Database::new("good", SMALL).await;
    let harness = Harness::new(&[("good", &database.name), ("locked", "x")]).await;
    harness.secret(1, "port", &refusing_server().await.to_string());
    let ended = harness.run("pod").await;
    assert!(!ended.log.contains("trying again"), "{}", ended.log);
    harness.assert_failed(
        &ended,
        20,
        "DatabaseRefused",
        &[
            "databases[1] locked: refused by the server of secret locked-db",
            "FATAL: password authentication failed for user",
        ],
    );
    assert!(!harness.message().contains("good"), "{}", harness.message());
    database.drop().await;
}

/// A role that sees some rows of a table would make a backup of some rows.
#[tokio::test(flavor = "multi_thread")]
async fn what_row_level_security_hides_is_refused_and_not_left_out() {
    let database = Database::new(
        "orders",
        &format!("{SMALL} ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY low ON t USING (id < 10)"),
    )
    .await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let mut control = harness.connect("postgres").await;
    let role = format!("seer_{}", database.name);
    let statement = format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT pg_read_all_data TO {role}");
    control.execute(AssertSqlSafe(statement)).await.unwrap();
    harness.secret(0, "username", &role);
    harness.secret(0, "password", "x");
    let ended = harness.run("pod").await;
    harness.assert_failed(
        &ended,
        22,
        "DumpFailed",
        &["databases[0] orders", "row-level security", "BYPASSRLS"],
    );
    control
        .execute(AssertSqlSafe(format!("ALTER ROLE {role} BYPASSRLS")))
        .await
        .unwrap();
    harness.put_record(crate::harness::RECORD, "2026-08-21");
    let ended = harness.run("bypassing").await;
    assert_eq!(ended.code, Some(0), "{} {}", harness.message(), ended.log);
    assert_eq!(harness.record()["status"]["databases"][0]["tables"], 1);
    database.drop().await;
    control
        .execute(AssertSqlSafe(format!("DROP ROLE {role}")))
        .await
        .unwrap();
}

/// Whoever is a member of a role that is called like the database is asked for a password by the server of `make unit`.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_any_characters_logs_in() {
    const PASSWORDS: [&str; 2] = ["geheim🔑", "geheim\u{a0}"];
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("emoji", &database.name), ("space", &database.name)]).await;
    let mut control = harness.connect("postgres").await;
    let group = database.name.clone();
    let roles = [format!("emoji_{group}"), format!("space_{group}")];
    let mut statements = format!("CREATE ROLE {group}; GRANT pg_read_all_data TO {group};");
    for (index, (role, password)) in roles.iter().zip(PASSWORDS).enumerate() {
        statements.push_str(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{password}' IN ROLE {group};"
        ));
        harness.secret(index, "username", role);
        harness.secret(index, "password", password);
    }
    control.execute(AssertSqlSafe(statements)).await.unwrap();
    let without = harness.server.clone().database(&database.name).username(&roles[0]);
    if PgConnection::connect_with(&without.password("geheim")).await.is_ok() {
        println!("the server asks nobody for a password: this proves little");
    }
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(0), "{} {}", harness.message(), ended.log);
    harness.assert_agreement();
    database.drop().await;
    let statement = format!("DROP ROLE {}, {group}", roles.join(", "));
    control.execute(AssertSqlSafe(statement)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_database_is_told_until_the_deadline_and_a_missing_one_at_once() {
    let database = Database::new("good", SMALL).await;
    let mut harness = Harness::new(&[("good", &database.name), ("gone", "x")]).await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    harness.secret(1, "port", &closed.to_string());
    harness.spec["job"] = json!({"deadline": "10s"});
    let ended = harness.run("pod").await;
    harness.assert_failed(
        &ended,
        21,
        "DatabaseUnreachable",
        &[
            "databases[1] gone: not reachable at the host of secret gone-db",
            "Connection refused",
        ],
    );
    assert!(!harness.message().contains("good"), "{}", harness.message());

    harness.secret(1, "port", &harness.server.get_port().to_string());
    harness.secret(1, "dbname", "valerix_no_such_database");
    harness.spec["job"] = json!({});
    let ended = harness.run("again").await;
    harness.assert_failed(
        &ended,
        20,
        "DatabaseRefused",
        &["databases[1] gone", "database <key dbname> does not exist"],
    );
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_whose_session_is_always_killed_stores_nothing() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.spec["job"] = json!({"deadline": "12s"});
    let mut lock = harness.connect(&database.name).await;
    lock.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let pod = harness.pod("pod");
    // pg_dump waits for the lock; its session is ended there, and again each time the runner tries again.
    let mut control = harness.connect("postgres").await;
    let killing = async {
        loop {
            let killed = sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'")
                .bind(&database.name)
                .fetch_all(&mut control)
                .await
                .unwrap();
            killed
                .iter()
                .filter(|row| row.get::<bool, _>(0))
                .for_each(|_| println!("ended one session"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = tokio::select! {
        ended = harness.ended(pod, "pod") => ended,
        () = killing => unreachable!(),
    };
    harness.assert_failed(
        &ended,
        22,
        "DumpFailed",
        &[
            "databases[0] orders: pg_dump lost the connection",
            "terminating connection",
        ],
    );
    assert!(ended.log.contains("trying again"), "{}", ended.log);
    drop(lock);
    harness.spec["job"] = json!({});
    assert_eq!(harness.run("again").await.code, Some(0));
    harness.assert_agreement();
    database.drop().await;
}

/// The installed clients, with a pg_dump of this script in the place of the installed one, which is `$REAL`.
fn with_pg_dump(folder: &Path, script: &str) -> String {
    let installed = valerix_backup::client::installed(Path::new("/usr/lib/postgresql")).unwrap();
    let real = installed.last().unwrap();
    let bin = folder.join(real.major.to_string()).join("bin");
    fs::create_dir_all(&bin).unwrap();
    for program in ["psql", "pg_restore", "pg_dumpall"] {
        symlink(real.program(program), bin.join(program)).unwrap();
    }
    let program = bin.join("pg_dump");
    let real = real.program("pg_dump");
    let begin = format!(
        "#!/bin/bash\nREAL='{}'\n[ \"$1\" = --version ] && exec \"$REAL\" --version\n",
        real.display()
    );
    fs::write(&program, begin + script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// Half of a dump has gone into the archive by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_that_dies_in_the_middle_leaves_no_archive() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    for (number, (how, told)) in [("kill -KILL $$", "signal: 9"), ("exit 3", "exit status: 3")]
        .into_iter()
        .enumerate()
    {
        let clients = tempfile::tempdir().unwrap();
        let script = format!("\"$REAL\" \"$@\" | head -c 9000\n{how}\n");
        harness.client_folder = with_pg_dump(clients.path(), &script);
        let pod = format!("pod-{number}");
        let ended = harness.run(&pod).await;
        harness.assert_failed(&ended, 22, "DumpFailed", &["databases[0] orders: pg_dump failed", told]);
        assert_eq!(fs::read_dir(harness.scratch(&pod)).unwrap().count(), 0, "{how}");
    }
    harness.client_folder = "/usr/lib/postgresql".into();
    assert_eq!(harness.run("again").await.code, Some(0));
    harness.assert_agreement();
    database.drop().await;
}

/// What passes is waited for, and what had come by then is not in the archive.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_lost_in_the_middle_costs_one_more_dump_and_leaves_nothing_in_the_archive() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let clients = tempfile::tempdir().unwrap();
    let lost = clients.path().join("lost");
    let script = format!(
        "[ -e '{0}' ] && exec \"$REAL\" \"$@\"\ntouch '{0}'\n\"$REAL\" \"$@\" | head -c 9000\n\
         echo 'pg_dump: error: server closed the connection unexpectedly' >&2\nexit 1\n",
        lost.display()
    );
    harness.client_folder = with_pg_dump(clients.path(), &script);
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("trying again") && lost.exists(), "{}", ended.log);
    harness.assert_agreement();
    let (manifest, _) = archive::verify(&harness.archive()).unwrap();
    assert_eq!(manifest.databases[0].rows["public.t"], 500);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_older_than_the_server_is_refused() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let clients = tempfile::tempdir().unwrap();
    fs::create_dir_all(clients.path().join("9/bin")).unwrap();
    symlink("/usr/bin/true", clients.path().join("9/bin/pg_dump")).unwrap();
    let installed = valerix_backup::client::installed(Path::new("/usr/lib/postgresql")).unwrap();
    symlink(installed[0].program("psql"), clients.path().join("9/bin/psql")).unwrap();
    harness.client_folder = clients.path().to_str().unwrap().to_owned();
    let ended = harness.run("pod").await;
    harness.assert_failed(
        &ended,
        20,
        "ClientUnsuitable",
        &[
            "databases[0] orders: the server is PostgreSQL",
            "the newest client in the image is 9",
        ],
    );
    database.drop().await;
}

/// Whichever pipe of a program is not served would stop it.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_complains_at_length_is_heard_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("15/bin");
    fs::create_dir_all(&programs).unwrap();
    symlink("/usr/bin/true", programs.join("pg_dump")).unwrap();
    let script = "#!/bin/sh\n[ \"$1\" = --list ] && exit 0\nhead -c 1048576 /dev/zero | tr '\\0' x >&2\ncat >/dev/null\necho the end >&2\nexit 1\n";
    fs::write(programs.join("pg_restore"), script).unwrap();
    fs::set_permissions(programs.join("pg_restore"), fs::Permissions::from_mode(0o755)).unwrap();
    let client = valerix_backup::client::installed(folder.path()).unwrap().pop().unwrap();
    let file = folder.path().join("orders.dump");
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    let source = fs::File::open(&file).unwrap();
    let archive = Writer::create(&folder.path().join("a.tar.zst"), 0).unwrap();
    let (archive, form) = (Arc::new(Mutex::new(archive)), Form::plain(3));
    let taken = dump::take("databases[0] orders", &client, source, &archive, &form, "orders.dump");
    let taken = tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap();
    let error = taken.unwrap_err().to_string();
    assert!(
        error.contains("exit status: 1") && error.ends_with("the end"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_under_the_key_is_never_overwritten() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    fs::create_dir_all(harness.archive().parent().unwrap()).unwrap();
    fs::write(harness.archive(), "precious").unwrap();
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(31), "{}", ended.log);
    assert_eq!(harness.record()["status"]["reason"], "SlotTaken");
    assert_eq!(harness.record()["status"]["phase"], "Failed");
    assert_eq!(fs::read_to_string(harness.archive()).unwrap(), "precious");
    assert_eq!(harness.stored().len(), 1);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_and_a_record_of_another_policy_are_left_alone() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("first").await.code, Some(0));
    let (record, sha256) = (harness.record(), crate::harness::sha256(&harness.archive()));
    harness.policy_uid = "another-policy".into();
    let ended = harness.run("stranger").await;
    assert_eq!(ended.code, Some(31), "{}", ended.log);
    assert_eq!(harness.record(), record);
    // A record of its own does not give it the archive either.
    harness.put_record(RECORD, "2026-08-21");
    let ended = harness.run("stranger-2").await;
    assert_eq!(ended.code, Some(31), "{}", ended.log);
    assert!(
        harness.message().contains("an archive of another policy"),
        "{}",
        harness.message()
    );
    assert_eq!(crate::harness::sha256(&harness.archive()), sha256);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cannot_be_written_is_named() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    fs::create_dir_all(harness.destination()).unwrap();
    fs::write(harness.destination().join("pg"), "a file where a folder should be").unwrap();
    let ended = harness.run("pod").await;
    assert_eq!(harness.record()["status"]["phase"], "Failed", "{}", ended.log);
    assert_eq!(ended.code, Some(25), "{}", ended.log);
    assert!(
        harness.message().contains("on the destination"),
        "{}",
        harness.message()
    );
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_record_is_awaited_until_the_deadline() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.minutes += 24 * 60;
    harness.spec["job"] = json!({"deadline": "6s"});
    let ended = harness.run("too-late").await;
    assert_eq!(ended.code, Some(24), "{}", ended.log);
    assert!(ended.log.contains("was not there before the deadline"), "{}", ended.log);

    harness.spec["job"] = json!({"deadline": "2m"});
    // Its first look has found none when the record comes.
    let steps = harness.api.steps();
    steps.stop_at(2);
    let pod = harness.pod("in-time");
    steps.bitten().await;
    harness.put_record("nightly-20260822", "2026-08-22");
    steps.release().await;
    let ended = harness.ended(pod, "in-time").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(harness.api.record("nightly-20260822")["status"]["phase"], "Completed");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_a_dump_that_waits() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.spec["job"] = json!({"deadline": "4s"});
    let mut lock = harness.connect(&database.name).await;
    lock.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let ended = harness.run("pod").await;
    harness.assert_failed(&ended, 24, "DeadlineExceeded", &["job.deadline"]);
    drop(lock);
    database.drop().await;
}
