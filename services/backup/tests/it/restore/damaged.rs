//! Every row of the table of damages is refused by Restore before it has touched anything.

use super::harness::Restoring;
use crate::{
    damage::{damages, undamaged},
    harness::{Database, Harness, SMALL, password},
};
use serde_json::json;
use std::fs;
use tokio::process::Command;

/// What a client could notice of a database, and what it could not: its dump with its grants and settings, its OID, the
/// files that its tables and indexes are in, and how much was ever written to it.
const IDENTITY: &str = "SELECT json_build_object(\
    'oid', (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), \
    'open', (SELECT datallowconn FROM pg_database WHERE datname = current_database()), \
    'files', (SELECT json_agg(json_build_array(relname, relfilenode::bigint) ORDER BY oid) FROM pg_class WHERE relfilenode <> 0), \
    'rows', (SELECT json_agg(json_build_array(ctid::text, xmin::text, t::text) ORDER BY ctid) FROM t), \
    'roles', (SELECT json_agg(rolname ORDER BY oid) FROM pg_roles WHERE rolname LIKE '%MARK%'))::text";

async fn dumped(restoring: &Restoring, database: &str) -> String {
    let server = &restoring.harness.server;
    let output = Command::new("pg_dump")
        .args([
            "--create",
            "--host",
            server.get_host(),
            "--username",
            server.get_username(),
        ])
        .args(["--port", &server.get_port().to_string(), database])
        .env("PGPASSWORD", password())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // The one line of each dump that is drawn by lot.
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "));
    lines.collect::<Vec<_>>().join("\n")
}

async fn seen(restoring: &Restoring, living: &Database) -> (String, String, Vec<(String, bool)>) {
    let identity = IDENTITY.replace("MARK", &restoring.mark);
    (
        dumped(restoring, &living.name).await,
        restoring.text(&living.name, &identity).await,
        restoring.databases(&living.name[..20]).await.into_iter().collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_archive_leaves_the_target_as_it_was() {
    let living = Database::new("living", SMALL).await;
    // One dump and the manifest: each row says what is the matter with one of them.
    let mut harness = Harness::new(&[("orders", &living.name)]).await;
    harness.spec["globals"] = "None".into();
    let mut restoring = Restoring::from(harness).await;
    restoring.source["sha256"] = json!(null);
    restoring
        .execute(
            "postgres",
            &format!("ALTER DATABASE {} SET statement_timeout = '7min'", living.name),
        )
        .await;
    let before = seen(&restoring, &living).await;
    restoring.replacing("orders", &living.name);
    let path = restoring.harness.archive();
    let good = fs::read(&path).unwrap();
    let rows = damages(&good);
    assert!(rows.len() >= 15, "{}", rows.len());
    for (number, (row, bytes)) in rows.into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        restoring.put();
        let ended = restoring.run(&format!("row-{number}")).await;
        println!("{row}: {}", restoring.message());
        restoring.assert_failed(&ended, "ArchiveDamaged", &["nothing on the target was touched"]);
        assert!(
            !restoring.harness.api.phases().contains(&"Restoring".to_owned()),
            "{row}: nothing was made"
        );
        assert_eq!(seen(&restoring, &living).await, before, "{row}");
        // Its first dump was put aside before the damage was seen.
        let left = fs::read_dir(restoring.harness.scratch(&format!("row-{number}"))).unwrap();
        assert_eq!(left.count(), 0, "{row}");
    }
    // An archive that is whole and another one than was stored is as bad where it is known which one was.
    restoring.source["sha256"] = "0".repeat(64).into();
    fs::write(&path, undamaged(&good)).unwrap();
    restoring.put();
    let ended = restoring.run("another").await;
    restoring.assert_failed(&ended, "ArchiveDamaged", &["its sha256 is"]);
    assert_eq!(seen(&restoring, &living).await, before);

    // The rows were refused for their damage alone: made like them, and whole, it is restored.
    restoring.source["sha256"] = json!(null);
    restoring.put();
    let ended = restoring.run("whole").await;
    restoring.assert_completed(&ended);
    restoring.drop_databases(&living.name[..20]).await;
}
