//! An archive that one request cannot carry: parts any number of times, one completion, and no parts left behind.

use crate::{
    bucket::{Bucket, KEY},
    harness::{Database, SMALL},
    store::Habit,
};
use axum::http::Method;
use serde_json::json;
use std::{os::unix::fs::FileExt, time::Duration};
use valerix_backup::archive;

async fn in_parts(database: &Database) -> Bucket {
    let mut bucket = Bucket::new(database).await;
    bucket.send_in_parts();
    bucket
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_request_cannot_carry_goes_in_parts_and_is_completed_once() {
    let database = Database::new("orders", SMALL).await;
    for (mode, reads) in [("WhenSupported", 0), ("WhenRequired", 1)] {
        let mut bucket = in_parts(&database).await;
        bucket.harness.spec["destination"]["s3"]["checksumMode"] = mode.into();
        // A part that is refused is sent again.
        bucket.store.refuse_parts(2);
        let ended = bucket.harness.run("first").await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        bucket.assert_agreement();
        assert!(bucket.store.parts() > 1, "{}", bucket.store.parts());
        assert_eq!(bucket.store.count(&Method::PUT), 1);
        // Where the store vouches for every part, what it holds is not read back.
        assert_eq!(bucket.store.count(&Method::GET), reads, "{mode}");
        let status = bucket.status();
        assert_eq!(status["openUploads"], json!(null), "{status}");
        // What the store makes of the condition of a PutObject tells nothing of a completion.
        assert_eq!(status["upload"]["conditionalWrites"], "Unknown", "{status}");
        assert_eq!(bucket.store.probes(), 0);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bucket.store.object(KEY).unwrap().bytes).unwrap();
        let (manifest, digest) = archive::verify(file.path()).unwrap();
        assert_eq!(status["upload"]["sha256"], digest.sha256);
        assert_eq!(manifest.databases[0].rows["public.t"], 500);
        assert_eq!(bucket.harness.run("second").await.code, Some(0));
        bucket.assert_agreement();
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_completion_is_settled_by_looking_and_never_sent_again() {
    let database = Database::new("orders", SMALL).await;
    let answer = |stores, status, code| Habit::Answer { stores, status, code };
    for (habit, code, reason) in [
        (Habit::Cut { stores: true }, 0, "Stored"),
        (Habit::Cut { stores: false }, 30, "UploadUncertain"),
        (Habit::Hang { stores: true }, 0, "Stored"),
        (Habit::Hang { stores: false }, 30, "UploadUncertain"),
        (answer(true, 412, "PreconditionFailed"), 0, "Stored"),
        (answer(false, 409, "ConditionalRequestConflict"), 30, "UploadUncertain"),
        // A store begins to answer before it has put the parts together, and tells in the answer that it could not.
        (answer(true, 200, "InternalError"), 0, "Stored"),
        (answer(false, 200, "InternalError"), 30, "UploadUncertain"),
        (answer(false, 404, "NoSuchUpload"), 30, "UploadUncertain"),
        (answer(false, 403, "AccessDenied"), 20, "DestinationRefused"),
        (answer(false, 501, "NotImplemented"), 20, "DestinationRefused"),
        (Habit::Truncate, 23, "ArchiveDamaged"),
    ] {
        let bucket = in_parts(&database).await;
        bucket.store.take_habit(habit);
        let ended = bucket.harness.run("pod").await;
        let status = bucket.status();
        assert_eq!(ended.code, Some(code), "{habit:?}: {}", ended.log);
        assert_eq!(status["reason"], reason, "{habit:?}: {status}");
        assert_eq!(bucket.store.count(&Method::PUT), 1, "{habit:?}");
        bucket.assert_agreement();
        if reason == "Stored" {
            let has_refused = matches!(habit, Habit::Answer { status: 412, .. });
            let seen = if has_refused { "Enforced" } else { "Unknown" };
            assert_eq!(status["upload"]["conditionalWrites"], seen, "{habit:?}");
        }
        if code == 30 {
            let ended = bucket.harness.run("second").await;
            assert_eq!(ended.code, Some(30), "{habit:?}: {}", ended.log);
            bucket.assert_agreement();
            assert_eq!(bucket.store.left_uploads(), 1, "it may still become the archive");
        } else {
            assert_eq!(bucket.store.left_uploads(), 0, "{habit:?}");
        }
    }
    database.drop().await;
}

/// Waits until the store holds the first part of an upload, and no more.
pub async fn first_part(bucket: &Bucket) {
    let held = tokio::time::timeout(Duration::from_secs(30), async {
        while bucket.store.left_uploads() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    held.await.expect("a part is sent");
    let status = bucket.status();
    let begun = &status["openUploads"];
    assert!(
        begun[0]["id"].is_string(),
        "the record knows of the upload before it has a part: {begun}"
    );
}

/// The sums of its parts would fit whatever was read of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_changes_on_scratch_while_it_is_sent_is_refused_and_nothing_is_left() {
    // More than two parts, as an archive.
    const NOTES: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); \
        INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 2000) i;";
    let database = Database::new("orders", NOTES).await;
    for (mode, shorter) in [
        ("WhenSupported", false),
        ("WhenRequired", false),
        ("WhenRequired", true),
    ] {
        let mut bucket = in_parts(&database).await;
        bucket.harness.spec["destination"]["s3"]["checksumMode"] = mode.into();
        bucket.store.take_parts(Some(1));
        let pod = bucket.harness.pod("pod");
        first_part(&bucket).await;
        // The second part waits, and this is of a later one.
        let path = bucket.harness.scratch("pod").join("run/archive.tar.zst");
        let (bytes, last) = (
            std::fs::read(&path).unwrap(),
            std::fs::metadata(&path).unwrap().len() - 1,
        );
        assert!(last > 2 * 4096, "{last}");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        if shorter {
            file.set_len(last).unwrap();
        } else {
            file.write_all_at(&[bytes[bytes.len() - 1] ^ 1], last).unwrap();
        }
        bucket.store.take_parts(None);
        let ended = bucket.harness.ended(pod, "pod").await;
        let told = ["the archive is damaged", "on scratch it is not what it was"];
        bucket.harness.assert_failed(&ended, 23, "ArchiveDamaged", &told);
        assert_eq!(
            (bucket.store.count(&Method::PUT), bucket.store.left_uploads()),
            (0, 0),
            "{mode}"
        );
        assert_eq!(bucket.store.archives(), Vec::<String>::new());
        // Nothing was stored: a run by hand has the day.
        assert_eq!(bucket.harness.run("next").await.code, Some(0), "{mode}");
        bucket.assert_agreement();
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_killed_pod_are_aborted_once_no_pod_can_complete_them() {
    let database = Database::new("orders", SMALL).await;
    let mut bucket = in_parts(&database).await;
    bucket.store.take_parts(Some(1));
    let mut pod = bucket.harness.pod("killed");
    first_part(&bucket).await;
    pod.kill().await.unwrap();
    bucket.store.take_parts(None);
    let mut record = bucket.harness.record();
    bucket.harness.put_record("nightly-20260822", "2026-08-22");
    bucket.harness.minutes += 24 * 60;
    let ended = bucket.harness.run("next-day").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(
        bucket.store.left_uploads(),
        1,
        "so young, it may be that of a pod at work"
    );
    record["status"]["openUploads"][0]["startedAt"] = "2026-08-20T00:00:00Z".into();
    bucket.harness.api.put(record);
    bucket.harness.put_record("nightly-20260823", "2026-08-23");
    bucket.harness.minutes += 24 * 60;
    let ended = bucket.harness.run("day-after").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(bucket.store.left_uploads(), 0);
    assert_eq!(bucket.status()["openUploads"], json!(null));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_asked_to_end_takes_its_parts_along_and_one_whose_parts_were_taken_begins_anew() {
    let database = Database::new("orders", SMALL).await;
    let bucket = in_parts(&database).await;
    bucket.store.take_parts(Some(1));
    let pod = bucket.harness.pod("asked");
    first_part(&bucket).await;
    let mut kill = std::process::Command::new("kill");
    assert!(
        kill.args(["-TERM", &pod.id().unwrap().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let ended = bucket.harness.ended(pod, "asked").await;
    assert_eq!(ended.code, Some(10), "{}", ended.log);
    assert_eq!(bucket.store.left_uploads(), 0);

    bucket.store.take_parts(Some(1));
    let pod = bucket.harness.pod("heir");
    first_part(&bucket).await;
    bucket.store.abort_all();
    bucket.store.take_parts(None);
    let ended = bucket.harness.ended(pod, "heir").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    bucket.assert_agreement();
    assert_eq!(bucket.store.left_uploads(), 0);
    assert_eq!(bucket.status()["openUploads"], json!(null));
    database.drop().await;
}
