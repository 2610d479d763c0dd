//! A bucket as the destination: for each day at most one PUT and one archive, whatever the store does, and Completed only
//! where what lies there is what was made.

use crate::{
    api::{Moment, Trap},
    harness::{Database, Harness, POLICY_UID, RECORD, SMALL},
    steps::Steps,
    store::{ACCESS_KEY, BUCKET, Habit, RENEWED_KEY, Step, Store},
    trust::{AUTHORITY, acceptor},
};
use axum::http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use valerix_backup::archive;

pub const KEY: &str = "pg/shop/nightly/20260821.tar.zst";

pub struct Bucket {
    pub harness: Harness,
    pub store: Store,
    /// Where requests to the bucket and to the API server can be held.
    pub steps: Steps,
}

impl Bucket {
    pub async fn new(database: &Database) -> Self {
        let harness = Harness::new(&[("orders", &database.name)]).await;
        let store = Store::default();
        store.count_with(harness.api.steps());
        let endpoint = store.serve().await;
        Self::at(harness, store, &endpoint)
    }

    fn at(mut harness: Harness, store: Store, endpoint: &str) -> Self {
        harness.spec["destination"] = json!({"s3": {
            "bucket": BUCKET, "prefix": "pg", "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
        }});
        harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
        harness.s3_secret("credentials", "secretAccessKey", "secret");
        Self {
            steps: harness.api.steps(),
            harness,
            store,
        }
    }

    pub fn status(&self) -> Value {
        self.harness.record()["status"].clone()
    }

    /// One request carries so little that an archive goes in parts.
    pub fn send_in_parts(&mut self) {
        self.harness.variables = vec![
            ("VALERIX_BACKUP_S3_MAX_OBJECT_BYTES", "4096".into()),
            ("VALERIX_BACKUP_S3_PART_BYTES", "4096".into()),
        ];
    }

    /// Nobody renews credentials that have expired.
    pub fn wait_for_no_credentials(&mut self) {
        self.harness
            .variables
            .push(("VALERIX_BACKUP_S3_RENEWAL_SECONDS", "0".into()));
    }

    /// One slot was never put twice, and never over anything. What was refused as credentials were over was not sent.
    pub fn assert_one_put(&self) {
        assert_eq!(self.store.unconditional_puts(), 0, "a PUT that may overwrite");
        let puts = self.store.count(&Method::PUT);
        assert!(puts <= 1, "{puts} PUTs of one slot");
        assert!(self.store.archives().len() <= 1);
    }

