//! A day and its way back over a store that is not of this test's making, where `TEST_S3_ENDPOINT` names one, as `make unit`
//! does; else over the small one. What it holds beside the bucket is left alone: keys begin with a prefix of this run.
//!
//! `TEST_S3_BUCKET`, `TEST_S3_ACCESS_KEY` and `TEST_S3_SECRET_KEY` say which bucket and who asks.

use crate::{
    harness::{Database, Harness, RECORD, quoted},
    restore::{harness::Restoring, new},
    store::{ACCESS_KEY, BUCKET, Store},
    trial::{trial, verification},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

/// What may be hard to carry; the fingerprint counts it all.
const RICH: &str = r#"
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."t'a""ble" (id serial PRIMARY KEY, note text);
INSERT INTO "Odd schema"."t'a""ble" (note) SELECT md5(i::text) FROM generate_series(1, 20000) i;
SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'));
CREATE EXTENSION citext; CREATE TABLE named (name citext PRIMARY KEY); INSERT INTO named VALUES ('Ümlaut'), ('zwei');
"#;
const FINGERPRINT: &str = r#"SELECT concat_ws('|', count(*), md5(string_agg(id || note, ',' ORDER BY id)),
    (SELECT sum(length(lo_get(oid))) FROM pg_largeobject_metadata),
    (SELECT string_agg(name::text, ',' ORDER BY name) FROM named)) FROM "Odd schema"."t'a""ble""#;

fn given(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| otherwise.into())
}

/// A policy that stores there, under keys of its own.
async fn over_the_store(databases: &[(&str, &str)]) -> Harness {
    let mut harness = Harness::new(databases).await;
    let small = Store::default().serve().await;
    let prefix = format!("test-{}", uuid::Uuid::new_v4().simple());
    harness.spec["destination"] = json!({"s3": {
        "bucket": given("TEST_S3_BUCKET", BUCKET),
        "prefix": prefix,
        "endpoint": given("TEST_S3_ENDPOINT", &small),
        "credentialsSecretRef": {"name": "store"},
    }});
    // What is asked of a store at a desk may take longer than of one in this process.
    harness.variables = vec![("VALERIX_BACKUP_S3_REQUEST_SECONDS", "30".into())];
    harness.s3_secret("credentials", "accessKeyId", &given("TEST_S3_ACCESS_KEY", ACCESS_KEY));
    harness.s3_secret("credentials", "secretAccessKey", &given("TEST_S3_SECRET_KEY", "secret"));
    harness
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_over_a_store_is_put_once_found_again_and_given_back() {
    let database = Database::new("orders", RICH).await;
    let latin = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
    let odd = Database::with("o'd \"d\\b = 1", latin, new::RICH).await;
    let harness = over_the_store(&[("orders", &database.name), ("odd.one", &odd.name)]).await;
    let owner = odd.name.replace("o'd", "o w\"ner");
    let owned = format!(
        "CREATE ROLE {owner}; ALTER TABLE \"größe\" OWNER TO {owner}",
        owner = quoted(&owner)
    );
    harness
        .connect(&odd.name)
        .await
        .execute(AssertSqlSafe(owned))
        .await
        .unwrap();
    let mut restoring = Restoring::from(harness).await;
    let stored = restoring.harness.record()["status"].clone();
    println!("conditional writes: {}", stored["upload"]["conditionalWrites"]);
    assert_eq!(stored["upload"]["conditionalWrites"], "Enforced", "{stored}");

    // A record that was lost is made anew from what lies there: same bytes, no second archive.
    restoring.harness.put_record(RECORD, "2026-08-21");
    let ended = restoring.harness.run("again").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let found = restoring.harness.record()["status"].clone();
    for field in ["key", "sha256", "bytes"] {
        assert_eq!(found["upload"][field], stored["upload"][field], "{found}");
    }

    // Somebody else's archive of the day is never overwritten.
    let own = std::mem::replace(&mut restoring.harness.policy_uid, "another-policy".into());
    restoring.harness.put_record(RECORD, "2026-08-21");
    let ended = restoring.harness.run("other-policy").await;
    assert_eq!(ended.code, Some(31), "{}", ended.log);
    restoring.harness.policy_uid = own;

    let (back, strange) = (restoring.named("back"), restoring.named("n'e \"w\\x = ä"));
    restoring.make_new(&[("orders", &back), ("odd.one", &strange)]);
    let ended = restoring.run("restore").await;
    restoring.assert_completed(&ended);
    let before = restoring.text(&database.name, FINGERPRINT).await;
    assert!(before.starts_with("20000|"), "{before}");
    assert_eq!(restoring.text(&back, FINGERPRINT).await, before);
    let before = restoring.text(&odd.name, new::FINGERPRINT).await;
    assert_eq!(restoring.text(&strange, new::FINGERPRINT).await, before);
    let owns = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'größe'";
    assert_eq!(restoring.text(&strange, owns).await, owner);
    restoring.drop_databases(&restoring.mark).await;
    database.drop().await;
    odd.drop().await;
    restoring
        .execute("postgres", &format!("DROP ROLE {}", quoted(&owner)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_of_one_slot_over_a_store_leave_the_archive_of_one_and_it_can_be_tried() {
    let database = Database::new("orders", RICH).await;
    let harness = over_the_store(&[("orders", &database.name)]).await;
    let pods = ["one", "other"].map(|uid| (uid, harness.pod(uid)));
    for (uid, pod) in pods {
        let ended = harness.ended(pod, uid).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
    // What lies there is what the record says.
    let ended = trial(&harness, "verifier").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let found = verification(&harness);
    assert_eq!(found["state"], "Restored", "{found}");
    database.drop().await;
}
