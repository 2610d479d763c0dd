//! Archives whose members only the holder of a key can read.

use crate::{
    harness::{Database, Harness, SMALL},
    restore::harness::Restoring,
    trial::{trial, verification},
};
use serde_json::{Value, json};
use std::{fs, process::Command};
use valerix_backup::archive;

/// Public and private keys, made for these tests.
const KEY: (&str, &str) = (
    "age1pclhck36mtzxrsw28q7v4xpzgzfgy8cuu47rwmuy063p4zwfd95spy86zm",
    "AGE-SECRET-KEY-1LPEF8E3HZ9LSXN80DTASUEEYYRTK8GG2X5T765PDMDQUESPKCWFQG3W0RY",
);
const SPARE: (&str, &str) = (
    "age1sks7jkx34qg0mal5qs7fqd5hkarn28059h9dvn65ja45amcwwytspvgvzc",
    "AGE-SECRET-KEY-1GZEM9UAPD0RW3E6N6MJ2EDMZQZH9V9UYXLYRZ7QLSCSSXP4TWN0QVA4USD",
);
const OTHER: (&str, &str) = (
    "age19lam7gdneupdzy7s0zfu2jq6g0d5tpwzv69v6nvk9zz298zca9fqz5lxxy",
    "AGE-SECRET-KEY-1NTL4RQ2FDEFSR9SMY4N0DCS5U9NF2UK3NY08PLVQXLCA0EXXZ4KSRT2SAH",
);

async fn encrypting(database: &Database, recipients: &[&str]) -> Harness {
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.spec["encryption"] = json!({"ageRecipients": recipients});
    harness
}

/// Mounts the Secret with this key.
fn mount(harness: &Harness, (public, private): (&str, &str)) {
    let folder = harness.folder.path().join("age");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("key.txt"), format!("# public key: {public}\n{private}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_archive_tells_for_whom_and_comes_back_with_a_key_only() {
    let secret =
        "CREATE TABLE t (id int, note text); INSERT INTO t SELECT i, 'PLAINTEXT-NOTE' FROM generate_series(1, 500) i;";
    let database = Database::new("orders", secret).await;
    let recipients = [KEY.0, SPARE.0];
    let harness = encrypting(&database, &recipients).await;
    let mut restoring = Restoring::from(harness).await;
    let path = restoring.harness.archive();
    let (manifest, digest) = archive::verify(&path).unwrap();
    assert_eq!(manifest.format, 3);
    assert_eq!(manifest.encryption.as_ref().unwrap().recipients, recipients);
    let status = restoring.harness.record()["status"].clone();
    assert_eq!(status["upload"]["sha256"], digest.sha256);
    // The record tells of the dump, the archive holds something else.
    let member = &manifest.databases[0];
    assert_eq!(
        (&status["databases"][0]["bytes"], member.rows["public.t"]),
        (&json!(member.bytes), 500)
    );
    let names: Vec<_> = manifest.files().map(|file| file.file.to_owned()).collect();
    assert_eq!(names, ["orders.dump.zst.age", "orders.globals.sql.zst.age"]);
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::open(&path).unwrap();
    tar::Archive::new(zstd::Decoder::new(file).unwrap())
        .unpack(folder.path())
        .unwrap();
    for name in names {
        let bytes = fs::read(folder.path().join(&name)).unwrap();
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{name}");
    }
    // By hand it goes without any program of ours.
    mount(&restoring.harness, SPARE);
    let key = restoring.harness.folder.path().join("age");
    let opened = Command::new("age")
        .args(["--decrypt", "-i"])
        .arg(key.join("key.txt"))
        .arg(folder.path().join("orders.dump.zst.age"))
        .output()
        .expect("age runs: install Debian's package age");
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let dump = zstd::decode_all(&*opened.stdout).unwrap();
    assert!(dump.starts_with(b"PGDMP"));
    assert_eq!(dump.len() as u64, member.bytes);
    fs::remove_dir_all(key).unwrap();

    let new = restoring.named("new");
    restoring.make_new(&[("orders", &new)]);
    let ended = restoring.run("unnamed").await;
    restoring.assert_failed(
        &ended,
        "KeyMissing",
        &[KEY.0, "spec.source.identitySecretRef names no Secret"],
    );
    restoring.source["identitySecretRef"] = json!({"name": "backup-key"});
    let place = "spec.source.identitySecretRef: secret backup-key, key key.txt";
    let not_found = format!("{place} not found");
    for (pod, key, told) in [
        ("no-key", None, [KEY.0, not_found.as_str()]),
        ("other-key", Some(OTHER), [OTHER.0, place]),
    ] {
        if let Some(key) = key {
            mount(&restoring.harness, key);
        }
        restoring.make_new(&[("orders", &new)]);
        let ended = restoring.run(pod).await;
        restoring.assert_failed(&ended, "KeyMissing", &told);
        assert!(!ended.log.contains("AGE-SECRET"), "{}", ended.log);
    }
    assert!(
        restoring.databases(&restoring.mark).await.is_empty(),
        "no server was touched"
    );

    mount(&restoring.harness, SPARE);
    restoring.make_new(&[("orders", &new)]);
    restoring.spec["roles"] = "Create".into();
    restoring.put();
    let ended = restoring.run("key").await;
    restoring.assert_completed(&ended);
    let notes = restoring.text(&new, "SELECT count(*)::text || min(note) FROM t").await;
    assert_eq!(notes, "500PLAINTEXT-NOTE");
    restoring.drop_databases(&restoring.mark).await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_restore_decrypts_and_without_a_key_it_has_found_nothing_out() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = encrypting(&database, &[KEY.0]).await;
    harness.spec["verification"] = json!({"restore": "EveryRun"});
    harness.spec["encryption"]["identitySecretRef"] = json!({"name": "backup-key"});
    assert_eq!(harness.run("run").await.code, Some(0));
    let state = |found: &Value| found["state"].as_str().unwrap().to_owned();
    let said = |found: &Value| found["message"].as_str().unwrap().to_owned();

    assert_eq!(trial(&harness, "no-key").await.code, Some(0));
    let found = verification(&harness);
    assert_eq!(state(&found), "Inconclusive", "{found}");
    let missing = "spec.encryption.identitySecretRef: secret backup-key, key key.txt not found";
    assert!(said(&found).contains(missing), "{found}");
    mount(&harness, OTHER);
    assert_eq!(trial(&harness, "other-key").await.code, Some(0));
    let found = verification(&harness);
    assert_eq!(state(&found), "Failed", "{found}");
    assert!(said(&found).contains(KEY.0), "{found}");
    mount(&harness, KEY);
    let ended = trial(&harness, "key").await;
    let found = verification(&harness);
    assert_eq!(state(&found), "Restored", "{found} {}", ended.log);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_is_mistyped_is_told_before_anything_is_dumped() {
    let mut harness = Harness::new(&[("orders", "never_asked")]).await;
    let mistyped = KEY.0.replacen("age1", "age1q", 1);
    harness.spec["encryption"] = json!({"ageRecipients": [SPARE.0, &mistyped[..62]]});
    let ended = harness.run("pod").await;
    harness.assert_failed(
        &ended,
        20,
        "InvalidConfiguration",
        &["encryption.ageRecipients[1]", "age-keygen"],
    );
}
