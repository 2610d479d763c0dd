//! What is stored is what was there, once.

use crate::harness::{Database, Harness, POLICY_UID, SMALL, password, quoted};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use std::{fs, path::Path, process::Command};
use valerix_backup::archive;

const RICH: &str = r#"
CREATE TABLE "odd table (x)" (id int, "we ""ird" text, data bytea);
INSERT INTO "odd table (x)" SELECT i, E'line\nbreak\t\\.' || i, decode(md5(i::text), 'hex') FROM generate_series(1, 1000) i;
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO parted SELECT generate_series(0, 99);
CREATE TABLE empty_one (id int);
CREATE FUNCTION fool() RETURNS text LANGUAGE sql AS 'SELECT ''
COPY public.fool (id) FROM stdin;
1''';
SELECT lo_from_bytea(0, decode(repeat('00ff', 50000), 'hex'));
"#;

async fn checksum(harness: &Harness, database: &str) -> (String, i64, i64) {
    let mut session = harness.connect(database).await;
    let rows: String = sqlx::query_scalar(AssertSqlSafe(
        r#"SELECT md5(string_agg(x::text, ',' ORDER BY id)) FROM "odd table (x)" x"#.to_owned(),
    ))
    .fetch_one(&mut session)
    .await
    .unwrap();
    let parted: i64 = sqlx::query_scalar("SELECT count(*) FROM parted")
        .fetch_one(&mut session)
        .await
        .unwrap();
    let large: i64 = sqlx::query_scalar("SELECT sum(length(lo_get(oid)))::bigint FROM pg_largeobject_metadata")
        .fetch_one(&mut session)
        .await
        .unwrap();
    (rows, parted, large)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_databases_survive_the_round_trip_and_a_second_run_changes_nothing() {
    let plain = Database::new("orders", SMALL).await;
    let odd = Database::new("o'd \"d\\b = 1", RICH).await;
    let harness = Harness::new(&[("orders", &plain.name), ("odd.one", &odd.name)]).await;

    let ended = harness.run("pod-1").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    harness.assert_agreement();
    let record = harness.record();
    let status = &record["status"];
    assert_eq!(status["upload"]["key"], "pg/shop/nightly/20260821.tar.zst");
    assert_eq!(status["databases"].as_array().unwrap().len(), 2);
    assert_eq!(status["databases"][0]["tables"], 1);
    assert_eq!(status["verified"], "Local");
    assert_eq!(
        harness.api.phases(),
        ["Dumping", "Archiving", "Verifying", "Uploading", "Completed"]
    );
    assert_eq!(
        fs::read_dir(harness.folder.path().join("scratch/pod-1"))
            .unwrap()
            .count(),
        0
    );

    let (manifest, digest) = archive::verify(&harness.archive()).unwrap();
    assert_eq!(status["upload"]["sha256"], digest.sha256);
    assert_eq!(manifest.policy.uid, POLICY_UID);
    assert_eq!(manifest.databases[0].rows["public.t"], 500);
    let rows = &manifest.databases[1].rows;
    assert_eq!(rows["public.\"odd table (x)\""], 1000);
    assert_eq!(rows["public.parted_low"], 100);
    assert_eq!((rows["public.empty_one"], rows.len()), (0, 3));

    // The tools that everybody has read it too.
    let list = Command::new("tar")
        .arg("--zstd")
        .arg("-tf")
        .arg(harness.archive())
        .output()
        .unwrap();
    if list.status.success() {
        assert_eq!(
            String::from_utf8(list.stdout).unwrap(),
            "orders.dump\norders.globals.sql\nodd.one.dump\nodd.one.globals.sql\nmanifest.json\n"
        );
    }

    let before = checksum(&harness, &odd.name).await;
    assert_eq!((before.1, before.2), (100, 100_000));
    let restored = Database::new("restored", "SELECT 1").await;
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::open(harness.archive()).unwrap();
    tar::Archive::new(zstd::Decoder::new(file).unwrap())
        .unpack(folder.path())
        .unwrap();
    let output = Command::new("pg_restore")
        .args([
            "--exit-on-error",
            "--no-owner",
            "-h",
            harness.server.get_host(),
            "-U",
            harness.server.get_username(),
        ])
        .args(["-p", &harness.server.get_port().to_string(), "-d", &restored.name])
        .arg(folder.path().join("odd.one.dump"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(checksum(&harness, &restored.name).await, before);

    // The same day again: nothing changes, even though the database has.
    harness
        .connect(&plain.name)
        .await
        .execute("INSERT INTO t VALUES (501, 'late')")
        .await
        .unwrap();
    let (record, archive) = (
        harness.record(),
        fs::metadata(harness.archive()).unwrap().modified().unwrap(),
    );
    let ended = harness.run("pod-2").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(harness.record(), record);
    assert_eq!(fs::metadata(harness.archive()).unwrap().modified().unwrap(), archive);
    for database in [plain, odd, restored] {
        database.drop().await;
    }
}

/// A command line of the runbook, by its beginning.
fn of_the_runbook(beginning: &str) -> &'static str {
    const RUNBOOK: &str = include_str!("../../../../docs/runbooks/restore-by-hand.md");
    let mut lines = RUNBOOK.lines().map(str::trim);
    lines.find(|line| line.starts_with(beginning)).expect(beginning)
}

/// Runs a command line as a person would who restores: among the dumps, as a superuser.
fn by_hand(harness: &Harness, dumps: &Path, line: &str) {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(dumps)
        .env("PGHOST", harness.server.get_host())
        .env("PGPORT", harness.server.get_port().to_string())
        .env("PGUSER", harness.server.get_username())
        .env("PGPASSWORD", password())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runbooks_command_lines_restore_what_belonged_to_a_role_that_is_gone() {
    // Bytes that are no UTF-8, as a database that checks none may hold them.
    const OLD: &str = r"CREATE TABLE t (id int PRIMARY KEY, note text);
        INSERT INTO t SELECT i, E'caf\351 ' || i FROM generate_series(1, 500) i;";
    const NOTES: &str = "SELECT md5(string_agg(note, ',' ORDER BY id)) FROM t";
    let plain = Database::new("orders", SMALL).await;
    let old = Database::with("old", "TEMPLATE template0 ENCODING 'SQL_ASCII'", OLD).await;
    let harness = Harness::new(&[("orders", &plain.name), ("old", &old.name)]).await;
    let (owner, reader) = (
        plain.name.replace("orders", "owner"),
        plain.name.replace("orders", "reader"),
    );
    let run = async |database: &str, statement: String| {
        harness
            .connect(database)
            .await
            .execute(AssertSqlSafe(statement))
            .await
            .unwrap();
    };
    let notes = async |database: &str| -> String {
        let mut session = harness.connect(database).await;
        sqlx::query_scalar(NOTES).fetch_one(&mut session).await.unwrap()
    };
    for role in [&owner, &reader] {
        run("postgres", format!("CREATE ROLE {role}")).await;
    }
    for database in [&plain.name, &old.name] {
        run(
            "postgres",
            format!("ALTER DATABASE {} OWNER TO {owner}", quoted(database)),
        )
        .await;
        run(
            database,
            format!("ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO {reader}"),
        )
        .await;
    }
    let before = (notes(&plain.name).await, notes(&old.name).await);
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for database in [&plain.name, &old.name] {
        run("postgres", format!("DROP DATABASE {} WITH (FORCE)", quoted(database))).await;
    }
    for role in [&owner, &reader] {
        run("postgres", format!("DROP ROLE {role}")).await;
    }

    let dumps = tempfile::tempdir().unwrap();
    let file = fs::File::open(harness.archive()).unwrap();
    tar::Archive::new(zstd::Decoder::new(file).unwrap())
        .unpack(dumps.path())
        .unwrap();
    by_hand(&harness, dumps.path(), of_the_runbook("pg_restore --create"));
    let elsewhere = |line: &str| {
        line.replace("restored", &old.name)
            .replace("UTF8", "SQL_ASCII")
            .replace("orders.dump", "old.dump")
    };
    for beginning in ["createdb", "pg_restore --no-owner"] {
        by_hand(&harness, dumps.path(), &elsewhere(of_the_runbook(beginning)));
    }
    assert_eq!((notes(&plain.name).await, notes(&old.name).await), before);
    for database in [plain, old] {
        database.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_adopts_the_archive_of_its_slot() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("pod-1").await.code, Some(0));
    let before = harness.record();
    harness.put_record(crate::harness::RECORD, "2026-08-21");
    // Adoption asks no database.
    database.drop().await;
    let ended = harness.run("pod-2").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    harness.assert_agreement();
    assert_eq!(
        harness.record()["status"]["upload"]["sha256"],
        before["status"]["upload"]["sha256"]
    );
    assert_eq!(harness.record()["status"]["databases"], before["status"]["databases"]);
    // How old the data are is not a question of when they were found.
    let (manifest, _) = archive::verify(&harness.archive()).unwrap();
    assert_eq!(harness.record()["status"]["completedAt"], json!(manifest.created_at));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_day_left_open_is_settled_by_the_next_run() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.minutes -= 24 * 60;
    harness.put_record("nightly-20260820", "2026-08-20");
    assert_eq!(harness.run("yesterday").await.code, Some(0));
    let stored = harness.api.record("nightly-20260820");
    // As kills leave it between link(2) and the record's patch, and a day whose pod never came to write.
    let open = |record: &str, slot: &str| {
        harness.put_record(record, slot);
        let mut open = harness.api.record(record);
        open["status"] = json!({"phase": "Unknown", "upload": {"state": "Started", "podUID": "gone", "sha256": "abc",
            "claimName": "backups", "key": format!("pg/shop/nightly/{}.tar.zst", slot.replace('-', "")),
            "startedAt": "2026-08-20T00:00:01Z"}});
        harness.api.put(open);
    };
    open("nightly-20260820", "2026-08-20");
    open("nightly-20260818", "2026-08-18");
    harness.minutes += 24 * 60;
    assert_eq!(harness.run("today").await.code, Some(0));
    harness.assert_agreement_of(&["20260820.tar.zst", "20260821.tar.zst"]);
    let settled = harness.api.record("nightly-20260820");
    assert_eq!(settled["status"]["phase"], "Completed");
    assert_eq!(
        settled["status"]["upload"]["sha256"],
        stored["status"]["upload"]["sha256"]
    );
    assert_eq!(settled["status"]["databases"], stored["status"]["databases"]);
    let lost = harness.api.record("nightly-20260818");
    assert_eq!(
        (
            &lost["status"]["phase"],
            &lost["status"]["reason"],
            &lost["status"]["upload"]["state"]
        ),
        (&json!("Failed"), &json!("NotStored"), &json!("None"))
    );
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hinders_an_earlier_day_from_being_settled_is_on_its_record() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let folder = harness.destination().join("pg/shop/nightly");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("20260819.tar.zst"), "cut").unwrap();
    for (day, claim) in [("19", "backups"), ("18", "earlier")] {
        let (record, slot) = (format!("nightly-202608{day}"), format!("2026-08-{day}"));
        harness.put_record(&record, &slot);
        let mut open = harness.api.record(&record);
        open["status"] = json!({"phase": "Unknown", "reason": "JobFailed", "upload": {"state": "Started", "podUID": "gone",
            "sha256": "abc", "claimName": claim, "key": format!("pg/shop/nightly/202608{day}.tar.zst"),
            "startedAt": "2026-08-18T00:00:01Z"}});
        harness.api.put(open);
    }
    assert_eq!(harness.run("today").await.code, Some(0));
    for (record, phase, reason, told) in [
        ("nightly-20260819", "Failed", "ArchiveDamaged", "20260819.tar.zst"),
        ("nightly-20260818", "Unknown", "UploadUncertain", "claim earlier"),
    ] {
        let status = harness.api.record(record)["status"].clone();
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!(phase), &json!(reason)),
            "{status}"
        );
        assert!(status["message"].as_str().unwrap().contains(told), "{status}");
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_much_smaller_than_yesterdays_is_refused() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.minutes -= 24 * 60;
    harness.put_record("nightly-20260820", "2026-08-20");
    assert_eq!(harness.run("yesterday").await.code, Some(0));
    let yesterday = harness.api.record("nightly-20260820");
    harness.minutes += 24 * 60;
    harness
        .connect(&database.name)
        .await
        .execute("TRUNCATE t")
        .await
        .unwrap();

    // Once by yesterday's record, once, the record lost, by yesterday's archive.
    for lost in [false, true] {
        if lost {
            harness.put_record("nightly-20260820", "2026-08-20");
        }
        let ended = harness.run(&format!("today-{lost}")).await;
        assert_eq!(ended.code, Some(23), "{}", ended.log);
        assert!(
            harness.message().contains("databases[0] orders: the dump has"),
            "{}",
            harness.message()
        );
        assert_eq!(harness.stored(), ["20260820.tar.zst"]);
    }
    harness.api.put(yesterday);
    harness.spec["databases"][0]["minimum"] = json!({"maxShrinkPercent": 99});
    assert_eq!(harness.run("allowed").await.code, Some(0));
    assert_eq!(harness.stored(), ["20260820.tar.zst", "20260821.tar.zst"]);
    database.drop().await;
}
