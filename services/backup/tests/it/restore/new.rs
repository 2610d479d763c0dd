//! Into new databases.

use super::harness::Restoring;
use crate::{
    api::{Moment, Trap},
    damage::rebuilt,
    harness::{Database, Harness, SMALL},
    store::{ACCESS_KEY, BUCKET, Store},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor};
use std::fs;
use valerix_backup::{archive, manifest::Manifest};

pub const RICH: &str = r#"
CREATE TABLE "odd table (x)" (id int GENERATED ALWAYS AS IDENTITY, "we ""ird" text, data bytea);
INSERT INTO "odd table (x)" ("we ""ird", data) SELECT E'line\nbreak\t\\.' || i, decode(md5(i::text), 'hex') FROM generate_series(1, 1000) i;
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO parted SELECT generate_series(0, 99);
CREATE TABLE "größe" (id int); INSERT INTO "größe" VALUES (1), (2);
CREATE TABLE "\xe4" (id int); INSERT INTO "\xe4" VALUES (1);
CREATE TABLE empty_one (id int);
CREATE SCHEMA "o'd"; CREATE TABLE "o'd"."select" (id int); INSERT INTO "o'd"."select" VALUES (1);
CREATE TABLE mother (id int); CREATE TABLE child () INHERITS (mother); INSERT INTO mother VALUES (1); INSERT INTO child VALUES (2), (3);
SELECT lo_from_bytea(0, decode(repeat('00ff', 50000), 'hex'));
"#;

pub const FINGERPRINT: &str = r#"SELECT concat_ws(' ',
    (SELECT md5(string_agg(x::text, ',' ORDER BY id)) FROM "odd table (x)" x),
    (SELECT count(*) FROM parted),
    (SELECT sum(length(lo_get(oid))) FROM pg_largeobject_metadata),
    (SELECT last_value FROM "odd table (x)_id_seq"),
    (SELECT count(*) FROM ONLY mother), (SELECT count(*) FROM child),
    pg_encoding_to_char(encoding), datcollate) FROM pg_database WHERE datname = current_database()"#;

#[tokio::test(flavor = "multi_thread")]
async fn several_databases_come_back_as_they_were_with_their_owners() {
    let plain = Database::new("orders", SMALL).await;
    let odd = Database::with(
        "o'd \"d\\b = 1",
        "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
        RICH,
    )
    .await;
    let mut restoring = Restoring::of(&[("orders", &plain), ("odd.one", &odd)]).await;
    let (owner, reader) = (restoring.named("o w\"ner"), restoring.named("reader"));
    let quoted = crate::harness::quoted;
    restoring
        .execute(
            &plain.name,
            &format!(
                "CREATE ROLE {owner}; CREATE ROLE {reader}; ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO {reader}",
                owner = quoted(&owner),
                reader = quoted(&reader)
            ),
        )
        .await;
    // Backed up with them.
    fs::remove_file(restoring.harness.archive()).unwrap();
    let mark = restoring.mark.clone();
    restoring = Restoring::of(&[("orders", &plain), ("odd.one", &odd)]).await;
    restoring.mark = mark;
    let (new, strange) = (restoring.named("new"), restoring.named("n'e \"w\\x = ä"));
    restoring.make_new(&[("orders", &new), ("odd.one", &strange)]);
    let before = restoring.text(&odd.name, FINGERPRINT).await;
    let ended = restoring.run("pod").await;
    restoring.assert_completed(&ended);
    assert_eq!(restoring.text(&strange, FINGERPRINT).await, before);
    assert_eq!(
        restoring
            .text(&new, "SELECT tableowner || has_table_privilege($$READER$$, 't', 'SELECT') FROM pg_tables WHERE tablename = 't'".replace("READER", &reader).as_str())
            .await,
        format!("{owner}true")
    );
    let status = restoring.status();
    assert_eq!(status["tables"], 1 + 8, "{status}");
    assert_eq!(status["databases"][0]["phase"], "Completed");
    assert_eq!(status["databases"][0]["tables"], 1);
    assert!(
        status["databases"][0]["note"].is_null() && status["databases"][0]["staged"].is_null(),
        "{status}"
    );
    assert_eq!(status["source"]["slot"], "2026-08-21");
    assert!(
        restoring
            .harness
            .api
            .phases()
            .ends_with(&["Fetching", "Checking", "Restoring", "Swapping", "Completed"].map(str::to_owned)),
        "{:?}",
        restoring.harness.api.phases()
    );
    let names: Vec<_> = restoring.databases(&restoring.mark).await.into_keys().collect();
    assert_eq!(names.len(), 2, "nothing is left under another name: {names:?}");

    // Once more: it has ended, and nothing is asked of the server.
    let again = restoring.run("again").await;
    assert_eq!(again.code, Some(0), "{}", again.log);
    assert!(again.log.contains("AlreadyEnded"), "{}", again.log);

    // On a server without these roles it comes back all the same, and says what it lacks.
    plain.drop().await;
    restoring.drop_databases(&new).await;
    for role in [&owner, &reader] {
        restoring
            .execute("postgres", &format!("DROP ROLE {}", quoted(role)))
            .await;
    }
    restoring.make_new(&[("orders", &new)]);
    let ended = restoring.run("third").await;
    restoring.assert_completed(&ended);
    let note = restoring.status()["databases"][0]["note"].as_str().unwrap().to_owned();
    assert!(note.contains(&owner) && note.contains("secret target"), "{note}");
    assert_eq!(restoring.text(&new, "SELECT count(*)::text FROM t").await, "500");
    restoring.drop_databases(&restoring.mark).await;
    odd.drop().await;
}

