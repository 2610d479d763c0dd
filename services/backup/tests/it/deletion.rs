//! The archives of a policy that was deleted with `deletionPolicy: Delete` go, and nobody else's.

use crate::{
    bucket::Bucket,
    harness::{Database, Ended, Harness, POLICY_UID, SMALL},
    parts::first_part,
    store::{ACCESS_KEY, BUCKET, Store},
};
use serde_json::json;
use std::{fs, process::Stdio};
use tokio::process::Command;
use valerix_crds::backup_runner::RemovalReport;

/// Runs the pod of a removal: how it ended, and its last word.
async fn remove(harness: &Harness) -> (Ended, String) {
    let word = harness.folder.path().join("termination-log");
    let scratch = harness.folder.path().join("scratch/removal");
    fs::create_dir_all(&scratch).unwrap();
    fs::create_dir_all(harness.destination()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_backup"));
    harness.environment(&mut command, "removal", &scratch);
    let pod = command
        .arg("remove")
        // It has no word with the API server.
        .env_remove("KUBECONFIG")
        .env("VALERIX_BACKUP_TERMINATION_LOG", &word)
        .env("VALERIX_BACKUP_REMOVAL_SECONDS", "30")
        .stdin(Stdio::null())
        .stdout(fs::File::create(harness.log("removal")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ended = harness.ended(pod, "removal").await;
    (ended, fs::read_to_string(word).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_volume_only_what_says_that_it_is_this_policys_goes() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("first").await.code, Some(0));
    let folder = harness.destination().join("pg/shop/nightly");
    // The same archive as another policy's, by a run under another UID.
    let first = fs::read(harness.archive()).unwrap();
    harness.policy_uid = "another".into();
    harness.put_record("nightly-20260822", "2026-08-22");
    harness.minutes += 24 * 60;
    assert_eq!(harness.run("second").await.code, Some(0));
    harness.policy_uid = POLICY_UID.into();
    fs::write(folder.join("20260819.tar.zst"), &first[..first.len() / 2]).unwrap();
    fs::write(folder.join("notes.txt"), "somebody's").unwrap();
    // Of a pod that was killed just now.
    fs::write(folder.join(".20260823.killed.unfinished"), "half of it").unwrap();
    let (ended, word) = remove(&harness).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(harness.stored(), ["20260819.tar.zst", "20260822.tar.zst", "notes.txt"]);
    assert!(!folder.join(".20260823.killed.unfinished").exists());
    let report: RemovalReport = serde_json::from_str(&word).unwrap();
    assert_eq!((report.removed, report.left), (1, vec!["2026-08-19".to_owned()]));
    assert!(
        report
            .message
            .starts_with("1 archives removed; 1 of other policies are theirs and stay"),
        "{}",
        report.message
    );
    // Done again, there is nothing more to do.
    let (ended, word) = remove(&harness).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(word.contains("\"removed\":0"), "{word}");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_only_this_policys_objects_go_and_a_refusal_is_the_last_word() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let store = Store::default();
    let endpoint = store.serve().await;
    harness.spec["destination"] = json!({"s3": {
        "bucket": BUCKET, "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
    }});
    harness.s3_secret("credentials", "accessKeyId", "stranger");
    harness.s3_secret("credentials", "secretAccessKey", "secret");
    for day in 10..50 {
        let slot = format!("2026-{:02}-{:02}", day / 10, 10 + day % 10);
        let key = format!("shop/nightly/{}.tar.zst", slot.replace('-', ""));
        store.put(
            &key,
            b"x",
            &[("valerix-policy-uid", POLICY_UID), ("valerix-slot", &slot)],
        );
    }
    let kept = [
        "shop/nightly/20260818.tar.zst",
        "shop/nightly/20260819.tar.zst",
        "shop/other/20260818.tar.zst",
    ];
    store.put(
        kept[0],
        b"x",
        &[("valerix-policy-uid", "stranger"), ("valerix-slot", "2026-08-18")],
    );
    store.put(kept[1], b"x", &[]);
    store.put(
        kept[2],
        b"x",
        &[("valerix-policy-uid", POLICY_UID), ("valerix-slot", "2026-08-18")],
    );
    let (ended, word) = remove(&harness).await;
    assert_eq!(ended.code, Some(20), "{}", ended.log);
    assert!(word.contains("InvalidAccessKeyId"), "{word}");
    assert_eq!(store.archives().len(), 43);

    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    // A store that is away for a moment is asked again.
    store.be_away_for(3);
    let (ended, word) = remove(&harness).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(store.archives(), kept);
    let report: RemovalReport = serde_json::from_str(&word).unwrap();
    assert_eq!((report.removed, report.left), (40, Vec::new()));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_killed_run_go_and_those_at_another_store_are_not_taken_for_gone() {
    let database = Database::new("orders", SMALL).await;
    let mut bucket = Bucket::new(&database).await;
    bucket.send_in_parts();
    bucket.store.take_parts(Some(1));
    let mut pod = bucket.harness.pod("killed");
    first_part(&bucket).await;
    pod.kill().await.unwrap();
    bucket.store.take_parts(None);
    let begun = bucket.status()["openUploads"].clone();
    let endpoint = &bucket.harness.spec["destination"]["s3"]["endpoint"];
    assert_eq!(begun[0]["endpoint"], *endpoint);
    let mut elsewhere = begun.clone();
    elsewhere[0]["endpoint"] = "http://earlier:9000".into();
    for (uploads, open) in [(elsewhere, 1), (begun, 0)] {
        let handed = ("VALERIX_BACKUP_OPEN_UPLOADS", uploads.to_string());
        bucket.harness.variables.push(handed);
        let (ended, word) = remove(&bucket.harness).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        let report: RemovalReport = serde_json::from_str(&word).unwrap();
        assert_eq!(
            (report.open_uploads, bucket.store.left_uploads()),
            (open, open),
            "{word}"
        );
    }
    database.drop().await;
}
