//! The trial restore: a real archive into a real server of its own, and what it says of archives that are not what they
//! should be.

use crate::{
    gate::Gate,
    harness::{Database, Ended, Harness, SMALL},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tokio::process::{Child, Command};

/// A role with names and values that are hard to carry, sequences, a view, an identity and a large object.
const RICH: &str = r#"
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."t'a""ble" (id serial PRIMARY KEY, note text);
INSERT INTO "Odd schema"."t'a""ble" (note) SELECT md5(i::text) FROM generate_series(1, 700) i;
CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY, parent int);
INSERT INTO numbered (parent) SELECT i FROM generate_series(1, 40) i;
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO parted SELECT generate_series(0, 99);
CREATE VIEW seen AS SELECT count(*) AS many FROM numbered;
SELECT lo_from_bytea(0, decode(repeat('00ff', 500), 'hex'));
"#;

/// Whom a PostgreSQL server obeys where the tests run as root.
const NOBODY: u32 = 65534;

pub fn is_root() -> bool {
    std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

pub fn run_checked(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// Runs the trial restore to its end.
pub async fn trial(harness: &Harness, uid: &str) -> Ended {
    harness.ended(verifier(harness, uid), uid).await
}

/// Starts the trial restore as the operator would: without connections, and not as root, whom no PostgreSQL server obeys.
pub fn verifier(harness: &Harness, uid: &str) -> Child {
    let scratch = harness.scratch(uid);
    fs::create_dir_all(&scratch).unwrap();
    let log = fs::File::create(harness.log(uid)).unwrap();
    let mut program = env!("CARGO_BIN_EXE_backup").to_owned();
    if is_root() {
        // The folder of compiled programs may be root's alone.
        let copy = harness.folder.path().join("backup");
        if !copy.exists() {
            fs::copy(&program, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        program = copy.to_str().unwrap().to_owned();
        run_checked("chown", &["-R", "65534:65534", harness.folder.path().to_str().unwrap()]);
    }
    let mut command = harness
        .room
        .as_ref()
        .map_or_else(|| Command::new(&program), |room| room.program(&program, Some(NOBODY)));
    harness.environment(&mut command, uid, &scratch);
    command
        .arg("verify")
        .env_remove("VALERIX_JOB_NAME")
        .env_remove("VALERIX_BACKUP_CONNECTIONS_FOLDER")
        .env("VALERIX_BACKUP_SLOT", "2026-08-21")
        .stdin(Stdio::null())
        .stdout(log)
        .kill_on_drop(true);
    if is_root() && harness.room.is_none() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.spawn().unwrap()
}

pub fn verification(harness: &Harness) -> Value {
    harness.record()["status"]["verification"].clone()
}

/// Makes the stored archive another one, and the record say that this one was stored.
fn replace_archive(path: &Path, harness: &Harness, change: impl FnOnce(&Path, &mut Value)) {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::open(path).unwrap();
    tar::Archive::new(zstd::Decoder::new(file).unwrap())
        .unpack(folder.path())
        .unwrap();
    let manifest = folder.path().join("manifest.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    change(folder.path(), &mut value);
    for member in value["databases"].as_array_mut().unwrap() {
        let dump = fs::read(folder.path().join(member["file"].as_str().unwrap())).unwrap();
        member["sha256"] = hex::encode(Sha256::digest(&dump)).into();
        member["bytes"] = dump.len().into();
        if let Some(globals) = member["globals"].as_object_mut() {
            let script = fs::read(folder.path().join(globals["file"].as_str().unwrap())).unwrap();
            globals["sha256"] = hex::encode(Sha256::digest(&script)).into();
            globals["bytes"] = script.len().into();
        }
    }
    let mut builder = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for member in value["databases"].as_array().unwrap() {
        for name in [&member["file"], &member["globals"]["file"]]
            .map(Value::as_str)
            .iter()
            .flatten()
        {
            builder.append_path_with_name(folder.path().join(name), name).unwrap();
        }
    }
    fs::write(&manifest, value.to_string()).unwrap();
    builder.append_path_with_name(&manifest, "manifest.json").unwrap();
    let bytes = builder.into_inner().unwrap().finish().unwrap();
    fs::write(path, &bytes).unwrap();
    let mut record = harness.record();
    record["status"]["upload"]["sha256"] = hex::encode(Sha256::digest(&bytes)).into();
    harness.api.put(record);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_archive_is_restored_counted_and_asked() {
    let plain = Database::new("orders", SMALL).await;
    let rich = Database::with("o'd \"d", "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'", RICH).await;
    let mut harness = Harness::new(&[("orders", &plain.name), ("odd.one", &rich.name)]).await;
    harness.spec["verification"] = json!({"restore": "EveryRun", "budget": "10m", "queries": [
        {"name": "orders", "database": "orders", "query": "SELECT count(*) FROM t", "equals": 500},
        {"name": "view", "database": "odd.one", "query": "SELECT many FROM seen -- of a view", "atLeast": 40, "atMost": 40},
    ]});
    assert_eq!(harness.run("pod").await.code, Some(0));
    let before = harness.record();
    let ended = trial(&harness, "verifier").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let status = harness.record()["status"].clone();
    let found = &status["verification"];
    assert_eq!(
        (&found["state"], &found["rung"]),
        (&"Restored".into(), &"Time".into()),
        "{status}"
    );
    assert_eq!(status["verified"], "Restored");
    assert_eq!(found["notRun"], Value::Null, "{found}");
    let message = found["message"].as_str().unwrap();
    assert!(
        message.starts_with("2 databases with 4 tables and 1340 rows restored in "),
        "{message}"
    );
    assert!(
        found["restoreSeconds"].is_number() && found["completedAt"].is_string(),
        "{found}"
    );
    // Nothing else of the record has changed, and nothing is left behind.
    for field in ["phase", "upload", "databases", "completedAt"] {
        assert_eq!(status[field], before["status"][field], "{field}");
    }
    assert!(
        fs::read_dir(harness.folder.path().join("scratch/verifier"))
            .unwrap()
            .next()
            .is_none()
    );
    plain.drop().await;
    rich.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_ends_the_ladder_on_its_rung() {
    let database = Database::new("orders", RICH).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("pod").await.code, Some(0));
    let (archive, record) = (fs::read(harness.archive()).unwrap(), harness.record());
    let query = |query: &str| json!({"restore": "EveryRun", "queries": [{"name": "q", "database": "orders", "query": query, "equals": 41}]});
    type Change = fn(&Path, &mut Value);
    /// A name, what is changed, the queries, and the state, the rung and the words that come of it.
    type Row = (
        &'static str,
        Option<Change>,
        Value,
        &'static str,
        &'static str,
        &'static str,
    );
    let changes: [Row; 10] = [
        (
            "rows",
            Some(|_, manifest| manifest["databases"][0]["rows"]["public.numbered"] = 41.into()),
            Value::Null,
            "Failed",
            "Volume",
            "public.numbered has 40 rows, its dump has 41",
        ),
        (
            "tables",
            Some(|_, manifest| manifest["databases"][0]["rows"]["public.\"it's gone\""] = 1.into()),
            Value::Null,
            "Failed",
            "Structure",
            "public.\"it's gone\"",
        ),
        (
            "a cut dump",
            Some(|folder, _| {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(folder.join("orders.dump"))
                    .unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(length * 9 / 10).unwrap();
            }),
            Value::Null,
            "Failed",
            "Restore",
            "pg_restore failed",
        ),
        (
            "a newer client",
            Some(|_, manifest| manifest["databases"][0]["clientVersion"] = "99.1".into()),
            Value::Null,
            "Inconclusive",
            "Restore",
            "no PostgreSQL 99 server",
        ),
        (
            "an answer",
            None,
            query("SELECT count(*) FROM numbered"),
            "Failed",
            "Semantics",
            "the answer is 40, expected is exactly 41",
        ),
        (
            "no answer",
            None,
            query("SELECT id FROM numbered WHERE id < 0"),
            "Failed",
            "Semantics",
            "no number for an answer",
        ),
        (
            "no query",
            None,
            query("SELECT wrong FROM nowhere"),
            "Failed",
            "Semantics",
            "nowhere",
        ),
        (
            "a query that writes",
            None,
            query("WITH gone AS (DELETE FROM numbered RETURNING 1) SELECT count(*) FROM gone"),
            "Failed",
            "Semantics",
            "verification.queries q",
        ),
        (
            "a session that is lost",
            None,
            query("SELECT 41 FROM (SELECT pg_terminate_backend(pg_backend_pid())) AS gone"),
            "Inconclusive",
            "Semantics",
            "verification.queries q: it could not be found out",
        ),
        (
            "time",
            None,
            json!({"restore": "EveryRun", "budget": "1ms"}),
            "Failed",
            "Time",
            "verification.budget",
        ),
    ];
    for (case, change, spec, state, rung, told) in changes {
        fs::write(harness.archive(), &archive).unwrap();
        harness.api.put(record.clone());
        if let Some(change) = change {
            replace_archive(&harness.archive(), &harness, change);
        }
        harness.spec["verification"] = spec;
        let ended = trial(&harness, "verifier").await;
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
        let found = verification(&harness);
        assert_eq!(
            (&found["state"], &found["rung"]),
            (&state.into(), &rung.into()),
            "{case}: {found}"
        );
        assert!(found["message"].as_str().unwrap().contains(told), "{case}: {found}");
        let shown = if state == "Failed" { "Failed" } else { "Local" };
        assert_eq!(harness.record()["status"]["verified"], shown, "{case}: never a pass");
    }
    database.drop().await;
}

/// A question is whatever somebody writes, and a row is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_runs_no_program_and_tells_nothing_of_a_row_but_a_number() {
    const PRIVATE: &str = "bob@example.org";
    let database = Database::new(
        "orders",
        &format!("CREATE TABLE t (id int, note text); INSERT INTO t VALUES (41, '{PRIVATE}');"),
    )
    .await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("pod").await.code, Some(0));
    let record = harness.record();
    let made = harness.folder.path().join("made");
    for (query, told) in [
        (format!("SELECT 41\n\\! touch {}\n", made.display()), "syntax error"),
        (format!("SELECT 41\n\\o {}\n", made.display()), "syntax error"),
        ("SELECT note FROM t".into(), "no number for an answer"),
        ("SELECT note::int FROM t".into(), "SQLSTATE 22P02"),
        ("SELECT note::regclass::oid FROM t".into(), "SQLSTATE 3F000"),
    ] {
        harness.api.put(record.clone());
        harness.spec["verification"] = json!({"restore": "EveryRun", "queries": [
            {"name": "q", "database": "orders", "query": query, "equals": 41},
        ]});
        let ended = trial(&harness, "verifier").await;
        assert_eq!(ended.code, Some(0), "{query}: {}", ended.log);
        let found = verification(&harness);
        assert_eq!(
            (&found["state"], &found["rung"]),
            (&"Failed".into(), &"Semantics".into()),
            "{query}: {found}"
        );
        let message = found["message"].as_str().unwrap();
        assert!(
            message.contains(told) && !message.contains(PRIVATE),
            "{query}: {message}"
        );
        assert!(!ended.log.contains(PRIVATE), "{query}: {}", ended.log);
        assert!(!made.exists(), "{query}: nothing was run");
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_not_what_was_stored_is_not_restored() {
    let database = Database::new("orders", SMALL).await;
    for (case, state, told) in [
        ("gone", "Failed", "nothing lies under"),
        ("damaged", "Failed", "is damaged"),
        ("another", "Failed", "not the archive that was stored"),
        ("elsewhere", "Inconclusive", "spec.destination"),
    ] {
        let mut harness = Harness::new(&[("orders", &database.name)]).await;
        assert_eq!(harness.run("pod").await.code, Some(0));
        match case {
            "gone" => fs::remove_file(harness.archive()).unwrap(),
            "damaged" => {
                let mut bytes = fs::read(harness.archive()).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(harness.archive(), bytes).unwrap();
            }
            "another" => {
                let mut record = harness.record();
                record["status"]["upload"]["sha256"] = "0".repeat(64).into();
                harness.api.put(record);
            }
            _ => harness.spec["destination"]["volumeClaim"]["claimName"] = "other".into(),
        }
        let ended = trial(&harness, "verifier").await;
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
        let found = verification(&harness);
        assert_eq!(
            (&found["state"], &found["rung"]),
            (&state.into(), &"Fetch".into()),
            "{case}: {found}"
        );
        assert!(found["message"].as_str().unwrap().contains(told), "{case}: {found}");
    }
    database.drop().await;
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => bytes_below(&entry.path()),
        found => found.len(),
    });
    sizes.sum()
}

/// Beside the server there is room for the beginning of a dump, and nothing more is taken.
#[tokio::test(flavor = "multi_thread")]
async fn neither_the_archive_nor_a_dump_of_it_is_on_scratch_while_it_is_restored() {
    let database = Database::new(
        "orders",
        "CREATE TABLE t (id int, note text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100000) i;",
    )
    .await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("pod").await.code, Some(0));
    let upload = harness.record()["status"]["upload"].clone();
    let gate = Gate::new();
    gate.fill_for_ever();
    harness.client_folder = gate.clients().to_str().unwrap().to_owned();
    let pod = verifier(&harness, "verifier");
    gate.filling().await;
    let scratch = harness.scratch("verifier");
    let beside = bytes_below(&scratch) - bytes_below(&scratch.join("verify/server/data"));
    let archive = upload["bytes"].as_u64().unwrap();
    assert!(beside < archive && archive > 1 << 20, "{beside} of {archive}");
    run_checked("kill", &["-TERM", &pod.id().unwrap().to_string()]);
    let ended = harness.ended(pod, "verifier").await;
    assert_eq!(ended.code, Some(10), "{}", ended.log);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_behind_its_column_is_told() {
    let database = Database::new(
        "orders",
        "CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t VALUES (1), (2), (7);",
    )
    .await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("pod").await.code, Some(0));
    assert_eq!(trial(&harness, "verifier").await.code, Some(0));
    let found = verification(&harness);
    assert_eq!(
        (&found["state"], &found["rung"]),
        (&"Failed".into(), &"Integrity".into()),
        "{found}"
    );
    assert!(found["message"].as_str().unwrap().contains("t_id_seq"), "{found}");
    database.drop().await;
}