/// Rewrites the archive with `change`, and with no other roles than those of this test: the server has those of others.
fn rewrite(restoring: &mut Restoring, change: impl FnOnce(&mut Manifest)) {
    let path = restoring.harness.archive();
    let folder = tempfile::tempdir().unwrap();
    let (mut manifest, _) = archive::verify(&path).unwrap();
    tar::Archive::new(zstd::Decoder::new(fs::File::open(&path).unwrap()).unwrap())
        .unpack(folder.path())
        .unwrap();
    for globals in manifest
        .databases
        .iter_mut()
        .filter_map(|member| member.globals.as_mut())
    {
        let script = folder.path().join(&globals.file);
        let text = fs::read_to_string(&script).unwrap();
        let ours = |line: &&str| line.starts_with("--") || line.contains(&restoring.mark);
        fs::write(
            &script,
            text.lines()
                .filter(ours)
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )
        .unwrap();
        let digest = archive::digest(&script).unwrap();
        (globals.sha256, globals.bytes) = (digest.sha256, digest.bytes);
    }
    change(&mut manifest);
    let read = |file: &str| fs::read(folder.path().join(file)).unwrap();
    let mut members: Vec<_> = manifest.files().map(|file| (file.file, read(file.file))).collect();
    members.push(("manifest.json", serde_json::to_vec(&manifest).unwrap()));
    let members: Vec<_> = members
        .iter()
        .map(|(name, content)| (*name, content.as_slice()))
        .collect();
    fs::write(&path, rebuilt(&members)).unwrap();
    restoring.source["sha256"] = json!(archive::digest(&path).unwrap().sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_made_where_they_are_missing_and_taken_away_where_it_fails() {
    const OF: &str = "SELECT concat_ws('|', rolcanlogin, rolconnlimit, rolsuper, rolpassword IS NULL, 
        (SELECT array_to_string(setconfig, '+') FROM pg_db_role_setting WHERE setrole = a.oid AND setdatabase = 0),
        shobj_description(oid, 'pg_authid'), (SELECT string_agg(roleid::regrole::text || admin_option, ',') FROM pg_auth_members WHERE member = a.oid))
        FROM pg_authid a WHERE rolname = $$ROLE$$";
    let database = Database::new("orders", SMALL).await;
    let mark = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let (owner, reader, boss) = (
        format!("o'w\"ner_{mark}"),
        format!("reader_{mark}"),
        format!("boss_{mark}"),
    );
    let quoted = crate::harness::quoted;
    let make = format!(
        "CREATE ROLE {owner} LOGIN PASSWORD 'geheim' CONNECTION LIMIT 7; CREATE ROLE {reader}; CREATE ROLE {boss} SUPERUSER;
         COMMENT ON ROLE {owner} IS 'it''s; \"theirs\"'; ALTER ROLE {owner} SET search_path = \"$user\", public;
         GRANT {reader} TO {owner} WITH ADMIN OPTION; GRANT {boss} TO {reader};
         ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO {reader}",
        owner = quoted(&owner),
        reader = quoted(&reader),
        boss = quoted(&boss),
    );
    let mut session = sqlx::PgConnection::connect_with(&database.options()).await.unwrap();
    session.execute(AssertSqlSafe(make)).await.unwrap();
    session.close().await.unwrap();
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    restoring.mark = mark;
    let archived = fs::read(restoring.harness.archive()).unwrap();
    assert!(
        !zstd::decode_all(archived.as_slice())
            .unwrap()
            .windows(13)
            .any(|window| window == b"SCRAM-SHA-256")
    );
    let of_owner = OF.replace("ROLE", &owner);
    database.drop().await;
    let drop = format!("DROP ROLE {}, {reader}, {boss}", quoted(&owner));
    restoring.execute("postgres", &drop).await;
    let left = format!(
        "SELECT count(*)::text FROM pg_roles WHERE strpos(rolname, '{}') > 0",
        restoring.mark
    );

    // Nothing of a Restore that fails stays, whoever takes it away.
    rewrite(&mut restoring, |manifest| {
        *manifest.databases[0].rows.get_mut("public.t").unwrap() += 1;
    });
    let new = restoring.named("new");
    restoring.make_new(&[("orders", &new)]);
    restoring.spec["roles"] = json!("Create");
    restoring.put();
    let ended = restoring.run("fails").await;
    restoring.assert_failed(&ended, "RestoreDiffers", &["public.t has 500 rows and not 501"]);
    assert_eq!(restoring.text("postgres", &left).await, "0");
    rewrite(&mut restoring, |manifest| {
        *manifest.databases[0].rows.get_mut("public.t").unwrap() -= 1;
    });
    restoring.put();
    let trap = Trap::new("Swapping", Moment::Before);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let mut killed = restoring.pod("killed", &[]);
    trap.bitten.notified().await;
    killed.kill().await.unwrap();
    trap.release.notify_one();
    restoring.harness.api.set_trap(None);
    assert_eq!(
        restoring.text("postgres", &left).await,
        "3",
        "made, and marked as not finished"
    );

    let ended = restoring.run("heir").await;
    restoring.assert_completed(&ended);
    assert_eq!(
        restoring.text("postgres", &of_owner).await,
        format!("t|7|f|t|search_path=\"$user\", public|it's; \"theirs\"|{reader}true")
    );
    assert_eq!(
        restoring
            .text(&new, &format!("SELECT tableowner || has_table_privilege($${reader}$$, 't', 'SELECT') FROM pg_tables WHERE tablename = 't'"))
            .await,
        format!("{owner}true")
    );
    let message = restoring.message();
    for told in [
        "3 roles made without passwords",
        &format!("{boss} is without SUPERUSER"),
        &owner,
    ] {
        assert!(message.contains(told), "{told} in {message}");
    }

    // What is there is left as it is, and an archive without roles cannot give any.
    restoring
        .execute("postgres", &format!("ALTER ROLE {} CONNECTION LIMIT 9", quoted(&owner)))
        .await;
    restoring.drop_databases(&new).await;
    restoring.put();
    let ended = restoring.run("again").await;
    restoring.assert_completed(&ended);
    assert!(restoring.text("postgres", &of_owner).await.starts_with("t|9|"));
    assert!(!restoring.message().contains("roles made"), "{}", restoring.message());
    restoring.drop_databases(&new).await;
    rewrite(&mut restoring, |manifest| manifest.databases[0].globals = None);
    restoring.put();
    let ended = restoring.run("none").await;
    restoring.assert_failed(&ended, "TargetRefused", &["the archive holds none", "roles: Skip"]);
    restoring.execute("postgres", &drop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name_and_nothing_is_left() {
    let database = Database::new("orders", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    let living = restoring.named("living");
    restoring
        .execute("postgres", &format!("CREATE DATABASE \"{living}\""))
        .await;

    restoring.make_new(&[("orders", &living)]);
    let ended = restoring.run("exists").await;
    restoring.assert_failed(&ended, "TargetRefused", &[&living, "databases[].as"]);

    restoring.make_new(&[("stock", &living)]);
    let ended = restoring.run("absent").await;
    restoring.assert_failed(&ended, "TargetRefused", &["holds no stock, but orders"]);

    let new = restoring.named("new");
    restoring.make_new(&[("orders", &new)]);
    restoring.secret(0, "password", "");
    let ended = restoring.run("secret").await;
    restoring.assert_failed(
        &ended,
        "SecretInvalid",
        &["target.connectionSecretRef", "secret target, key password not found"],
    );
    restoring.secret(0, "password", &crate::harness::password());

    let good = restoring.source.clone();
    for (key, value, reason, text) in [
        ("sha256", "0".repeat(64), "ArchiveDamaged", "sha256"),
        ("slot", "2026-08-20".into(), "ArchiveDamaged", "slot"),
        ("policyUid", "another".into(), "ArchiveDamaged", "policy UID"),
        (
            "key",
            "pg/shop/nightly/20260101.tar.zst".into(),
            "ArchiveUnavailable",
            "in its folder lie 20260821.tar.zst",
        ),
    ] {
        restoring.source = good.clone();
        restoring.source[key] = json!(value);
        restoring.put();
        let ended = restoring.run(&format!("wrong-{key}")).await;
        restoring.assert_failed(&ended, reason, &[text]);
    }
    restoring.source = good;
    let names: Vec<_> = restoring.databases(&restoring.mark).await.into_keys().collect();
    assert_eq!(names, [living]);
    restoring.drop_databases(&restoring.mark).await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_does_not_hold_what_its_manifest_says_never_gets_its_name() {
    let database = Database::new("orders", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    rewrite(&mut restoring, |manifest| {
        *manifest.databases[0].rows.get_mut("public.t").unwrap() += 1;
    });
    let new = restoring.named("new");
    restoring.make_new(&[("orders", &new)]);
    let ended = restoring.run("pod").await;
    restoring.assert_failed(&ended, "RestoreDiffers", &["public.t has 500 rows and not 501"]);
    assert!(restoring.databases(&restoring.mark).await.is_empty());
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_databases_is_told_so() {
    let database = Database::new("orders", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    let (role, new) = (restoring.named("weak"), restoring.named("new"));
    let mut admin = restoring.admin().await;
    admin
        .execute(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")))
        .await
        .unwrap();
    restoring.secret(0, "username", &role);
    restoring.secret(0, "password", "x");
    restoring.make_new(&[("orders", &new)]);
    let ended = restoring.run("weak").await;
    restoring.assert_failed(&ended, "TargetRefused", &["secret target", "CREATEDB"]);

    // With it, it restores without being a superuser: what it may not own is its own.
    admin
        .execute(AssertSqlSafe(format!("ALTER ROLE {role} CREATEDB")))
        .await
        .unwrap();
    restoring.put();
    let ended = restoring.run("strong").await;
    restoring.assert_completed(&ended);
    assert_eq!(
        restoring
            .text(&new, "SELECT tableowner::text FROM pg_tables WHERE tablename = 't'")
            .await,
        role
    );
    restoring.drop_databases(&restoring.mark).await;
    admin.execute(AssertSqlSafe(format!("DROP ROLE {role}"))).await.unwrap();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_of_one_day_into_one_name_do_not_take_each_others_databases() {
    let database = Database::new("orders", SMALL).await;
    let mut late = Restoring::of(&[("orders", &database)]).await;
    let mut early = Restoring::of(&[("orders", &database)]).await;
    let new = early.named("new");
    for restoring in [&mut late, &mut early] {
        restoring.make_new(&[("orders", &new)]);
    }
    // Both have found the name free.
    let held = async |restoring: &Restoring, uid, phase, moment| {
        let trap = Trap::new(phase, moment);
        restoring.harness.api.set_trap(Some(trap.clone()));
        let pod = restoring.pod(uid, &[]);
        trap.bitten.notified().await;
        (trap, pod)
    };
    let (late_trap, late_pod) = held(&late, "late", "Restoring", Moment::After).await;
    let (early_trap, early_pod) = held(&early, "early", "Swapping", Moment::Before).await;
    late_trap.release.notify_one();
    let ended = late.harness.ended(late_pod, "late").await;
    late.assert_completed(&ended);
    early_trap.release.notify_one();
    let ended = early.harness.ended(early_pod, "early").await;
    early.assert_failed(&ended, "SwapFailed", &["already exists"]);
    assert_eq!(late.databases(&early.mark).await, [(new.clone(), true)].into());
    assert_eq!(late.text(&new, "SELECT count(*)::text FROM t").await, "500");
    late.drop_databases(&early.mark).await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_hides_rows_from_its_own_owner_is_told_with_the_remedy() {
    const FORCED: &str = "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;";
    let database = Database::new("orders", &format!("{SMALL}{FORCED}")).await;
    let mut restoring = Restoring::of(&[("orders", &database)]).await;
    let (role, new) = (restoring.named("weak"), restoring.named("new"));
    restoring
        .execute("postgres", &format!("CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'x'"))
        .await;
    restoring.secret(0, "username", &role);
    restoring.secret(0, "password", "x");
    restoring.make_new(&[("orders", &new)]);
    let ended = restoring.run("weak").await;
    restoring.assert_failed(&ended, "StatementFailed", &["row-level security", "BYPASSRLS"]);
    assert!(restoring.databases(&restoring.mark).await.is_empty());
    restoring.execute("postgres", &format!("DROP ROLE {role}")).await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_comes_back_from_a_bucket_also_where_nobody_remembers_it() {
    let database = Database::new("orders", SMALL).await;
    let store = Store::default();
    let endpoint = store.serve().await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.spec["destination"] = json!({"s3": {
        "bucket": BUCKET, "prefix": "pg", "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
    }});
    harness.s3_secret("credentials", "accessKeyId", ACCESS_KEY);
    harness.s3_secret("credentials", "secretAccessKey", "secret");
    let mut restoring = Restoring::from(harness).await;
    let new = restoring.named("new");
    restoring.source = json!({"destination": restoring.source["destination"], "key": restoring.source["key"]});
    restoring.make_new(&[("orders", &new)]);
    let ended = restoring.run("pod").await;
    restoring.assert_completed(&ended);
    assert_eq!(restoring.text(&new, "SELECT count(*)::text FROM t").await, "500");
    assert_eq!(
        restoring.status()["source"]["slot"],
        "2026-08-21",
        "its manifest says so"
    );

    let key = restoring.source["key"].as_str().unwrap().to_owned();
    let mut bytes = store.object(&key).unwrap().bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put(&key, &bytes, &[]);
    restoring.drop_databases(&restoring.mark).await;
    restoring.put();
    let ended = restoring.run("damaged").await;
    restoring.assert_failed(&ended, "ArchiveDamaged", &["nothing on the target was touched"]);
    store.remove(&key);
    restoring.put();
    let ended = restoring.run("gone").await;
    restoring.assert_failed(
        &ended,
        "ArchiveUnavailable",
        &[&key, "there is no archive in its folder"],
    );
    // A store that does not tell has not said that nothing lies there.
    restoring.harness.s3_secret("credentials", "accessKeyId", "stranger");
    restoring.put();
    let ended = restoring.run("refused").await;
    restoring.assert_failed(&ended, "ArchiveUnavailable", &[&key, "InvalidAccessKeyId"]);
    assert!(!restoring.message().contains("its folder"), "{}", restoring.message());
    let renewal = ("VALERIX_BACKUP_S3_RENEWAL_SECONDS", "0".into());
    restoring.harness.variables.push(renewal);
    store.expire();
    for (id, why) in [(ACCESS_KEY, "have expired"), ("", "key accessKeyId")] {
        restoring.harness.s3_secret("credentials", "accessKeyId", id);
        restoring.put();
        let ended = restoring.run("secret").await;
        restoring.assert_failed(
            &ended,
            "SecretInvalid",
            &[&key, "destination.s3.credentialsSecretRef", why],
        );
    }
    assert!(restoring.databases(&restoring.mark).await.is_empty());
    database.drop().await;
}