    /// Record and bucket tell the same story.
    pub fn assert_agreement(&self) {
        self.assert_one_put();
        let status = self.status();
        let completed = status["phase"] == "Completed";
        assert_eq!(completed, status["upload"]["state"] == "Completed", "{status}");
        if completed {
            let bytes = self.store.object(KEY).expect("a completed slot has an archive").bytes;
            assert_eq!(
                status["upload"]["sha256"],
                hex::encode(Sha256::digest(&bytes)),
                "{status}"
            );
            assert_eq!(status["upload"]["bytes"], bytes.len(), "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_put_once_and_the_record_says_where() {
    let database = Database::new("orders", SMALL).await;
    for (mode, reads) in [("WhenSupported", 0), ("WhenRequired", 1)] {
        let mut bucket = Bucket::new(&database).await;
        bucket.harness.spec["destination"]["s3"]["checksumMode"] = mode.into();
        let ended = bucket.harness.run("first").await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        bucket.assert_agreement();
        let status = bucket.status();
        let upload = &status["upload"];
        assert_eq!((&upload["key"], &upload["bucket"]), (&KEY.into(), &BUCKET.into()));
        assert_eq!(
            (&upload["claimName"], &upload["conditionalWrites"]),
            (&Value::Null, &"Enforced".into())
        );
        assert_eq!(status["databases"][0]["tables"], 1);
        // Where the store does not vouch for what it holds, it is read back.
        assert_eq!(
            (bucket.store.count(&Method::GET), bucket.store.probes()),
            (reads, 2),
            "{mode}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bucket.store.object(KEY).unwrap().bytes).unwrap();
        let (manifest, digest) = archive::verify(file.path()).unwrap();
        assert_eq!(upload["sha256"], digest.sha256);
        assert_eq!(manifest.databases[0].rows["public.t"], 500);

        let record = bucket.harness.record();
        assert_eq!(bucket.harness.run("second").await.code, Some(0));
        assert_eq!(bucket.harness.record(), record);
        bucket.assert_agreement();

        // The next day knows what the store makes of conditions, and compares with this one.
        bucket.harness.put_record("nightly-20260822", "2026-08-22");
        bucket.harness.minutes += 24 * 60;
        let ended = bucket.harness.run("next-day").await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert_eq!((bucket.store.archives().len(), bucket.store.probes()), (2, 2));
        let next = bucket.harness.api.record("nightly-20260822");
        assert_eq!(next["status"]["upload"]["conditionalWrites"], "Enforced", "{next}");
        assert!(
            std::fs::read_dir(bucket.harness.folder.path().join("scratch/next-day"))
                .unwrap()
                .next()
                .is_none()
        );
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_answer_is_settled_by_looking_and_never_by_a_second_put() {
    let database = Database::new("orders", SMALL).await;
    let answer = |stores, status, code| Habit::Answer { stores, status, code };
    for (habit, code, phase, reason) in [
        (Habit::Cut { stores: true }, 0, "Completed", "Stored"),
        (Habit::Cut { stores: false }, 30, "Unknown", "UploadUncertain"),
        (Habit::Hang { stores: true }, 0, "Completed", "Stored"),
        (Habit::Hang { stores: false }, 30, "Unknown", "UploadUncertain"),
        (answer(true, 503, "SlowDown"), 0, "Completed", "Stored"),
        (answer(false, 503, "SlowDown"), 30, "Unknown", "UploadUncertain"),
        (
            answer(true, 409, "ConditionalRequestConflict"),
            0,
            "Completed",
            "Stored",
        ),
        (
            answer(false, 409, "ConditionalRequestConflict"),
            30,
            "Unknown",
            "UploadUncertain",
        ),
        // Our own first answer was lost on the way: what lies there is ours.
        (answer(true, 412, "PreconditionFailed"), 0, "Completed", "Stored"),
        (Habit::Truncate, 23, "Failed", "ArchiveDamaged"),
    ] {
        let bucket = Bucket::new(&database).await;
        bucket.store.take_habit(habit);
        let ended = bucket.harness.run("pod").await;
        let status = bucket.status();
        assert_eq!(ended.code, Some(code), "{habit:?}: {}", ended.log);
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&phase.into(), &reason.into()),
            "{habit:?}: {status}"
        );
        assert_eq!(bucket.store.count(&Method::PUT), 1, "{habit:?}");
        bucket.assert_agreement();
        if code == 30 {
            // Another pod only looks, too.
            let ended = bucket.harness.run("second").await;
            assert_eq!(ended.code, Some(30), "{habit:?}: {}", ended.log);
            bucket.assert_agreement();
        }
    }
    database.drop().await;
}

/// The kubelet brings them after the store has refused the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_renewed_cost_no_day_wherever_they_expire() {
    let database = Database::new("orders", SMALL).await;
    for (step, in_parts) in [
        (Step::List, false),
        (Step::Archive, false),
        (Step::Part, true),
        (Step::Archive, true),
    ] {
        let mut bucket = Bucket::new(&database).await;
        if in_parts {
            bucket.send_in_parts();
        }
        bucket.store.expire_with(step);
        let pod = bucket.harness.pod("pod");
        let refused = tokio::time::timeout(Duration::from_secs(60), async {
            while bucket.store.expired() == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        refused.await.expect("the old ones are refused");
        bucket.harness.s3_secret("credentials", "accessKeyId", RENEWED_KEY);
        let ended = bucket.harness.ended(pod, "pod").await;
        assert_eq!(ended.code, Some(0), "{step:?}: {}", ended.log);
        assert_eq!(bucket.status()["phase"], "Completed", "{step:?}");
        assert_eq!(bucket.store.count(&Method::PUT), 1, "{step:?}");
        bucket.assert_agreement();
        assert_eq!(bucket.store.left_uploads(), 0, "{step:?}");
        assert_eq!(bucket.status()["openUploads"], Value::Null, "{step:?}");
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_by_credentials_that_nobody_renews_leaves_the_day_to_a_run_by_hand() {
    let database = Database::new("orders", SMALL).await;
    for in_parts in [false, true] {
        let mut bucket = Bucket::new(&database).await;
        if in_parts {
            bucket.send_in_parts();
        }
        bucket.wait_for_no_credentials();
        bucket.store.expire_with(Step::Archive);
        let ended = bucket.harness.run("pod").await;
        bucket
            .harness
            .assert_failed(&ended, 20, "SecretInvalid", &["have expired"]);
        let status = bucket.status();
        assert_ne!(
            status["upload"]["state"], "Started",
            "the fence is given back: {status}"
        );
        assert_eq!(bucket.store.count(&Method::PUT), 0);
        bucket.harness.s3_secret("credentials", "accessKeyId", RENEWED_KEY);
        let ended = bucket.harness.run("by-hand").await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        bucket.assert_agreement();
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_late_is_found_by_the_next_pod() {
    let database = Database::new("orders", SMALL).await;
    let bucket = Bucket::new(&database).await;
    bucket.store.take_habit(Habit::Cut { stores: true });
    let trap = Trap::new("Uploading", Moment::After);
    bucket.harness.api.set_trap(Some(trap.clone()));
    let pod = bucket.harness.pod("first");
    trap.bitten.notified().await;
    trap.release.notify_one();
    assert_eq!(bucket.harness.ended(pod, "first").await.code, Some(0));
    let object = bucket.store.remove(KEY).unwrap();
    let mut record = bucket.harness.record();
    record["status"]["phase"] = "Uploading".into();
    record["status"]["upload"]["state"] = "Started".into();
    record["status"]["databases"] = json!([]);
    bucket.harness.api.put(record);
    assert_eq!(bucket.harness.run("second").await.code, Some(30));
    assert!(
        bucket.harness.message().contains("next day's run settles it"),
        "{}",
        bucket.harness.message()
    );
    bucket.store.put_back(KEY, object);
    let ended = bucket.harness.run("third").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    bucket.assert_agreement();
    assert_eq!(bucket.status()["upload"]["podUID"], "first");
    // It tells itself what it holds.
    assert_eq!(bucket.status()["databases"][0]["tables"], 1);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_fence_and_put_the_day_is_given_up_and_not_doubled() {
    let database = Database::new("orders", SMALL).await;
    let bucket = Bucket::new(&database).await;
    let trap = Trap::new("Uploading", Moment::After);
    bucket.harness.api.set_trap(Some(trap.clone()));
    let mut pod = bucket.harness.pod("killed");
    trap.bitten.notified().await;
    pod.kill().await.unwrap();
    let ended = bucket.harness.run("heir").await;
    assert_eq!(ended.code, Some(30), "{}", ended.log);
    assert_eq!(bucket.store.count(&Method::PUT), 0);
    assert!(
        bucket.harness.message().contains("pod killed was allowed"),
        "{}",
        bucket.harness.message()
    );
    // A record that was lost is made anew from what lies there.
    bucket.harness.put_record(RECORD, "2026-08-21");
    assert_eq!(bucket.harness.run("anew").await.code, Some(0));
    bucket.harness.put_record(RECORD, "2026-08-21");
    let ended = bucket.harness.run("adopts").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    bucket.assert_agreement();
    assert_eq!(bucket.status()["databases"][0]["name"], "orders");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_of_one_slot_put_one_archive() {
    let database = Database::new("orders", SMALL).await;
    let bucket = Bucket::new(&database).await;
    // Nothing but the record keeps them apart.
    bucket.store.ignore_conditions();
    let (first, second) = (bucket.harness.pod("one"), bucket.harness.pod("two"));
    bucket.harness.both_end_well((first, "one"), (second, "two")).await;
    bucket.assert_agreement();
    assert_eq!(bucket.status()["upload"]["conditionalWrites"], "Ignored");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_and_the_day_is_free_again() {
    let database = Database::new("orders", SMALL).await;
    for (status, code, told) in [
        (403, "AccessDenied", "AccessDenied"),
        (400, "EntityTooLarge", "EntityTooLarge"),
        (501, "NotImplemented", "refuses If-None-Match"),
    ] {
        let bucket = Bucket::new(&database).await;
        bucket.store.take_habit(Habit::Answer {
            stores: false,
            status,
            code,
        });
        let ended = bucket.harness.run("first").await;
        bucket
            .harness
            .assert_failed(&ended, 20, "DestinationRefused", &[told, KEY]);
        assert_eq!(bucket.store.count(&Method::PUT), 1);
        // It was certainly not stored: once it is mended the day can be stored.
        assert_eq!(bucket.harness.run("second").await.code, Some(0));
        assert_eq!(bucket.status()["phase"], "Completed");
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_way_to_the_bucket_is_told_before_anything_is_dumped() {
    let database = Database::new("orders", SMALL).await;
    for (field, value, reason, code, told) in [
        ("bucket", "elsewhere", "DestinationRefused", 20, "NoSuchBucket"),
        ("access", "stranger", "DestinationRefused", 20, "InvalidAccessKeyId"),
        (
            "access",
            "",
            "SecretInvalid",
            20,
            "destination.s3.credentialsSecretRef: secret store, key accessKeyId",
        ),
    ] {
        let mut bucket = Bucket::new(&database).await;
        if field == "access" {
            bucket.harness.s3_secret("credentials", "accessKeyId", value);
        } else {
            bucket.harness.spec["destination"]["s3"][field] = value.into();
        }
        let ended = bucket.harness.run("pod").await;
        bucket.harness.assert_failed(&ended, code, reason, &[told]);
        assert_eq!(bucket.store.count(&Method::PUT), 0, "{value}");
        let shown = format!("{}{}", ended.log, bucket.harness.message());
        assert!(
            !shown.contains("\"secret\"") && !shown.contains("key: secret"),
            "{shown}"
        );
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_object_can_hold_is_refused_before_it_is_sent() {
    let database = Database::new("orders", SMALL).await;
    let mut bucket = Bucket::new(&database).await;
    bucket.harness.variables = vec![("VALERIX_BACKUP_S3_MAX_OBJECT_BYTES", "0".into())];
    let ended = bucket.harness.run("pod").await;
    let told = [
        "bytes and one object takes 0",
        "split spec.databases",
        "destination.volumeClaim",
    ];
    bucket.harness.assert_failed(&ended, 23, "ArchiveTooLarge", &told);
    assert_eq!(bucket.store.count(&Method::PUT), 0);
    // Without the test's own limit it is that of PutObject.
    bucket.harness.variables.clear();
    assert_eq!(bucket.harness.run("roomy").await.code, Some(0));
    bucket.assert_agreement();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_with_the_authority_of_the_policy() {
    let database = Database::new("orders", SMALL).await;
    let store = Store::default();
    let endpoint = store.serve_tls(acceptor()).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let mut bucket = Bucket::at(harness, store, &endpoint);
    let ended = bucket.harness.run("pod").await;
    bucket.harness.assert_failed(
        &ended,
        20,
        "CertificateNotTrusted",
        &["destination.s3.caSecretRef", "ca.crt"],
    );
    bucket.harness.put_record(RECORD, "2026-08-21");
    bucket.harness.spec["destination"]["s3"]["caSecretRef"] = json!({"name": "authority"});
    bucket.harness.s3_secret("authority", "ca.crt", AUTHORITY);
    let ended = bucket.harness.run("trusting").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    bucket.assert_agreement();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_under_the_key_of_somebody_else_is_never_overwritten() {
    let database = Database::new("orders", SMALL).await;
    for (metadata, told) in [
        (vec![], "no policy has stored"),
        (vec![("valerix-policy-uid", "stranger")], "UID stranger"),
        (
            vec![("valerix-policy-uid", POLICY_UID), ("valerix-slot", "2026-08-20")],
            "another slot",
        ),
    ] {
        let bucket = Bucket::new(&database).await;
        bucket.store.ignore_conditions();
        bucket.store.put(KEY, b"precious", &metadata);
        let ended = bucket.harness.run("pod").await;
        bucket.harness.assert_failed(&ended, 31, "SlotTaken", &[told]);
        assert_eq!(bucket.store.object(KEY).unwrap().bytes, "precious");
        assert_eq!(bucket.store.count(&Method::PUT), 0);
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_was_changed_on_the_day_is_no_second_archive() {
    let database = Database::new("orders", SMALL).await;
    for change in ["bucket", "prefix", "volume"] {
        let mut bucket = Bucket::new(&database).await;
        assert_eq!(bucket.harness.run("first").await.code, Some(0));
        let mut record = bucket.harness.record();
        record["status"]["phase"] = "Uploading".into();
        record["status"]["upload"]["state"] = "Started".into();
        bucket.harness.api.put(record);
        let before = bucket.harness.spec["destination"].clone();
        let (code, told) = match change {
            "volume" => {
                bucket.harness.spec["destination"] = json!({"volumeClaim": {"claimName": "backups"}});
                (30, "bucket archives")
            }
            "prefix" => {
                bucket.harness.spec["destination"]["s3"]["prefix"] = "elsewhere".into();
                (30, "spec.destination")
            }
            _ => {
                bucket.harness.spec["destination"]["s3"]["bucket"] = "elsewhere".into();
                (30, "bucket archives")
            }
        };
        let ended = bucket.harness.run("second").await;
        assert_eq!(ended.code, Some(code), "{change}: {}", ended.log);
        assert!(
            bucket.harness.message().contains(told),
            "{change}: {}",
            bucket.harness.message()
        );
        bucket.harness.spec["destination"] = before;
        assert_eq!(bucket.harness.run("third").await.code, Some(0), "{change}");
        bucket.assert_agreement();
    }
    database.drop().await;
}
