//! A database with extensions, of which one brings rows of its own: a dump has only those that were added to them.

use super::{harness::Restoring, server::Installation};
use crate::{
    harness::Harness,
    trial::{trial, verification},
};

const SCRIPT: &str = "CREATE TABLE places (id int PRIMARY KEY, own boolean NOT NULL DEFAULT true);
INSERT INTO places SELECT i, false FROM generate_series(1, 20) i;
SELECT pg_catalog.pg_extension_config_dump('places', 'WHERE own');
";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_extension_brings_rows_comes_back_and_is_restored_on_trial() {
    let installation = Installation::with_extension("atlas", SCRIPT);
    let server = installation.serve().await;
    server.execute("postgres", "CREATE DATABASE geo").await;
    server
        .execute(
            "geo",
            "CREATE EXTENSION atlas; INSERT INTO places VALUES (100);
             CREATE EXTENSION citext; CREATE TABLE t (name citext PRIMARY KEY); INSERT INTO t VALUES ('Ümlaut')",
        )
        .await;
    let mut harness = Harness::new(&[("geo", "geo")]).await;
    harness.server = server.options.clone();
    harness.client_folder = installation.clients().to_str().unwrap().to_owned();
    harness.secret(0, "host", "127.0.0.1");
    harness.secret(0, "port", &server.port.to_string());
    harness.secret(0, "username", "postgres");
    let mut restoring = Restoring::from(harness).await;

    let ended = trial(&restoring.harness, "verifier").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let found = verification(&restoring.harness);
    assert_eq!(found["state"], "Restored", "{found}");

    restoring.make_new(&[("geo", "new")]);
    let ended = restoring.run("pod").await;
    restoring.assert_completed(&ended);
    let rows = "SELECT concat_ws(' ', (SELECT count(*) FROM places), (SELECT count(*) FROM places WHERE own), (SELECT name FROM t))";
    assert_eq!(server.text("new", rows).await, "21 1 Ümlaut");
    let note = restoring.status()["databases"][0]["note"].as_str().unwrap().to_owned();
    assert!(note.ends_with("of this server: public.places"), "{note}");
}
