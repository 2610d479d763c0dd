//! What lies on the destination without a record, as after the loss of a cluster, is told by the first run that comes by.

use crate::{
    harness::{Database, Harness, POLICY_UID, RECORD, SMALL, sha256},
    store::{ACCESS_KEY, BUCKET, Store},
};
use serde_json::{Value, json};
use sqlx::Executor;
use std::fs;

const NEXT: &str = "nightly-20260822";

/// The cluster is lost: its records are, and the policy that is applied again is another one.
fn lose_cluster(harness: &mut Harness) {
    harness.api.remove(RECORD);
    harness.policy_uid = "new-uid".into();
}

fn slots(found: &Value) -> Vec<String> {
    let archives = found["archives"].as_array().cloned().unwrap_or_default();
    let slot = |archive: &Value| archive["slot"].as_str().unwrap().to_owned();
    archives.iter().map(slot).collect()
}

/// What the operator makes of an archive that was found.
fn recorded(harness: &Harness, archive: &Value, name: &str) {
    harness.api.put(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("{name}-uid")},
        "spec": {"policyRef": {"name": "nightly", "uid": archive["policyUID"]}, "slot": archive["slot"], "scheduledAt": archive["madeAt"]},
        "status": {"phase": "Completed", "upload": archive["upload"]},
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_over_an_old_claim_tells_what_lies_there_and_never_removes_it() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("lost").await.code, Some(0));
    let archive = harness.archive();
    lose_cluster(&mut harness);

    // On the same day its slot is taken: that is said of the slot, and the archive is told.
    harness.put_record(RECORD, "2026-08-21");
    let ended = harness.run("same-day").await;
    assert_eq!(ended.code, Some(31), "{}", ended.log);
    let status = harness.record()["status"].clone();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("SlotTaken"))
    );
    assert_eq!(slots(&status["found"]), ["2026-08-21"]);

    let folder = archive.parent().unwrap().to_owned();
    fs::write(folder.join("20260801.tar.zst"), "no archive").unwrap();
    fs::copy(&archive, folder.join("20260810.tar.zst")).unwrap();
    harness.spec["retention"] = json!({"daily": 1, "weekly": 0, "monthly": 0, "minVerified": 1});
    harness.put_record(NEXT, "2026-08-22");
    harness.minutes += 24 * 60;
    let ended = harness.run("next-day").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let status = harness.api.record(NEXT)["status"].clone();
    let found = &status["found"];
    assert_eq!(slots(found), ["2026-08-21"]);
    let told = &found["archives"][0];
    assert_eq!(told["policyUID"], POLICY_UID);
    assert_eq!(
        (&told["databases"][0]["name"], &told["databases"][0]["tables"]),
        (&json!("orders"), &json!(1))
    );
    let upload = &told["upload"];
    assert_eq!(
        (&upload["state"], &upload["claimName"], &upload["key"]),
        (
            &json!("Completed"),
            &json!("backups"),
            &json!("pg/shop/nightly/20260821.tar.zst")
        )
    );
    assert_eq!(upload["sha256"], sha256(&archive));
    assert_eq!(upload["bytes"], fs::metadata(&archive).unwrap().len());
    let message = found["message"].as_str().unwrap();
    for text in [
        "1 archives lie on the destination without a record, 1 of them stored by another policy",
        "2026-08-10: it is an archive of another slot (2026-08-21)",
        "2026-08-01: ",
    ] {
        assert!(message.contains(text), "`{text}` in `{message}`");
    }

    // Once it has a record it is known, not read again, and neither counted nor removed.
    recorded(&harness, told, "nightly-20260821-found");
    fs::remove_file(folder.join("20260801.tar.zst")).unwrap();
    fs::remove_file(folder.join("20260810.tar.zst")).unwrap();
    harness.put_record("nightly-20260823", "2026-08-23");
    harness.minutes += 24 * 60;
    let ended = harness.run("third-day").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let status = harness.api.record("nightly-20260823")["status"].clone();
    assert_eq!(status["found"], Value::Null, "{status}");
    let retention = &status["retention"];
    assert_eq!(
        (&retention["healthy"], &retention["removed"]),
        (&json!(true), &json!(["2026-08-22"])),
        "{retention}"
    );
    let message = retention["message"].as_str().unwrap();
    assert!(message.contains("1 of other policies are theirs and stay"), "{message}");
    assert_eq!(harness.stored(), ["20260821.tar.zst", "20260823.tar.zst"]);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_policy_has_stored_is_nothing_to_compare_with() {
    let database = Database::new("orders", SMALL).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("lost").await.code, Some(0));
    lose_cluster(&mut harness);
    let mut session = harness.connect(&database.name).await;
    session.execute("TRUNCATE t").await.unwrap();
    harness.put_record(NEXT, "2026-08-22");
    harness.minutes += 24 * 60;
    let ended = harness.run("next-day").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    // Its own is, although another's is newer.
    session
        .execute("INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i")
        .await
        .unwrap();
    harness.put_record("nightly-20260823", "2026-08-23");
    harness.minutes += 24 * 60;
    assert_eq!(harness.run("full").await.code, Some(0));
    session.execute("TRUNCATE t").await.unwrap();
    // As the new policy of a lost cluster finds them: only the archives tell whose they are.
    harness.api.remove("nightly-20260823");
    let uid = std::mem::replace(&mut harness.policy_uid, "newest-uid".into());
    harness.put_record("nightly-20260824", "2026-08-24");
    harness.minutes += 24 * 60;
    assert_eq!(harness.run("of-another").await.code, Some(0));
    harness.api.remove("nightly-20260824");
    harness.policy_uid = uid;
    harness.put_record("nightly-20260825", "2026-08-25");
    harness.minutes += 24 * 60;
    let ended = harness.run("empty").await;
    assert_eq!(ended.code, Some(23), "{}", ended.log);
    let status = harness.api.record("nightly-20260825")["status"].clone();
    assert_eq!(status["reason"], "DumpImplausible", "{status}");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_tell_by_their_labels_without_being_read_newest_first_and_so_many_in_a_run() {
    let store = Store::default();
    let mut harness = Harness::new(&[("orders", "lost_with_the_cluster")]).await;
    harness.spec["destination"] = json!({"s3": {
        "bucket": BUCKET, "endpoint": store.serve().await, "credentialsSecretRef": {"name": "store"},
    }});
    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    harness.s3_secret("credentials", "secretAccessKey", "secret");
    let put = |day: &str, uid: &str, slot: &str| {
        let sum = "ab".repeat(32);
        let labels = [
            ("valerix-policy-uid", uid),
            ("valerix-slot", slot),
            ("valerix-sha256", &sum),
        ];
        store.put(&format!("shop/nightly/{day}.tar.zst"), b"whole", &labels);
    };
    // Of this policy, with a lost record; of a day to come, which nobody has stored for it.
    put("20260820", POLICY_UID, "2026-08-20");
    put("20260930", POLICY_UID, "2026-09-30");
    // Known already; under a name that is not its own; by nobody; of a policy whose UID is none.
    put("20260819", POLICY_UID, "2026-08-19");
    harness.put_record("nightly-20260819", "2026-08-19");
    let mut known = harness.api.record("nightly-20260819");
    known["status"]["upload"]["state"] = "Completed".into();
    harness.api.put(known);
    put("20260818", "lost", "2026-07-18");
    store.put("shop/nightly/20260817.tar.zst", b"whole", &[]);
    put("20260816", &"u".repeat(65), "2026-08-16");
    for day in 0..70 {
        let slot = chrono::NaiveDate::from_ymd_opt(2026, 4, 1).unwrap() + chrono::Days::new(day);
        put(&slot.format("%Y%m%d").to_string(), "lost", &slot.to_string());
    }

    // The databases are lost too: the run fails, and what lies there is told all the same.
    let ended = harness.run("first").await;
    assert_eq!(ended.code, Some(20), "{}", ended.log);
    let found = harness.record()["status"]["found"].clone();
    let told = slots(&found);
    assert_eq!(told.len(), 64);
    assert_eq!(
        (told[0].as_str(), told[1].as_str(), told[63].as_str()),
        ("2026-08-20", "2026-06-09", "2026-04-08")
    );
    let newest = &found["archives"][0];
    assert_eq!(
        (&newest["policyUID"], &newest["upload"]["bucket"]),
        (&json!(POLICY_UID), &json!(BUCKET))
    );
    assert_eq!(
        (&newest["upload"]["bytes"], &newest["upload"]["sha256"]),
        (&json!(5), &json!("ab".repeat(32)))
    );
    let message = found["message"].as_str().unwrap();
    for text in [
        "64 archives lie on the destination without a record, 63 of them stored by another policy",
        "up to 7 older ones are looked at by the next run",
        "2026-08-18: it is an archive of another slot (2026-07-18)",
        "2026-08-17: it does not say which policy has stored it",
        "2026-08-16: what it gives as its policy's UID is none",
    ] {
        assert!(message.contains(text), "`{text}` in `{message}`");
    }
    assert_eq!(store.count(&axum::http::Method::GET), 0, "nothing was read");

    for archive in found["archives"].as_array().unwrap() {
        let day = archive["slot"].as_str().unwrap().replace('-', "");
        let ending = if archive["policyUID"] == POLICY_UID {
            ""
        } else {
            "-found"
        };
        recorded(&harness, archive, &format!("nightly-{day}{ending}"));
    }
    harness.run("second").await;
    let told = slots(&harness.record()["status"]["found"]);
    assert_eq!((told.len(), told[0].as_str()), (7, "2026-04-07"));
}
