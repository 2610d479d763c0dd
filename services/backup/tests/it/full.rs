//! No room: on scratch, on the claim, and where an archive is given back or tried. Each says so by the documented reason,
//! leaves nothing, and once there is room all goes well.

use crate::{
    harness::{Database, Harness},
    restore::harness::Restoring,
    room::Room,
    store::{ACCESS_KEY, BUCKET, Store},
    trial::{trial, verification},
};
use serde_json::{Value, json};
use std::fs;
use valerix_crds::backup_runner::exit;

/// About six megabytes as a dump, and a little more than half of that as an archive.
const LARGE: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); \
    INSERT INTO t SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(1, 80000) i;";
/// Less than the dump or its archive. Unit: KiB.
const NOT_THE_DUMP: usize = 2 * 1024;
/// The archive, and less than the dump. Unit: KiB.
const THE_ARCHIVE: usize = 5 * 1024;
/// The dump and not its archive beside it; the archive and not the dump. Unit: KiB.
const ONE_OF_TWO: usize = 7 * 1024;

fn says_no_room(text: &str) {
    // As the system says it, and as a PostgreSQL server that could write a part says it.
    let said = ["No space left on device", "Check free disk space"];
    assert!(said.iter().any(|words| text.contains(words)), "{text}");
}

async fn of(database: &Database) -> Harness {
    Harness::new(&[("orders", &database.name)]).await
}

/// The same into a bucket.
async fn into_a_bucket(database: &Database) -> Harness {
    let mut harness = of(database).await;
    let endpoint = Store::default().serve().await;
    harness.spec["destination"] = json!({"s3": {
        "bucket": BUCKET, "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
    }});
    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    harness.s3_secret("credentials", "secretAccessKey", "secret");
    harness
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_that_is_full_ends_the_run_and_with_room_the_next_one_stores() {
    let database = Database::new("orders", LARGE).await;
    for (left, told) in [
        (0, "scratch"),
        (NOT_THE_DUMP, "scratch.sizeLimit must hold the archive"),
    ] {
        let mut harness = of(&database).await;
        harness.room = Some(Room::over(&harness.scratch("pod"), left).await);
        let ended = harness.run("pod").await;
        harness.assert_failed(
            &ended,
            exit::STORAGE.into(),
            "ScratchFailed",
            &["No space left on device", told],
        );
        let room = harness.room.as_ref().unwrap();
        assert_eq!(room.files(), Vec::<String>::new(), "{left}");
        room.clear();
        let ended = harness.run("pod").await;
        assert_eq!(ended.code, Some(0), "{left}: {}", ended.log);
        harness.assert_agreement();
        assert_eq!(harness.room.as_ref().unwrap().files(), Vec::<String>::new(), "{left}");
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_that_holds_the_archive_and_no_dump_beside_it_is_enough() {
    let database = Database::new("orders", LARGE).await;
    let mut harness = of(&database).await;
    harness.room = Some(Room::over(&harness.scratch("pod"), THE_ARCHIVE).await);
    let ended = harness.run("pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    harness.assert_agreement();
    let dump = harness.record()["status"]["databases"][0]["bytes"].as_u64().unwrap();
    assert!(dump > THE_ARCHIVE as u64 * 1024, "{dump}");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_full_ends_the_run_and_with_room_the_next_one_stores() {
    let database = Database::new("orders", LARGE).await;
    for left in [0, NOT_THE_DUMP] {
        let mut harness = of(&database).await;
        harness.room = Some(Room::over(&harness.destination(), left).await);
        let ended = harness.run("pod").await;
        harness.assert_failed(
            &ended,
            exit::STORAGE.into(),
            "DestinationFailed",
            &["No space left on device", "destination's volume"],
        );
        let room = harness.room.as_ref().unwrap();
        assert_eq!(room.files(), Vec::<String>::new(), "{left}: not even an unfinished one");
        room.clear();
        let ended = harness.run("next").await;
        assert_eq!(ended.code, Some(0), "{left}: {}", ended.log);
        let key = "pg/shop/nightly/20260821.tar.zst";
        let room = harness.room.as_ref().unwrap();
        assert_eq!(room.files(), [key]);
        let upload = harness.record()["status"]["upload"].clone();
        assert_eq!(
            (&upload["state"], upload["bytes"].as_u64()),
            (
                &json!("Completed"),
                Some(fs::metadata(room.inside().join(key)).unwrap().len())
            )
        );
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_without_room_touches_nothing_and_with_room_the_next_one_completes() {
    let living = Database::new("living", LARGE).await;
    for bucket in [false, true] {
        let harness = if bucket {
            into_a_bucket(&living).await
        } else {
            of(&living).await
        };
        let mut restoring = Restoring::from(harness).await;
        let new = restoring.named("back");
        // One of them, whose dump has no room; and all that there are, of whose archive there is a copy as well.
        for all in [false, true] {
            restoring.replacing("orders", &living.name);
            if all {
                restoring.make_new(&[("orders", &new)]);
                restoring.spec["databases"] = json!([]);
                restoring.put();
            }
            let room = Room::over(&restoring.harness.scratch("pod"), NOT_THE_DUMP).await;
            restoring.harness.room = Some(room);
            let ended = restoring.run("pod").await;
            restoring.assert_failed(
                &ended,
                "ScratchFailed",
                &["No space left on device", "spec.scratch.sizeLimit"],
            );
            assert_eq!(ended.code, Some(exit::STORAGE.into()));
            assert_eq!(
                restoring.databases(&living.name[..20]).await,
                [(living.name.clone(), true)].into(),
                "bucket: {bucket}, all: {all}"
            );
            let room = restoring.harness.room.as_ref().unwrap();
            assert_eq!(room.files(), Vec::<String>::new());
        }
        // The dump has room, and its archive beside it would have none.
        let room = Room::over(&restoring.harness.scratch("pod"), ONE_OF_TWO).await;
        restoring.harness.room = Some(room);
        restoring.make_new(&[("orders", &new)]);
        let ended = restoring.run("pod").await;
        restoring.assert_completed(&ended);
        assert_eq!(restoring.text(&new, "SELECT count(*)::text FROM t").await, "80000");
        restoring.drop_databases(&restoring.mark).await;
    }
    living.drop().await;
}

/// It says nothing of the archive, and never that it is bad.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_without_room_is_inconclusive_wherever_it_comes_to_an_end() {
    let database = Database::new("orders", LARGE).await;
    // The archive; the dump beside it; the server (about 40 MB); what is restored into it.
    for left in [NOT_THE_DUMP, ONE_OF_TWO, 24 * 1024, 48 * 1024] {
        let mut harness = of(&database).await;
        assert_eq!(harness.run("backup").await.code, Some(0));
        harness.room = Some(Room::over(&harness.scratch("pod"), left).await);
        let ended = trial(&harness, "pod").await;
        let found = verification(&harness);
        println!("{left}: {found}");
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert_eq!(found["state"], "Inconclusive", "{left}: {found}");
        says_no_room(found["message"].as_str().unwrap());
        assert_eq!(
            harness.record()["status"]["verified"],
            "Local",
            "never a pass and never a failure"
        );
        assert_eq!(harness.room.as_ref().unwrap().files(), Vec::<String>::new(), "{left}");
        harness.room = None;
        assert_eq!(trial(&harness, "next").await.code, Some(0));
        assert_eq!(verification(&harness)["state"], Value::from("Restored"));
    }
    database.drop().await;
}
