//! Old archives go once a new one is stored; what belongs to somebody else, or may be the only good one, stays.

use crate::{
    harness::{Database, Harness, POLICY_UID, SMALL},
    store::{ACCESS_KEY, BUCKET, Store},
};
use serde_json::{Value, json};
use std::fs;

/// Runs the days from the 21st of August on; the status of the last one's record.
async fn days(harness: &mut Harness, count: i64) -> Value {
    let mut last = Value::Null;
    for day in 0..count {
        let (name, slot) = (format!("nightly-202608{}", 21 + day), format!("2026-08-{}", 21 + day));
        harness.put_record(&name, &slot);
        let ended = harness.run(&slot).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        last = harness.api.record(&name)["status"].clone();
        harness.minutes += 24 * 60;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_volume_what_the_rules_do_not_keep_goes() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.spec["retention"] = json!({"daily": 2, "weekly": 0, "monthly": 0, "minVerified": 1});
    let folder = harness.destination().join("pg/shop/nightly");
    fs::create_dir_all(&folder).unwrap();
    // Of somebody else, and no archive at all: neither is ours to remove.
    fs::write(folder.join("20260819.tar.zst"), "somebody's").unwrap();
    fs::write(folder.join("notes.txt"), "somebody's").unwrap();
    let status = days(&mut harness, 3).await;
    assert_eq!(
        harness.stored(),
        ["20260819.tar.zst", "20260822.tar.zst", "20260823.tar.zst", "notes.txt"]
    );
    let retention = &status["retention"];
    assert_eq!(
        (&retention["removed"], &retention["healthy"]),
        (&json!(["2026-08-21"]), &json!(false))
    );
    let message = retention["message"].as_str().unwrap();
    assert!(
        message.starts_with("1 archives removed, 2 kept; verification.restore is Off"),
        "{message}"
    );
    assert!(message.contains("left where they are: 2026-08-19"), "{message}");
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&"Completed".into(), &"Stored".into())
    );
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_or_is_of_a_later_day_keeps_no_place_of_a_good_archive() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let begin = harness.minutes;
    // By a clock that was wrong.
    harness.minutes = begin + 40 * 24 * 60;
    harness.put_record("nightly-20260930", "2026-09-30");
    assert_eq!(harness.run("wrong-clock").await.code, Some(0));
    harness.minutes = begin;
    harness.spec["retention"] = json!({"daily": 2, "weekly": 0, "monthly": 0, "minVerified": 1});
    days(&mut harness, 2).await;
    fs::write(
        harness.destination().join("pg/shop/nightly/20260823.tar.zst"),
        "garbage",
    )
    .unwrap();
    harness.minutes += 24 * 60;
    harness.put_record("nightly-20260824", "2026-08-24");
    let ended = harness.run("last").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(
        harness.stored(),
        ["20260822", "20260823", "20260824", "20260930"].map(|day| format!("{day}.tar.zst"))
    );
    let retention = harness.api.record("nightly-20260824")["status"]["retention"].clone();
    assert_eq!(
        (&retention["removed"], &retention["healthy"]),
        (&json!(["2026-08-21"]), &json!(false)),
        "{retention}"
    );
    let message = retention["message"].as_str().unwrap();
    for text in [
        "1 archives removed, 2 kept",
        "2026-08-23: ",
        "2026-09-30: it is of a later day",
    ] {
        assert!(message.contains(text), "`{text}` in `{message}`");
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_only_this_policys_objects_go_and_only_once_enough_were_restored() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let store = Store::default();
    let endpoint = store.serve().await;
    harness.spec["destination"] = json!({"s3": {
        "bucket": BUCKET, "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
    }});
    harness.spec["retention"] = json!({"daily": 1, "weekly": 0, "monthly": 0, "minVerified": 1});
    harness.spec["verification"] = json!({"restore": "Weekly"});
    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    harness.s3_secret("credentials", "secretAccessKey", "secret");
    store.put(
        "shop/nightly/20260818.tar.zst",
        b"x",
        &[("valerix-policy-uid", "stranger")],
    );
    // It says of itself that it is of another day: what it is nobody knows.
    let labels = [("valerix-policy-uid", POLICY_UID), ("valerix-slot", "2026-07-17")];
    store.put("shop/nightly/20260817.tar.zst", b"x", &labels);
    store.put("shop/nightly-two/20260818.tar.zst", b"x", &[]);

    let status = days(&mut harness, 2).await;
    assert_eq!(store.archives().len(), 5, "nobody has restored one yet");
    let message = status["retention"]["message"].as_str().unwrap();
    assert!(
        message.contains("0 archives were restored on trial, retention.minVerified is 1"),
        "{message}"
    );

    // The older one of the two is restored: it stays, whatever its age, and the newer one goes.
    let mut record = harness.api.record("nightly-20260821");
    record["status"]["verified"] = "Restored".into();
    harness.api.put(record);
    // What an earlier policy of the name has had restored says nothing about an archive of this one.
    let mut record = harness.api.record("nightly-20260822");
    record["status"]["verified"] = "Restored".into();
    record["spec"]["policyRef"]["uid"] = "earlier".into();
    harness.api.put(record);
    harness.put_record("nightly-20260823", "2026-08-23");
    let ended = harness.run("third").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let keys = [
        "nightly-two/20260818",
        "nightly/20260817",
        "nightly/20260818",
        "nightly/20260821",
        "nightly/20260823",
    ];
    assert_eq!(store.archives(), keys.map(|key| format!("shop/{key}.tar.zst")));
    let retention = harness.api.record("nightly-20260823")["status"]["retention"].clone();
    assert_eq!(retention["removed"], json!(["2026-08-22"]), "{retention}");
    database.drop().await;
}
