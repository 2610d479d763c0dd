//! Trial restores of archives in a bucket: read in pieces, which may break off, be another's, or be refused.

use crate::{
    harness::{Database, Harness, RECORD, password},
    store::{ACCESS_KEY, BUCKET, NextPiece, RENEWED_KEY, Store},
    trial::{trial, verification, verifier},
};
use axum::http::Method;
use serde_json::json;
use std::time::Duration;

/// As an archive two pieces in which a bucket is read, and no more.
const TWO_PIECES: &str = "CREATE TABLE t (id int, note text); \
    INSERT INTO t SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(1, 120000) i;";

/// Has the policy store into a bucket of its own.
async fn in_a_bucket(harness: &mut Harness) -> Store {
    let store = Store::default();
    let endpoint = store.serve().await;
    harness.spec["destination"] = json!({"s3": {
        "bucket": BUCKET, "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
    }});
    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    harness.s3_secret("credentials", "secretAccessKey", &password());
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_a_bucket_is_restored_from_there() {
    /// Of which there are two in an archive. Unit: bytes.
    const PIECE: usize = 4 << 20;
    let database = Database::new("orders", TWO_PIECES).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let store = in_a_bucket(&mut harness).await;
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    // A listing may know of it later than who asks for it.
    store.list_late();
    let before = store.count(&Method::GET);
    assert_eq!(trial(&harness, "verifier").await.code, Some(0));
    let found = verification(&harness);
    assert_eq!(found["state"], "Restored", "{found}");
    // To see whether it is whole, and to restore it.
    let bytes = harness.record()["status"]["upload"]["bytes"].as_u64().unwrap();
    assert!(bytes > PIECE as u64 && bytes < 2 * PIECE as u64, "{bytes}");
    assert_eq!(store.count(&Method::GET) - before, 4);
    // What was not looked at is said, and is no pass of its own.
    assert_eq!(found["notRun"], json!(["Semantics: verification.queries is empty"]));

    // A piece that breaks off is asked for again.
    store.next_piece(NextPiece::Cut);
    let before = store.count(&Method::GET);
    assert_eq!(trial(&harness, "another").await.code, Some(0));
    assert_eq!(verification(&harness)["state"], "Restored");
    assert_eq!(store.count(&Method::GET) - before, 5);
    // Pieces of two archives are none of a third: of neither anything was found out.
    store.next_piece(NextPiece::Another);
    trial(&harness, "third").await;
    let found = verification(&harness);
    assert_eq!(found["state"], "Inconclusive", "{found}");
    let said = found["message"].as_str().unwrap();
    assert!(said.contains("it was replaced while it was read"), "{found}");
    database.drop().await;
}

/// Half of an archive was read with credentials that are over then.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_while_an_archive_is_read_are_read_anew_and_told_where_nobody_renews_them() {
    let database = Database::new("orders", TWO_PIECES).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let store = in_a_bucket(&mut harness).await;
    harness.s3_secret("credentials", "sessionToken", "temporary");
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    store.next_piece(NextPiece::Expired);
    let pod = verifier(&harness, "verifier");
    let refused = tokio::time::timeout(Duration::from_secs(60), async {
        while store.expired() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    refused.await.expect("the piece is asked for again");
    harness.s3_secret("credentials", "accessKeyId", RENEWED_KEY);
    let ended = harness.ended(pod, "verifier").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let found = verification(&harness);
    assert_eq!(found["state"], "Restored", "{found}");

    harness
        .variables
        .push(("VALERIX_BACKUP_S3_RENEWAL_SECONDS", "0".into()));
    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    trial(&harness, "another").await;
    let found = verification(&harness);
    assert_eq!(found["state"], "Inconclusive", "{found}");
    let said = found["message"].as_str().unwrap();
    for text in [
        "the Secret of destination.s3.credentialsSecretRef have expired",
        "put new ones there",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    // A run has dumped nothing by then.
    harness.put_record(RECORD, "2026-08-21");
    let ended = harness.run("run").await;
    harness.assert_failed(&ended, 20, "SecretInvalid", &["have expired"]);
    database.drop().await;
}
