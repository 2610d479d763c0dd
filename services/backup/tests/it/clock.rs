//! A node's clock that was set since a pod passed its fence, back or forward, an hour or a day: what a record says of when
//! that was is then in the future, or long ago. A slot has one archive at most all the same.

use crate::{
    bucket::{Bucket, KEY},
    harness::{Database, Harness, SMALL},
};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use std::fs;

const YESTERDAY: &str = "nightly-20260820";
/// When the fence was passed, by the clock of the next pod.
const JUMPS: [(&str, TimeDelta); 4] = [
    ("set back by a day", TimeDelta::days(1)),
    ("set back by an hour", TimeDelta::hours(1)),
    ("set forward by an hour", TimeDelta::minutes(-61)),
    ("set forward by a day", TimeDelta::minutes(-24 * 60 - 1)),
];

/// As a pod leaves it that has passed the fence.
fn fenced(mut record: Value, upload: &Value, since: TimeDelta) -> Value {
    record["status"]["phase"] = "Uploading".into();
    record["status"]["upload"] = upload.clone();
    record["status"]["upload"]["startedAt"] = json!(Utc::now() + since);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_on_a_volume_has_one_archive_however_the_clock_was_set() {
    let database = Database::new("orders", SMALL).await;
    for (case, since) in JUMPS {
        let harness = Harness::new(&[("orders", &database.name)]).await;
        harness.put_record(YESTERDAY, "2026-08-20");
        let hold = |day: &str| {
            json!({"state": "Started", "podUID": "other", "sha256": "0".repeat(64), "bytes": 7,
                   "claimName": "backups", "key": format!("pg/shop/nightly/{day}.tar.zst")})
        };
        let yesterday = fenced(harness.api.record(YESTERDAY), &hold("20260820"), since);
        harness.api.put(yesterday.clone());
        let today = fenced(harness.record(), &hold("20260821"), since);
        harness.api.put(today);
        let folder = harness.archive().parent().unwrap().to_owned();
        fs::create_dir_all(&folder).unwrap();
        // Both pods were about to link what they had written.
        for day in ["20260820", "20260821"] {
            fs::write(folder.join(format!(".{day}.other.unfinished")), "archive").unwrap();
        }

        let ended = harness.run("heir").await;
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
        assert_eq!(harness.record()["status"]["upload"]["podUID"], "heir", "{case}");
        let status = harness.api.record(YESTERDAY)["status"].clone();
        if since > TimeDelta::zero() {
            // As it seems, it has only just been passed: who holds it may be at work, and can still store.
            assert_eq!(status, yesterday["status"], "{case}");
            assert_eq!(
                harness.stored(),
                [".20260820.other.unfinished", "20260821.tar.zst"],
                "{case}"
            );
        } else {
            assert_eq!(
                (&status["phase"], &status["reason"]),
                (&"Failed".into(), &"NotStored".into()),
                "{case}"
            );
            assert_eq!(
                harness.stored(),
                ["20260821.tar.zst"],
                "{case}: nor can its pod store any more"
            );
            harness.assert_agreement();
        }
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_a_bucket_is_put_once_however_the_clock_was_set() {
    let database = Database::new("orders", SMALL).await;
    for (case, since) in JUMPS {
        let mut bucket = Bucket::new(&database).await;
        assert_eq!(bucket.harness.run("first").await.code, Some(0), "{case}");
        let stored = bucket.status()["upload"].clone();
        let mut open = stored.clone();
        open["state"] = "Started".into();
        // It was put, and its pod could not say so; the slot's next pod finds it.
        bucket.harness.api.put(fenced(bucket.harness.record(), &open, since));
        let ended = bucket.harness.run("second").await;
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
        assert_eq!(bucket.status()["upload"]["sha256"], stored["sha256"], "{case}");
        bucket.assert_agreement();

        // It was sent, and it is still on its way: nobody sends another one, today or tomorrow.
        let object = bucket.store.remove(KEY).unwrap();
        bucket.harness.api.put(fenced(bucket.harness.record(), &open, since));
        let ended = bucket.harness.run("third").await;
        assert_eq!(ended.code, Some(30), "{case}: {}", ended.log);
        bucket.harness.put_record("nightly-20260822", "2026-08-22");
        bucket.harness.minutes += 24 * 60;
        let ended = bucket.harness.run("tomorrow").await;
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
        assert_eq!(bucket.store.puts(KEY), 1, "{case}");

        // It arrives; what lies there is found, whatever the record says by then.
        bucket.store.put_back(KEY, object);
        bucket.harness.put_record("nightly-20260823", "2026-08-23");
        bucket.harness.minutes += 24 * 60;
        let ended = bucket.harness.run("the-day-after").await;
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
        assert_eq!(bucket.store.puts(KEY), 1, "{case}");
        assert_eq!(bucket.store.archives().len(), 3, "{case}");
        let status = bucket.harness.record()["status"].clone();
        println!("{case}: {} {}", status["phase"], status["reason"]);
        let completed = status["phase"] == "Completed" && status["upload"]["sha256"] == stored["sha256"];
        assert!(
            completed || status["upload"]["state"] != "Completed",
            "{case}: {status}"
        );
    }
    database.drop().await;
}
